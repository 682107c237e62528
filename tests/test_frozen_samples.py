"""Samples of every preset, stored before the code was restructured, must stay equal to the last bit.

That holds for single steps, in which every run is recorded. Where steps are taken as one, samples must agree with
them up to rounding.

`python -m tests.test_frozen_samples` stores new samples after a change that is meant to alter them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from e2crf_core import PRESETS, CachePolicy, Sampler, load_checkpoint
from e2crf_core.io.provenance import machine

FROZEN = Path(__file__).parent / "golden" / "samples" / "presets.npz"
CASES = [(data, preset, seed) for data in ("ecg", "wind") for preset in PRESETS for seed in (0, 1)]
MACHINE = f"{torch.__version__} {torch.backends.cpu.get_cpu_capability()} {machine()['processor']}"
"""What decides how a sum is rounded: the libraries take other paths on another maker's processor, too."""
ROUNDING = 1e-5
"""The relative L2 by which samples may differ when steps are taken as one."""


def sampler_of(data: str, preset: str) -> Sampler:
    """Return the sampler of a preset."""
    plan = {"solver": "dpmpp_2m", "grid": "profile", "steps": 40} if preset == "multistep" else {"steps": 60}
    return Sampler(load_checkpoint(data, "cpu"), CachePolicy.preset(preset), **plan)


def single_steps(sampler: Sampler, seed: int) -> np.ndarray:
    """Return two series (2, N, M) in data units, drawn step by step."""
    *_, step = sampler.steps(2, seed)
    return sampler.model.series(step.after.z.numpy())


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread, because the last bit of a sum depends on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("data", "preset", "seed"), CASES)
def test_samples_are_those_that_were_frozen(data, preset, seed):
    with np.load(FROZEN) as frozen:
        expected, stored_on = frozen[f"{data}-{preset}-{seed}"], str(frozen["machine"])
    sampler = sampler_of(data, preset)
    series = single_steps(sampler, seed)
    if sampler.segments() is not None:
        together = sampler.sample(2, seed).series
        assert np.linalg.norm(together - series) < ROUNDING * np.linalg.norm(series)
    if stored_on == MACHINE:
        np.testing.assert_array_equal(series, expected)
    else:
        # Another processor or torch rounds differently; drift events of `paper` may then fall elsewhere.
        scale = expected.std()
        assert np.abs(series - expected).max() < (1e-3 if not preset.startswith("paper") else 0.5) * scale


if __name__ == "__main__":
    torch.set_num_threads(1)
    arrays = {
        f"{data}-{preset}-{seed}": single_steps(sampler_of(data, preset), seed)
        for data, preset, seed in CASES
    }
    np.savez_compressed(FROZEN, machine=np.array(MACHINE), **arrays)
