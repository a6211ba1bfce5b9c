"""What may import what, what no file may do, and that training leaves the world outside alone."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import torch

import moe_sim
from moe_sim import RunConfig, Trainer

PACKAGE = Path(moe_sim.__file__).parent
FILES = sorted(PACKAGE.glob("**/*.py"))
SHIPPED = [*FILES, *sorted((PACKAGE.parent / "pages").glob("**/*.py")), PACKAGE.parent / "app.py"]


def module_name(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in FILES}


def imported_names(file: Path, at_run_time: bool = False) -> set[str]:
    """The dotted names that a file imports, wherever in it; `from a import b` counts as a and a.b."""
    names = set()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    if at_run_time:
        tree.body = [node for node in tree.body if not is_for_type_checkers(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name} imports relatively"
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def is_for_type_checkers(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def own_imports(file: Path) -> set[str]:
    """The modules of `moe_sim` that a file needs to run. What only type checkers read does not count."""
    return {name for name in imported_names(file, at_run_time=True) if name in MODULES and name != "moe_sim"}


def calls_in(file: Path) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]


def called_names(file: Path) -> set[str]:
    """The dotted names of all calls in a file."""
    return {ast.unparse(call.func) for call in calls_in(file)}


def test_the_files_are_found() -> None:
    assert {"moe_sim.config.run_config", "moe_sim.trainer.trainer", "moe_sim.losses"} <= set(MODULES)
    assert own_imports(MODULES["moe_sim.trainer.trainer"]) >= {
        "moe_sim.config.run_config",
        "moe_sim.losses",
        "moe_sim.router.routing",
    }


@pytest.mark.parametrize("module", MODULES)
def test_the_simulation_knows_nothing_of_its_pages(module: str) -> None:
    roots = {name.partition(".")[0] for name in imported_names(MODULES[module])}
    assert not roots & {"streamlit", "pages", "app", "tests"}


def test_no_module_imports_itself_by_a_detour() -> None:
    waiting = {name: own_imports(file) for name, file in MODULES.items() if name != "moe_sim"}
    while waiting:
        free = {name for name, needs in waiting.items() if not needs & set(waiting)}
        assert free, f"a cycle among {sorted(waiting)}"
        waiting = {name: needs for name, needs in waiting.items() if name not in free}


def test_no_module_imports_the_package_that_holds_it() -> None:
    for name, file in MODULES.items():
        taken = {item for item in imported_names(file) if item.startswith("moe_sim.")}
        modules = {item for item in taken if item in MODULES or item.rpartition(".")[0] in MODULES}
        from_package = {item for item in taken if item.rpartition(".")[0] == "moe_sim"} - set(MODULES)
        assert taken == modules, name
        assert not from_package, name


@pytest.mark.parametrize("module", ["capacity", "config", "losses", "metrics", "palette", "selection"])
def test_the_lowest_modules_import_nothing_of_ours(module: str) -> None:
    assert own_imports(MODULES[f"moe_sim.{module}"]) == set()


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.relative_to(PACKAGE.parent).as_posix())
def test_no_file_can_be_talked_into_running_foreign_code(file: Path) -> None:
    # Our own source: Dask and loky pickle what they send to worker processes that they have started themselves.
    roots = {name.partition(".")[0] for name in imported_names(file)}
    assert not roots & {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib", "yaml", "jsonpickle", "runpy"}
    called = called_names(file)
    assert not called & {"eval", "exec", "compile", "__import__", "torch.load", "np.load", "numpy.load", "os.system"}
    assert not {name.rpartition(".")[2] for name in called} & {"read_pickle", "to_pickle", "popen", "load_module"}
    words = {keyword.arg for call in calls_in(file) for keyword in call.keywords}
    assert not words & {"allow_pickle", "shell", "unsafe_allow_html", "unsafe_allow_javascript"}


BROWSER_FILES = [file for ending in ("js", "html", "css") for file in (PACKAGE.parent / "pages").glob(f"**/*.{ending}")]
UNSAFE_IN_A_BROWSER = re.compile(
    r"(inner|outer)HTML|insertAdjacentHTML|dangerouslySet|document\.write|\beval\b|new Function|srcdoc|javascript:|"
    r"set(Timeout|Interval)\(\s*['\"`]|\son\w+\s*=\s*['\"]|createContextualFragment|DOMParser|@import|https?://"
)
"""What makes markup or a program of a text, or fetches one from elsewhere."""


def test_no_script_of_a_page_makes_markup_or_a_program_of_a_text() -> None:
    assert len(BROWSER_FILES) > 10
    for file in BROWSER_FILES:
        assert not UNSAFE_IN_A_BROWSER.findall(file.read_text(encoding="utf-8")), file.name


def test_html_that_is_shown_as_it_is_comes_from_us() -> None:
    calls = {(file.name, ast.unparse(call)) for file in SHIPPED for call in calls_in(file)
             if ast.unparse(call.func).rpartition(".")[2] in ("html", "iframe")}  # fmt: skip
    assert {name for name, _ in calls} == {"frame.py", "glossary.py", "reading.py"}


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.relative_to(PACKAGE.parent).as_posix())
def test_no_file_seeds_the_generators_that_all_share(file: Path) -> None:
    seeding = {"torch.manual_seed", "random.seed", "np.random.seed", "numpy.random.seed", "torch.set_rng_state"}
    assert not called_names(file) & seeding


@pytest.mark.parametrize("task", ["topics", "text"])
def test_training_leaves_the_global_randomness_of_torch_alone(task: str) -> None:
    seed, state = torch.initial_seed(), torch.get_rng_state()
    config = RunConfig(task=task, aux_loss_coef=0.1, top_k=2, capacity_factor=1.0, router_noise="gaussian")
    trainer = Trainer(config)
    trainer.run(3)
    trainer.update(router_noise="jitter")
    trainer.run(3)
    trainer.probe()
    assert torch.initial_seed() == seed
    assert torch.equal(torch.get_rng_state(), state)
