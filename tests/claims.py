"""The documents that state figures, and the results that the figures rest on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
README, DOC, STATISTICS = (ROOT / name for name in ("README.md", "docs/results.md", "docs/statistics.md"))


def stored(name: str) -> Any:
    """Return a results file."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def words(path: Path) -> str:
    """Return a document's words with single spaces, however its lines are broken."""
    return " ".join(path.read_text(encoding="utf-8").split())
