"""Draw the layers of the code from its imports, as the Mermaid diagram in docs/architecture.md.

    python .ci/architecture.py [--write]

Rows are the layers that pyproject.toml declares; an arrow means "imports", and is left out where a longer path of
arrows says the same. Without --write the diagram is compared with the document; exit status 1 means that they differ.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- drawn by .ci/architecture.py -->\n", "<!-- end of the drawing -->"

Edges = dict[str, set[str]]


def layers(container: str) -> list[list[str]]:
    """Return the declared layers inside a package, from top to bottom, each a list of names."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (rows,) = (c["layers"] for c in contracts["contracts"] if c.get("containers") == [container])
    return [[name.strip(" ()") for name in row.split("|")] for row in rows]


def imports(graph: grimp.ImportGraph, container: str, names: set[str]) -> Edges:
    """Return which of the named parts of a package import which others, directly."""
    edges: Edges = {name: set() for name in names}
    parts = {name: {f"{container}.{name}"} | graph.find_descendants(f"{container}.{name}") for name in names}
    owner = {module: name for name, modules in parts.items() for module in modules}
    for name, modules in parts.items():
        for module in modules:
            seen = graph.find_modules_directly_imported_by(module)
            edges[name] |= {owner[other] for other in seen if other in owner} - {name}
    return edges


def reduced(edges: Edges) -> Edges:
    """Return the edges of an acyclic graph that no longer path implies."""

    def reach(name: str) -> set[str]:
        return set().union(*({other} | reach(other) for other in edges[name]))

    return {
        name: {other for other in others if not any(other in reach(via) for via in others - {other})}
        for name, others in edges.items()
    }


def purpose(container: str, name: str) -> str:
    """Return the first line of a part's docstring, without its period."""
    path = ROOT / container.replace(".", "/") / name
    text = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")
    return text.split('"""')[1].splitlines()[0].rstrip(".").replace('"', "'").replace("`", "")


def diagram() -> str:
    """Return the whole drawing as a Mermaid flowchart."""
    graph = grimp.build_graph("e2crf_core", "pages", cache_dir=None)
    rows = [[name for name in row if graph_has(graph, name)] for row in layers("e2crf_core")]
    names = {name for row in rows for name in row}
    lines = ["```mermaid", "flowchart TB", '  app["<b>app.py, pages</b><br/>the lab, on Streamlit"]']
    for number, row in enumerate(rows):
        lines.append(f'  subgraph layer{number:02}[" "]')
        lines += [f'    {name}["<b>{name}</b><br/>{purpose("e2crf_core", name)}"]' for name in row]
        lines.append("  end")
    edges = imports(graph, "e2crf_core", names)
    pages = {"pages"} | graph.find_descendants("pages")
    used = {
        m.split(".")[1]
        for page in pages
        for m in graph.find_modules_directly_imported_by(page)
        if "_core." in m
    }
    edges["app"] = used & names
    for name, others in sorted(reduced(edges).items()):
        lines += [f"  {name} --> {other}" for other in sorted(others)]
    return "\n".join([*lines, "```", ""])


def graph_has(graph: grimp.ImportGraph, name: str) -> bool:
    """Return whether the core has a part of this name."""
    return f"e2crf_core.{name}" in graph.modules


def main() -> int:
    """Compare the document with the code, or write it; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--write", action="store_true", help="put the drawing into the document")
    write = parser.parse_args().write
    sys.path.insert(0, str(ROOT))
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    old, _, after = rest.partition(END)
    new = diagram()
    if old == new:
        return 0
    if write:
        DOCUMENT.write_text(before + BEGIN + new + END + after, encoding="utf-8")
        return 0
    print("docs/architecture.md does not show the imports of the code: run `make architecture`")
    return 1


if __name__ == "__main__":
    sys.exit(main())
