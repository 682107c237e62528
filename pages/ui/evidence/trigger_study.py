"""The trigger study: all triggers and predictors on the same noise, from `benchmarks.trigger_study`."""

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from e2crf_core.caching.triggers import TRIGGERS
from e2crf_core.quality.interval import Interval
from pages.ui.common import library
from pages.ui.evidence.files import QUICK, Stored, read_each

COMMAND = "python -m benchmarks.trigger_study"
PLAIN = "no cache"
WHOLE, BANDS, TOKENS = "everything at once", "band by band", "token by token"
KINDS = (WHOLE, BANDS, TOKENS)
WHOLE_RULES = ("pilot", "closed form", "online")


class StoredRow(Stored):
    """A row of the result file. `sliced_wasserstein` is (value, low, high)."""

    name: str
    family: str
    config: dict[str, Any]
    token_share: float = Field(gt=0)
    flops: float = Field(gt=0)
    seconds: float = Field(gt=0)
    relative_l2: float | None = None
    relative_l2_values: tuple[float, ...] | None = None
    sliced_wasserstein: tuple[float, float, float]


class StoredStudy(Stored):
    """The study of one data set in the result file."""

    dataset: str
    num: int
    repeats: int
    steps: int
    floor: float
    floor_range: tuple[float, float] | None = None
    localization: dict[str, float]
    machine: dict[str, Any]
    rows: tuple[StoredRow, ...]


@dataclass(frozen=True)
class StudySetting:
    """A measured setting. `l2` has one relative L2 for each seed, () for the uncached run."""

    name: str
    family: str
    kind: str
    token_share: float
    flops: float
    seconds: float
    l2: tuple[float, ...]
    quality: tuple[float, float, float]

    @property
    def relative_l2(self) -> float:
        """Mean over seeds; NaN for the uncached run."""
        return float(np.mean(self.l2)) if self.l2 else math.nan


@dataclass(frozen=True)
class TriggerStudy:
    """The study of one data set. `floor` is the distance between real sets."""

    checkpoint: str
    dataset: str
    num: int
    repeats: int
    steps: int
    floor: Interval
    localization: dict[str, float]
    machine: dict[str, Any]
    plain: StudySetting
    settings: tuple[StudySetting, ...]

    @property
    def families(self) -> dict[str, list[StudySetting]]:
        """Settings by trigger and predictor, from little work to much."""
        families: dict[str, list[StudySetting]] = {}
        for setting in self.settings:
            families.setdefault(setting.family, []).append(setting)
        return {name: sorted(settings, key=lambda s: s.token_share) for name, settings in families.items()}


def kind_of(family: str, config: dict[str, Any]) -> str:
    """Return whether events concern all tokens, bands or single tokens, by the name of the rule or trigger."""
    name = str(config.get("rule") or (config.get("policy") or {}).get("trigger") or family)
    if "band" in name:
        return BANDS
    return WHOLE if name in WHOLE_RULES or (name in TRIGGERS and TRIGGERS[name].whole) else TOKENS


def _setting(row: StoredRow) -> StudySetting:
    seeds = row.relative_l2_values
    if seeds is None:
        seeds = () if row.relative_l2 is None else (row.relative_l2,)
    kind = kind_of(row.family, row.config)
    return StudySetting(
        row.name,
        row.family,
        kind,
        row.token_share,
        row.flops,
        row.seconds,
        seeds,
        row.sliced_wasserstein,
    )


def _study(checkpoint: str, stored: StoredStudy) -> TriggerStudy:
    rows = [_setting(row) for row in stored.rows]
    plain = next((row for row in rows if row.name == PLAIN), None)
    if plain is None:
        raise ValueError(f"the row {PLAIN!r} is missing")
    low, high = stored.floor_range or (stored.floor, stored.floor)
    return TriggerStudy(
        checkpoint=checkpoint,
        dataset=stored.dataset,
        num=stored.num,
        repeats=stored.repeats,
        steps=stored.steps,
        floor=Interval(stored.floor, low, high),
        localization=stored.localization,
        machine=stored.machine,
        plain=plain,
        settings=tuple(row for row in rows if row.l2),
    )


@lru_cache(maxsize=8)
def _studies(path: Path, _: library.Stamp) -> dict[str, TriggerStudy]:
    command = COMMAND + (" --quick" if QUICK in path.stem else "")
    return read_each(path, command, StoredStudy, _study)


def read_studies(path: Path) -> dict[str, TriggerStudy]:
    """Read the studies of a file by checkpoint. Raises LabError that names the file."""
    return _studies(path, library.stamp(path))


def study_frame(studies: list[TriggerStudy]) -> pd.DataFrame:
    """Return every setting of some studies, the uncached run first: the table behind the charts."""
    rows = []
    for study in studies:
        for s in (study.plain, *study.settings):
            rows.append(
                {
                    "data set": study.dataset,
                    "setting": s.name,
                    "family": s.family,
                    "events": "" if s is study.plain else s.kind,
                    "tokens %": 100 * s.token_share,
                    "GFLOP per sample": s.flops / 1e9,
                    "seconds": s.seconds,
                    "relative L2": s.relative_l2,
                    "sliced Wasserstein": s.quality[0],
                    "sliced Wasserstein low": s.quality[1],
                    "sliced Wasserstein high": s.quality[2],
                }
            )
    return pd.DataFrame(rows)
