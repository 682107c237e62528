"""The front end of a canvas: markup, styles, and a bundled script, read from `front_dir()`.

Streamlit takes a component's script as one text, and an exported page holds it, so `script` bundles ES modules:
each module becomes a function that returns its exports, in dependency order. Each module keeps its own scope, as
in a browser, so names in different modules cannot clash. The modules use a small part of the language, which the
formatter writes in only one way; anything else is an error when bundling, not in the browser.
"""

import re
from pathlib import Path

from e2crf_core.io.resources import front_dir

FRONT = front_dir()

_IMPORT = re.compile(r'^import \{([^}]*)\} from "(\.{1,2}/[^"]+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:const|let|function|class) ([A-Za-z_$][\w$]*))", re.MULTILINE)
_DEFAULT = re.compile(r"^export default ", re.MULTILINE)
_OTHER = re.compile(r"^(?:import|export)\b.*$|\bimport\(.*$", re.MULTILINE)


class BundleError(Exception):
    """A module that cannot be bundled."""


def markup(name: str) -> str:
    """HTML of a component."""
    return (FRONT / name).read_text(encoding="utf-8")


def styles(*names: str) -> str:
    """CSS of a component: the named files, later ones overriding earlier ones."""
    return "\n".join(markup(name) for name in names)


def script(entry: str, root: Path = FRONT) -> str:
    """One ES module that does what `entry` and all the modules it imports do.

    Only the entry has a default export. Raises `BundleError` for a circle of imports, for a name that a module
    does not export, for a module outside `root`, and for any other form of import or export.
    """
    root = root.resolve()
    parts: list[str] = []
    exports: dict[Path, list[str]] = {}
    _add(root / entry, root, (), parts, exports)
    return "".join(parts)


def _add(
    path: Path, root: Path, above: tuple[Path, ...], parts: list[str], exports: dict[Path, list[str]]
) -> None:
    """Append the module at `path`, after the modules that it imports."""
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
    if path in above:
        circle = [*above[above.index(path) :], path]
        raise BundleError("circular import: " + " -> ".join(p.relative_to(root).as_posix() for p in circle))
    if not path.is_relative_to(root) or not path.is_file():
        raise BundleError(
            f"{above[-1].relative_to(root) if above else 'the entry'}: there is no module {name}"
        )
    text = path.read_text(encoding="utf-8")
    heads: list[str] = []
    for names, target in _IMPORT.findall(text):
        needed = (path.parent / target).resolve()
        if needed not in exports:
            _add(needed, root, (*above, path), parts, exports)
        heads.append(
            f"const {{ {_bindings(names, exports[needed], name, target)} }} = {_variable(needed, root)};\n"
        )
    body = _IMPORT.sub("", text)
    exports[path] = _EXPORT.findall(body)
    body = _EXPORT.sub("", body)
    plain = body if above else _DEFAULT.sub("", body)
    stray = _OTHER.search(plain)
    if stray:
        raise BundleError(f"{name}: cannot bundle {stray.group().strip()!r}")
    code = "".join(heads) + (plain if above else body)
    if above:
        code = f"const {_variable(path, root)} = (() => {{\n{code}return {{ {', '.join(exports[path])} }};\n}})();\n"
    parts.append(f"// {name}\n{code}")


def _bindings(names: str, offered: list[str], importer: str, target: str) -> str:
    """The names between the braces of an import, as a destructuring pattern."""
    pairs = [name.split(" as ") for name in filter(None, (part.strip() for part in names.split(",")))]
    for first, *_ in pairs:
        if first not in offered:
            raise BundleError(f"{importer}: {target} does not export {first!r}")
    return ", ".join(": ".join(pair) for pair in pairs)


def _variable(path: Path, root: Path) -> str:
    """Return a variable name for a module; names inside modules never contain a double underscore."""
    return "__" + re.sub(r"\W", "__", path.relative_to(root).with_suffix("").as_posix())
