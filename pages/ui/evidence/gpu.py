"""The lab on a GPU, as `benchmarks.gpu` measured it."""

from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field

from pages.ui.evidence.files import Stored, read_whole
from pages.ui.evidence.solver_table import Finite
from pages.ui.evidence.ways import spread

GPU_COMMAND = "python -m benchmarks.gpu"
PUBLIC = "public network"


class GpuWay(Stored):
    """Seconds of a run, and how many times as fast as the public network it is."""

    seconds: Finite
    over_public: Finite


class GpuBatch(Stored):
    """The ways at one batch size by name, and why others are missing."""

    batch: int = Field(gt=0)
    rows: dict[str, GpuWay]
    missing: dict[str, str] = Field(default_factory=dict)


class GpuPlan(Stored):
    """What was drawn."""

    steps: int


class Gpu(Stored):
    """The whole file; `samples` holds the relative L2 of the GPU's samples to the CPU's by checkpoint."""

    machine: dict[str, Any]
    plan: GpuPlan
    samples: dict[str, dict[str, float]]
    speed: dict[str, tuple[GpuBatch, ...]] = Field(min_length=1)


def read_gpu(path: Path) -> Gpu:
    """Read a file of the benchmark. Raises LabError that names it."""
    return read_whole(path, GPU_COMMAND, Gpu)


def gpu_frame(batches: tuple[GpuBatch, ...]) -> pd.DataFrame:
    """Return every way at every batch size as a table."""
    return pd.DataFrame(
        {
            "samples": one.batch,
            "way": name,
            "seconds": way.seconds.value,
            "speed": way.over_public.value,
            "speed low": way.over_public.low,
            "speed high": way.over_public.high,
        }
        for one in batches
        for name, way in one.rows.items()
    )


def gpu_sentences(batches: tuple[GpuBatch, ...], steps: int) -> list[str]:
    """Say, for each batch size, which way is fastest."""
    said = []
    for one in batches:
        ways = {name: way for name, way in one.rows.items() if name != PUBLIC}
        if ways:
            name = min(ways, key=lambda each: ways[each].seconds.value)
            said.append(
                f"{one.batch} {'sample' if one.batch == 1 else 'samples'}: {steps} steps in "
                f"{ways[name].seconds.value:.3f} s ({name}), {spread(ways[name].over_public, 3)} times as fast as the "
                "public network."
            )
    return said
