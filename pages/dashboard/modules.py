"""Joins ES modules into one.

Streamlit takes a component's JavaScript as one string, and a host that runs app.py as a plain script serves no files of
ours. So the modules that an entry file imports are joined into a single module, each in a function scope of its own:
`const $store = (() => { …; return { Store }; })();`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

_IMPORT = re.compile(r'^import \{(\s*[\w$]+(?:,\s*[\w$]+)*,?\s*)\} from "\./([\w-]+)\.js";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const) ([\w$]+))", re.MULTILINE)
_COMMENT = re.compile(r"^[ \t]*(?://.*|/\*\*(?:(?!\*/)[\s\S])*\*/)\n", re.MULTILINE)
_OTHER = re.compile(r"^(?:import\b|export (?!default\b)).*$", re.MULTILINE)


@lru_cache
def join_modules(entry: Path) -> str:
    """The module `entry` and all that it imports, as the text of one module. Only the entry may have a default export.

    Raises:
        ValueError: for a circular import, an import or export in another form than `import { a, b } from "./c.js";`
            and `export function|class|const`, or the import of a name that its file does not export.
        FileNotFoundError: for a file that does not exist.
    """
    joined: dict[str, str] = {}
    _add(entry, joined, {}, ())
    return "\n".join(joined.values())


def _add(file: Path, joined: dict[str, str], exports: dict[str, set[str]], importers: tuple[str, ...]) -> None:
    """Add a module to `joined` after its imports, and the names that it exports to `exports`."""
    if file.stem in importers:
        raise ValueError(f"circular import: {' → '.join([*importers, file.stem])}")
    if file.stem in joined:
        return
    text = _COMMENT.sub("", file.read_text(encoding="utf-8"))  # it is sent with every message of the page

    def destructured(match: re.Match[str]) -> str:
        names, stem = re.findall(r"[\w$]+", match[1]), match[2]
        _add(file.with_name(f"{stem}.js"), joined, exports, (*importers, file.stem))
        if missing := set(names) - exports[stem]:
            raise ValueError(f"{file.name} imports {', '.join(sorted(missing))}, which {stem}.js does not export")
        return f"const {{ {', '.join(names)} }} = {_variable(stem)};"

    names = _EXPORT.findall(text)
    body = _EXPORT.sub("", _IMPORT.sub(destructured, text))
    if other := _OTHER.search(body):
        raise ValueError(f"{file.name} has an import or export that is not understood: {other[0]}")
    if not importers:
        joined[file.stem] = body
        return
    if re.search(r"^export default\b", body, re.MULTILINE):
        raise ValueError(f"{file.name} has a default export but is not the entry file")
    exports[file.stem] = set(names)
    joined[file.stem] = f"const {_variable(file.stem)} = (() => {{\n{body}\nreturn {{ {', '.join(names)} }};\n}})();"


def _variable(stem: str) -> str:
    return "$" + stem.replace("-", "_")
