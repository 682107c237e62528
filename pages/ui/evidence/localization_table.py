"""The localization study: nested bands at equal error, as `benchmarks.localization` measured it."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field

from pages.ui.common import library
from pages.ui.evidence.files import Stored, read_each, results_folder

COMMAND = "python -m benchmarks.localization"
DIFFERENCES = "paper_differences_cpu.json"
KINDS = {"data": "In data units", "whitened": "Whitened"}
UNITS = {
    "data": "median error to the converged solution (standard deviations of the data)",
    "whitened": "median error to the converged solution (each frequency's own standard deviation)",
}
METHODS = {
    ("full", "solver"): "solver alone, full attention",
    ("causal", "solver"): "solver alone, causal",
    ("full", "whole"): "whole refreshes, planned",
    ("causal", "nested"): "nested bands",
    ("causal", "detail"): "nested bands, detail 1",
}
"""What a row is called, by network and method."""

Range = tuple[float, float | None, float | None]


class Error(Stored):
    """The errors of a row over samples: median and 90% quantile."""

    median: float = Field(ge=0)
    high: float = Field(ge=0)


class StoredJudgment(Stored):
    """The protocol's judgment of a row: changes with their intervals."""

    primary: tuple[float, float, float]
    spectral: tuple[float, float, float]
    verdict: str


class ShortRow(Stored):
    """A row with few network calls; `cost` counts forwards of all tokens.

    It is judged against the converged solution, from three seeds on.
    """

    network: str
    method: str
    cost: float = Field(ge=0)
    data: Error
    whitened: Error
    judgment: StoredJudgment | None = None

    @property
    def title(self) -> str:
        """What the row's method is called."""
        return METHODS.get((self.network, self.method), f"{self.method}, {self.network}")

    def error(self, kind: str) -> Error:
        """Return the row's error of a kind."""
        return self.data if kind == "data" else self.whitened


class Side(Stored):
    """One side of a comparison at equal error."""

    row: str
    cost: float
    error: float


class Match(Stored):
    """The nested row that is compared, its gain in forwards, and in wall clock by batch size.

    The range of `work` is a bootstrap over samples, open where a side was not reached; that of `wall` is over rounds.
    """

    nested: Side | None
    work: Range | None
    wall: dict[str, Range] = Field(default_factory=dict)


class EqualErrors(Stored):
    """A baseline's cheapest row within a level of error, beside the cheapest nested rows.

    `at_level`: at most the same level; `as_close`: at least as close as the baseline's row really came.
    """

    kind: str
    level: float
    baseline: str
    before: Side | None
    at_level: Match
    as_close: Match


class LongRow(Stored):
    """A row of the paper's sampler."""

    cost: float = Field(ge=0)
    token_share: float | None = None
    data: Error | None = None
    whitened: Error | None = None
    flips: float | None = None
    judgment: StoredJudgment | None = None


class LongRuns(Stored):
    """The paper's sampler on one network, with each row's speed over the uncached run."""

    steps: int
    num: int
    rows: dict[str, LongRow]
    speed: dict[str, Range]


class Localization(Stored):
    """The study of one data set; either part may be missing."""

    machine: dict[str, Any]
    seeds: tuple[int, ...] = ()
    num: int = 0
    rows: dict[str, ShortRow] = Field(default_factory=dict)
    comparisons: tuple[EqualErrors, ...] = ()
    euler: dict[str, LongRuns] = Field(default_factory=dict)


@lru_cache(maxsize=8)
def _read(path: Path, _: library.Stamp) -> dict[str, Localization]:
    return read_each(path, COMMAND, Localization, lambda _, study: study, part="data")


def read_localization(path: Path) -> dict[str, Localization]:
    """Read the study by data set. Raises LabError that names the file."""
    return _read(path, library.stamp(path))


def _ratio(gain: Range | None) -> str:
    if gain is None:
        return "not reached"
    low, high = ("open" if end is None else f"{end:.2f}" for end in gain[1:])
    return f"{gain[0]:.2f}× ({low} to {high})"


def _side(side: Side | None) -> str:
    if side is None:
        return "not reached"
    return f"{side.row.split(': ', 1)[-1]}: {side.cost:.2f} forwards, error {side.error:.3f}"


def comparison_frame(study: Localization, kind: str) -> pd.DataFrame:
    """Return the comparisons of one kind of error, a line each."""
    lines = []
    for entry in study.comparisons:
        if entry.kind != kind:
            continue
        for match, title in ((entry.at_level, "at the level"), (entry.as_close, "as close as the baseline")):
            line = {
                "error": f"at most {entry.level:g}, {title}",
                "against": entry.baseline,
                "its row": _side(entry.before),
                "nested bands": _side(match.nested),
                "gain in network work": _ratio(match.work),
            }
            lines.append(
                line | {f"wall clock, batch {size}": _ratio(gain) for size, gain in match.wall.items()}
            )
    return pd.DataFrame(lines)


def rows_frame(study: Localization) -> pd.DataFrame:
    """Return all rows with few calls, a line each."""
    return pd.DataFrame(
        [
            {
                "row": name,
                "forwards": row.cost,
                "error, data units": row.data.median,
                "error, whitened": row.whitened.median,
            }
            | _judged(row.judgment, "")
            for name, row in study.rows.items()
        ]
    )


def long_frame(runs: LongRuns) -> pd.DataFrame:
    """Return the rows of the paper's sampler, a line each."""
    lines = []
    for name, row in runs.rows.items():
        line = {
            "row": name,
            "forwards": row.cost,
            "speed": _ratio(runs.speed.get(name)) if name in runs.speed else "",
            "error to the twin, data units": None if row.data is None else row.data.median,
            "error to the twin, whitened": None if row.whitened is None else row.whitened.median,
            "flips %": None if row.flips is None else 100 * row.flips,
        }
        lines.append(line | _judged(row.judgment, "reference"))
    return pd.DataFrame(lines)


def _judged(judged: StoredJudgment | None, missing: str) -> dict[str, str]:
    return {
        "marginal Wasserstein": missing if judged is None else _change(judged.primary, 100, "%"),
        "log-spectral distance": "" if judged is None else _change(judged.spectral, 1, " dB"),
        "verdict": "" if judged is None else judged.verdict,
    }


def _change(values: tuple[float, float, float], scale: float, unit: str) -> str:
    value, low, high = (scale * x for x in values)
    return f"{value:+.2f}{unit} ({low:+.2f} to {high:+.2f})"


class _Interval(Stored):
    value: float
    low: float
    high: float


class _Difference(Stored):
    token_share: float
    relative_l2: _Interval


class _Differences(Stored):
    rows: dict[str, _Difference]


def differences_frame() -> pd.DataFrame | None:
    """Return what each difference between `paper` and the published text does; None if it was not measured.

    Raises LabError for a damaged file.
    """
    path = results_folder() / DIFFERENCES
    if not path.is_file():
        return None
    command = "python -m benchmarks.paper_differences"
    studies = read_each(path, command, _Differences, lambda _, study: study, part="data")
    return pd.DataFrame(
        [
            {
                "data set": data,
                "row": name,
                "tokens %": 100 * row.token_share,
                "relative L2": row.relative_l2.value,
                "relative L2 low": row.relative_l2.low,
                "relative L2 high": row.relative_l2.high,
            }
            for data, study in studies.items()
            for name, row in study.rows.items()
        ]
    )
