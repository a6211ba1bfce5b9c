"""What may import what, what no file may do, and that training leaves the world outside alone."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

import moe_sim
from moe_sim import RunConfig, Trainer

ROOT = Path(moe_sim.__file__).parents[1]
LEVELS = (
    {"batched", "losses", "metrics", "logs", "version", "config", "processes"},
    {"router", "tasks"},
    {"history"},
    {"trainer", "diagnosis", "tracing"},
    {"live", "sweep", "teaching"},
    {"charts"},
    {"server", "cli"},
)
"""What `moe_sim` is made of, the lowest level first. Imports go down: neither up nor to an equal."""
PAGE_LEVELS = (
    {"text"},
    {"visitor"},
    {"sidebar", "dashboard", "sweeps", "traces"},
    {"live", "compare", "sweep", "your_model", "learn", "museum", "anatomy", "quiz", "glossary"},
    {"frame"},
)
"""The same for `pages`: folders, the files that Streamlit opens, and the frame around them."""
OUTSIDE = {"moe_sim", "moe_sim.__main__"}
"""Hand on public names, or start the command line."""


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def files_in(folder: str, ending: str) -> list[Path]:
    """Our own files, without the packages that check the scripts."""
    return sorted(file for file in (ROOT / folder).rglob(f"*.{ending}") if "node_modules" not in file.parts)


SIMULATION = {module_name(file): file for file in files_in("moe_sim", "py")}
PAGES = {module_name(file): file for file in files_in("pages", "py")}
MODULES = SIMULATION | PAGES
SHIPPED = [*MODULES.values(), ROOT / "app.py"]
PACKAGES = {name for name, file in MODULES.items() if file.name == "__init__.py"}


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
    """The project's modules that a file needs to run. What only type checkers read does not count."""
    return {name for name in imported_names(file, at_run_time=True) if name in MODULES} - PACKAGES


def calls_in(file: Path) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]


def called_names(file: Path) -> set[str]:
    """The dotted names of all calls in a file."""
    return {ast.unparse(call.func) for call in calls_in(file)}


def level(module: str) -> tuple[int, int]:
    """Where a module stands: pages are above the simulation.

    Raises:
        StopIteration: if its package is in neither table.
    """
    root, part = module.split(".")[:2]
    levels = LEVELS if root == "moe_sim" else PAGE_LEVELS
    return (0, 1)[root == "pages"], next(number for number, parts in enumerate(levels) if part in parts)


def wrong_imports(imports: dict[str, set[str]]) -> list[str]:
    """Those that do not go down, as words. Within a package everything may import everything, but not in a circle."""
    return [
        f"{name} imports {other}"
        for name, others in imports.items()
        for other in others
        if name.split(".")[:2] != other.split(".")[:2] and level(other) >= level(name)
    ]


def modules_in_circles(imports: dict[str, set[str]]) -> set[str]:
    waiting = dict(imports)
    while free := [name for name, others in waiting.items() if not others & set(waiting)]:
        for name in free:
            del waiting[name]
    return set(waiting)


IMPORTS = {name: own_imports(file) for name, file in MODULES.items() if name not in OUTSIDE | PACKAGES}


def test_the_files_are_found() -> None:
    assert IMPORTS["moe_sim.trainer.trainer"] >= {"moe_sim.config.run_config", "moe_sim.tasks.task"}
    assert IMPORTS["pages.visitor.session"] >= {"moe_sim.live.live_run", "pages.visitor.address"}


def test_the_tables_name_what_there_is() -> None:
    for root, levels in (("moe_sim", LEVELS), ("pages", PAGE_LEVELS)):
        there = {name.split(".")[1] for name in MODULES if name.startswith(f"{root}.")} - {"__main__"}
        assert there == set().union(*levels)


DRAWING = {"moe_sim.history.history", "moe_sim.history.trace", "moe_sim.trainer.trainer"}
"""What can be drawn asks the package for `plot`, which stands above it, when it is asked to draw."""


def names_taken_from_the_package(file: Path) -> set[str]:
    """The names that a file has from `moe_sim` itself, which are no modules: by `import moe_sim`, or by name."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    whole = [node for node in ast.walk(tree) if isinstance(node, ast.Import) and node.names[0].name == "moe_sim"]
    by_name = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "moe_sim"]
    names = {ast.unparse(node) for node in ast.walk(tree) if whole and isinstance(node, ast.Attribute)}
    names |= {f"moe_sim.{alias.name}" for node in by_name for alias in node.names}
    return {name for name in names if name.startswith("moe_sim.")} - set(MODULES)


@pytest.mark.parametrize("module", sorted(set(SIMULATION) - OUTSIDE))
def test_what_hands_on_names_is_no_way_up(module: str) -> None:
    allowed = {"moe_sim.plot"} if module in DRAWING else set()
    assert names_taken_from_the_package(MODULES[module]) == allowed
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    assert "moe_sim" not in {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}


def test_imports_go_down() -> None:
    assert wrong_imports(IMPORTS) == []


def test_no_module_imports_itself_by_a_detour() -> None:
    assert modules_in_circles(IMPORTS) == set()


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("moe_sim.trainer.trainer", "moe_sim.charts.scene"),
        ("moe_sim.trainer.trainer", "moe_sim.diagnosis.verdict"),
        ("moe_sim.cli.run", "pages.visitor.view"),
        ("pages.text.notices", "pages.sidebar.sharing"),
    ],
)
def test_an_import_that_goes_up_is_found(name: str, other: str) -> None:
    assert wrong_imports(IMPORTS | {name: {other}}) == [f"{name} imports {other}"]


def test_a_circle_is_found() -> None:
    one, other = "moe_sim.router.capacity", "moe_sim.router.selection"
    assert {one, other} <= modules_in_circles(IMPORTS | {one: {other}, other: {one}})


@pytest.mark.parametrize("module", SIMULATION)
def test_the_simulation_knows_nothing_of_its_pages(module: str) -> None:
    roots = {name.partition(".")[0] for name in imported_names(MODULES[module])}
    assert not roots & {"streamlit", "pages", "app", "tests"}


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_a_name_is_imported_from_the_file_that_defines_it(file: Path) -> None:
    if file.name == "__init__.py":
        return
    for name in imported_names(file):
        package = name.rpartition(".")[0]
        assert package not in PACKAGES or name in MODULES, f"{file.name} takes {name} from a package"


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_a_package_only_hands_on_names(package: str) -> None:
    body = ast.parse(MODULES[package].read_text(encoding="utf-8")).body
    assert ast.get_docstring(ast.Module(body, []))
    kinds = {named(node) or type(node).__name__ for node in body if not is_for_type_checkers(node)}
    when_used = {"_MODULES", "_PACKAGES", "__getattr__", "__dir__"} if package == "moe_sim" else set()
    assert kinds <= {"Expr", "ImportFrom", "__all__"} | when_used


def named(node: ast.stmt) -> str | None:
    """What a statement defines."""
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0])
    return node.name if isinstance(node, ast.FunctionDef) else None


def test_what_type_checkers_see_is_what_is_handed_on() -> None:
    tree = ast.parse(MODULES["moe_sim"].read_text(encoding="utf-8"))
    imports = next(node for node in tree.body if is_for_type_checkers(node)).body
    seen = {(alias.name, f"{node.module}") for node in imports for alias in node.names}
    assert seen == {(name, f"moe_sim.{module}") for name, module in moe_sim._MODULES.items()}
    assert {name for name, _ in seen} | {"__version__"} == set(moe_sim.__all__)


@pytest.mark.parametrize(
    ("program", "heavy"),
    [
        ("import moe_sim; assert 'Trainer' in dir(moe_sim)", ("torch", "pandas", "plotly")),
        ("import moe_sim.config.knobs, moe_sim.metrics", ("torch", "pandas", "plotly")),
        ("import app", ("torch", "pandas")),
        ("from tests.support.apps import opened; opened(groups_open=False)", ("pandas",)),
    ],
)  # fmt: skip
def test_nobody_waits_for_what_is_not_needed_yet(program: str, heavy: tuple[str, ...]) -> None:
    """Torch takes more than a second to load, pandas as much. Neither may delay the first page."""
    if program == "import app":  # which begins to load torch in a thread: look before that
        program = (
            "import moe_sim.server.starting as s; s.Starting = lambda *_: s; s.server = s.endpoint = id; import app"
        )
    check = f"{program}\nimport sys; loaded = {{*{heavy!r}}} & {{*sys.modules}}; assert not loaded, loaded"
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True, timeout=120)


def test_an_unknown_name_of_the_package_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'Trainr'; did you mean Trainer\?$"):
        _ = moe_sim.Trainr
    with pytest.raises(AttributeError, match=r"no attribute 'xyzzy'$"):
        _ = moe_sim.xyzzy
    assert not hasattr(moe_sim, "__wrapped__")


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("moe_sim", "KNOBS PRESETS Event History Preset Probe RunConfig StepRecord Trainer __version__ plot"),
        ("moe_sim.history", "COLUMN_MEANINGS"),
        ("moe_sim.config", "RunConfig knob MAIN BALANCING CAPACITY NOISE TASK OPTIMIZER"),
        ("moe_sim.losses", "load_balancing_loss importance_loss load_loss router_z_loss Convention"),
        ("moe_sim.metrics", "imbalance_ratio one_token max_violation coefficient_of_variation normalized_entropy "
         "dead_experts parallel_efficiency normalized_mutual_information SMOOTHING_HORIZON"),
        ("moe_sim.router", "Routing Select expert_capacity route top_k_of_logits"),
        ("moe_sim.trainer", "Trainer LARGEST_LOSS EVALUATION_TOKENS Probe TASKS make_task live_changes"),
    ],
)  # fmt: skip
def test_published_names_stay(module: str, names: str) -> None:
    for name in names.split():
        assert hasattr(import_module(module), name)


LOADERS = {
    "moe_sim/tracing/importing/sglang.py": "torch.load",
    "moe_sim/tracing/importing/vllm.py": "np.load",
}
"""Files that read other tools' arrays: with `weights_only`, and without pickles, which is NumPy's default."""


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_no_file_can_be_talked_into_running_foreign_code(file: Path) -> None:
    # Our own source: Dask and loky pickle what they send to worker processes that they have started themselves.
    roots = {name.partition(".")[0] for name in imported_names(file)}
    assert not roots & {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib", "yaml", "jsonpickle", "runpy"}
    called = called_names(file)
    assert not called & {"eval", "exec", "compile", "__import__", "os.system"}
    assert not called & {"torch.load", "np.load", "numpy.load"} - {LOADERS.get(file.relative_to(ROOT).as_posix())}
    loads = [call for call in calls_in(file) if ast.unparse(call.func) == "torch.load"]
    assert all("weights_only=True" in ast.unparse(call) for call in loads)
    assert not {name.rpartition(".")[2] for name in called} & {"read_pickle", "to_pickle", "popen", "load_module"}
    words = {keyword.arg for call in calls_in(file) for keyword in call.keywords}
    assert not words & {"allow_pickle", "shell", "unsafe_allow_html", "unsafe_allow_javascript"}


BROWSER_FILES = [file for ending in ("js", "html", "css") for file in files_in("pages", ending)]
UNSAFE_IN_A_BROWSER = re.compile(
    r"(inner|outer)HTML|insertAdjacentHTML|dangerouslySet|document\.write|\beval\b|new Function|srcdoc|javascript:|"
    r"set(Timeout|Interval)\(\s*['\"`]|\son\w+\s*=\s*['\"]|createContextualFragment|DOMParser|@import(?! \{ )|"
    r"https?://(?!www\.w3\.org/2000/svg\")"
)
"""What makes markup or a program of a text, or fetches one from elsewhere. `@import { … }` names types in a comment;
the address of SVG is its name."""


def test_no_script_of_a_page_makes_markup_or_a_program_of_a_text() -> None:
    assert len(BROWSER_FILES) > 10
    for file in BROWSER_FILES:
        assert not UNSAFE_IN_A_BROWSER.findall(file.read_text(encoding="utf-8")), file.name


def test_html_that_is_shown_as_it_is_comes_from_us() -> None:
    calls = {(file.name, ast.unparse(call)) for file in SHIPPED for call in calls_in(file)
             if ast.unparse(call.func).rpartition(".")[2] in ("html", "iframe")}  # fmt: skip
    assert {name for name, _ in calls} == {"frame.py", "glossary.py", "prose.py", "sharing.py"}


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.relative_to(ROOT).as_posix())
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
