"""Small studies of a small model, and points that are made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from e2crf_core.caching.policy import CachePolicy
from e2crf_core.data.datasets import Dataset
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.tuning.measure import Point, Rung, StudySpec
from e2crf_core.tuning.space import (
    SearchSpace,
)
from e2crf_core.tuning.study import Study
from tests.conftest import make_model

MODEL = make_model()
SPEC = StudySpec(num=8, batch=2, directions=16, resamples=20)
SPACE = SearchSpace(MODEL.n, steps=(10, 30))


def toy(windows: int = 40) -> Dataset:
    rng = np.random.default_rng(0)
    split = np.zeros(windows, np.uint8)
    split[::3] = 1
    return Dataset(
        name="toy",
        title="toy",
        domain="test",
        x=rng.standard_normal((windows, 24, 2)).cumsum(1).astype(np.float32),
        channels=("c0", "c1"),
        units=("", ""),
        group=np.array(["g"] * windows),
        start=24 * np.arange(windows),
        split=split,
        license="",
        source="",
    )


def study(out: Path, **options: Any) -> Study:
    given = {"spec": SPEC, "space": SPACE, "minutes": 10, "reference_steps": 30} | options
    return Study(MODEL, toy(), out, **given)


def rung(cost: float, quality: float, *, spread: float = 0.0, num: int = 8, share: float = 0.2) -> Rung:
    replicates = tuple(quality + spread * x for x in np.linspace(-1, 1, 20))
    return Rung(
        num, cost, cost, cost, cost, share, share, quality, quality - spread, quality + spread, replicates
    )


def point(
    number: int, cost: float, quality: float, policy: CachePolicy | None = None, **options: Any
) -> Point:
    setting = SamplerConfig(policy, 20, "dpmpp_2m", "log_snr")
    return Point(number, "search", setting, (rung(cost, quality, **options),), True)
