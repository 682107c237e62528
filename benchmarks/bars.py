"""Reports of page benchmarks: figures, the bars they are held to, and where they come from."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.origin import provenance_of
from e2crf_core.io.json_files import write_json
from e2crf_core.io.provenance import machine

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Bar:
    """A limit that a measured value is held to: `least` or `most`, both inclusive."""

    name: str
    value: float
    least: float | None = None
    most: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the value is within its limit."""
        return (self.least is None or self.value >= self.least) and (
            self.most is None or self.value <= self.most
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, the limit that applies alone."""
        limit = {"least": self.least, "most": self.most}
        kept = {name: value for name, value in limit.items() if value is not None}
        return {"bar": self.name, "value": self.value, **kept, "holds": self.holds}


def report(
    figures: dict[str, Any],
    bars: Sequence[Bar],
    *,
    checkpoints: Sequence[str],
    batch: int,
    browser: str,
    out: Path | None,
) -> int:
    """Print the report as JSON and write it to `out`; return 1 if a bar does not hold, else 0."""
    stored = {
        "provenance": provenance_of(checkpoints, [0], batch),
        "machine": {**machine(), "browser": browser},
        "load": list(os.getloadavg()),
        "bars": [bar.to_json() for bar in bars],
        "figures": figures,
    }
    print(json.dumps(stored, indent=1))
    if out is not None:
        write_json(out, stored)
    return 0 if all(bar.holds for bar in bars) else 1
