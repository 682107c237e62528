"""The trigger study: all triggers and predictors on the same noise, from `benchmarks.trigger_study`."""

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

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
DISTANCE = "marginal Wasserstein"
NESTED = "nested"
WHOLE_RULES = ("pilot", "closed form", "online")


class StoredRow(Stored):
    """A row of the result file. `distance` is (value, low, high) of the protocol's primary distance."""

    name: str
    family: str
    config: dict[str, Any]
    token_share: float = Field(gt=0)
    flops: float = Field(gt=0)
    relative_l2: float | None = None
    relative_l2_values: tuple[float, ...] | None = None
    distance: tuple[float, float, float]
    verdict: Literal["as good", "worse", "undecided"] | None = None


class StoredStudy(Stored):
    """The study of one network in the result file. `floor` is (value, low, high)."""

    dataset: str
    causal: bool
    num: int
    repeats: int
    steps: int
    floor: tuple[float, float, float]
    localization: dict[str, float]
    machine: dict[str, Any]
    rows: tuple[StoredRow, ...]


@dataclass(frozen=True)
class StudySetting:
    """A measured setting. `l2` has one relative L2 for each seed, () for the uncached run, `verdict` is against it."""

    name: str
    family: str
    kind: str
    token_share: float
    flops: float
    l2: tuple[float, ...]
    distance: Interval
    verdict: str | None

    @property
    def relative_l2(self) -> float:
        """Mean over seeds; NaN for the uncached run."""
        return float(np.mean(self.l2)) if self.l2 else math.nan


@dataclass(frozen=True)
class TriggerStudy:
    """The study of one network. `floor` is the primary distance between real sets."""

    checkpoint: str
    dataset: str
    causal: bool
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


def kind_of(family: str, config: dict[str, Any], causal: bool = False) -> str:
    """Return whether events concern all tokens, bands or single tokens, by the name of the rule or trigger.

    Nested plans refresh band by band on a spectrally causal network, and everything at once with full attention.
    """
    name = str(config.get("rule") or (config.get("policy") or {}).get("trigger") or family)
    if "band" in name or (name == NESTED and causal):
        return BANDS
    return (
        WHOLE
        if name == NESTED or name in WHOLE_RULES or (name in TRIGGERS and TRIGGERS[name].whole)
        else TOKENS
    )


def _setting(row: StoredRow, causal: bool) -> StudySetting:
    seeds = row.relative_l2_values
    if seeds is None:
        seeds = () if row.relative_l2 is None else (row.relative_l2,)
    kind = kind_of(row.family, row.config, causal)
    return StudySetting(
        row.name,
        row.family,
        kind,
        row.token_share,
        row.flops,
        seeds,
        Interval(*row.distance),
        row.verdict,
    )


def _study(checkpoint: str, stored: StoredStudy) -> TriggerStudy:
    rows = [_setting(row, stored.causal) for row in stored.rows]
    plain = next((row for row in rows if row.name == PLAIN), None)
    if plain is None:
        raise ValueError(f"the row {PLAIN!r} is missing")
    return TriggerStudy(
        checkpoint=checkpoint,
        dataset=stored.dataset,
        causal=stored.causal,
        num=stored.num,
        repeats=stored.repeats,
        steps=stored.steps,
        floor=Interval(*stored.floor),
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
                    "checkpoint": study.checkpoint,
                    "data set": study.dataset,
                    "setting": s.name,
                    "family": s.family,
                    "events": "" if s is study.plain else s.kind,
                    "tokens %": 100 * s.token_share,
                    "GFLOP per sample": s.flops / 1e9,
                    "relative L2": s.relative_l2,
                    DISTANCE: s.distance.value,
                    f"{DISTANCE} low": s.distance.low,
                    f"{DISTANCE} high": s.distance.high,
                    "against no cache": s.verdict or "",
                }
            )
    return pd.DataFrame(rows)
