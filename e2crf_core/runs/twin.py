"""Keep uncached twins: the run of the same noise, solver, and plan without a cache, computed once.

A twin depends on nothing that a cache policy can change, so every policy tried on one noise shares it. Its name is
a digest of all that it does depend on, weights included; a twin of other weights can never be used by mistake.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.io.arrays import read_npz
from e2crf_core.io.files import replace_file
from e2crf_core.io.userfiles import user_dir
from e2crf_core.progress import Cancel, Progress, never, silent
from e2crf_core.quality.distances import relative_l2_per_sample
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.sampler import Sampler, check_request, warm_up

VERSION = 2
"""Increased whenever twins of older versions must be computed again."""
MEMORY_BYTES = 1 << 26
DISK_BYTES = 1 << 28
SOON = 1000
"""Steps times samples of twins that are quick enough to be waited for, about a second."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Twin:
    """The uncached run of `num` samples on the noise of one seed.

    `series` (num, N, M) are the finished samples, and `path` (steps, N, M) the first sample's denoised
    estimate at each step, both in data units. `seconds` is the compute time when it ran, after a warm-up step.
    """

    series: np.ndarray
    path: np.ndarray
    seconds: float

    @property
    def nbytes(self) -> int:
        """Return the memory it takes."""
        return self.series.nbytes + self.path.nbytes


def twin_key(model: ScoreModel, config: SamplerConfig, num: int, seed: int) -> str:
    """Return the name of a twin: a digest of weights, statistics, schedule, plan, samples, and noise."""
    stated = (
        VERSION,
        torch.__version__,
        model.digest(),
        model.mean.tobytes(),
        model.std.tobytes(),
        model.schedule,
        str(model.dtype),
        model.device.type,
        config.plan,
        num,
        seed,
        *(() if config.noise == SamplerConfig.noise else (config.noise,)),
    )
    return hashlib.sha256(repr(stated).encode()).hexdigest()[:32]


def compute_twin(
    model: ScoreModel,
    config: SamplerConfig,
    num: int,
    seed: int,
    *,
    progress: Progress = silent,
    cancelled: Cancel = never,
) -> Twin:
    """Run the twin of a configuration. Raises LabError for a bad request, Cancelled when cancelled."""
    check_request(num, seed)
    sampler = Sampler.of(model, config.twin)
    warm_up(sampler, num, seed)
    path, seconds = [], 0.0
    for step in sampler.steps(num, seed, cancelled=cancelled, timed=True):
        path.append(step.info.denoised[0].cpu().numpy())
        seconds += step.seconds
        progress(step.after.step, sampler.plan.steps)
    return Twin(model.series(step.after.z.cpu().numpy()), model.series(np.stack(path)), seconds)


class TwinStore:
    """Twins in memory and in a folder, each within a budget: the ones used longest ago go first.

    Safe to call from any thread. A folder that cannot be written costs time, not the twin.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        memory_bytes: int = MEMORY_BYTES,
        disk_bytes: int = DISK_BYTES,
    ) -> None:
        self._folder = folder
        self._memory_bytes, self._disk_bytes = memory_bytes, disk_bytes
        self._known: OrderedDict[str, Twin] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def folder(self) -> Path:
        """Return the folder of twins: by default in the user's own."""
        return self._folder or user_dir() / "twins"

    def find(self, model: ScoreModel, config: SamplerConfig, num: int, seed: int) -> Twin | None:
        """Return the twin if it is kept, else None."""
        return self._find(twin_key(model, config, num, seed), model, config, num)

    def twin(
        self,
        model: ScoreModel,
        config: SamplerConfig,
        num: int,
        seed: int,
        *,
        progress: Progress = silent,
        cancelled: Cancel = never,
    ) -> Twin:
        """Return the twin; if it is not kept, compute and keep it (see `compute_twin`)."""
        key = twin_key(model, config, num, seed)
        twin = self._find(key, model, config, num)
        if twin is None:
            twin = compute_twin(model, config, num, seed, progress=progress, cancelled=cancelled)
            self._keep(key, twin)
        return twin

    def soon(
        self,
        model: ScoreModel,
        config: SamplerConfig,
        num: int,
        seed: int,
        *,
        compute: bool = True,
        cancelled: Cancel = never,
    ) -> Twin | None:
        """Return the twin if it is kept or, with `compute`, takes at most SOON steps of a sample; else None.

        A twin that cannot be computed is None too: the run itself meets the same fault, and reports it.
        """
        if compute and config.steps * num <= SOON:
            with suppress(LabError):
                return self.twin(model, config, num, seed, cancelled=cancelled)
        return self.find(model, config, num, seed)

    def keep(self, model: ScoreModel, config: SamplerConfig, seed: int, twin: Twin) -> None:
        """Keep a twin that was computed elsewhere."""
        self._keep(twin_key(model, config, len(twin.series), seed), twin)

    def _keep(self, key: str, twin: Twin) -> None:
        self._remember(key, twin)
        try:
            replace_file(self.folder / f"{key}.npz", lambda path: _write(twin, path))
            self._trim()
        except OSError as fault:
            _log.warning("a twin was not kept: %s", fault)

    def _find(self, key: str, model: ScoreModel, config: SamplerConfig, num: int) -> Twin | None:
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        path = self.folder / f"{key}.npz"
        if not path.is_file():
            return None
        shape = (model.length, len(model.channels))
        try:
            twin = _read(path, (num, *shape), (config.steps, *shape), self._memory_bytes)
            path.touch()
        except (LabError, OSError) as fault:
            _log.warning("a kept twin is damaged and is computed again: %s", fault)
            return None
        self._remember(key, twin)
        return twin

    def _remember(self, key: str, twin: Twin) -> None:
        with self._lock:
            self._known[key] = twin
            self._known.move_to_end(key)
            while len(self._known) > 1 and sum(t.nbytes for t in self._known.values()) > self._memory_bytes:
                self._known.popitem(last=False)

    def _trim(self) -> None:
        """Delete the files used longest ago until the rest fits the budget."""
        kept = [(path.stat(), path) for path in self.folder.glob("*.npz")]
        total = sum(status.st_size for status, _ in kept)
        for status, path in sorted(kept, key=lambda entry: entry[0].st_mtime):
            if total <= self._disk_bytes:
                return
            path.unlink(missing_ok=True)
            total -= status.st_size


def _write(twin: Twin, path: Path) -> None:
    with path.open("wb") as stream:
        np.savez(stream, series=twin.series, path=twin.path, seconds=twin.seconds)


def _read(path: Path, series: tuple[int, ...], states: tuple[int, ...], limit: int) -> Twin:
    """Read a kept twin of known shapes. Raises LabError for any other content."""
    stored = read_npz(path, limit=limit)
    try:
        twin = Twin(stored["series"], stored["path"], float(stored["seconds"]))
    except (KeyError, TypeError, ValueError):
        raise LabError(f"{path.name} holds no twin") from None
    arrays = ((twin.series, series), (twin.path, states))
    if not all(a.shape == s and a.dtype == np.float32 and np.isfinite(a).all() for a, s in arrays):
        raise LabError(f"{path.name} holds another twin than its name says")
    return twin


def step_errors(model: ScoreModel, estimates: np.ndarray, path: np.ndarray) -> np.ndarray:
    """Return (k,) relative L2 of denoised estimates (k, N, M) to the twin's (k, N, M), both in data units.

    The last step's estimate is the finished sample, so the last value is the sample's error to its twin.
    """
    return relative_l2_per_sample(
        *((x.astype(np.float64) - model.mean) / model.std for x in (estimates, path))
    )


TWINS = TwinStore()
"""The twins of this process, kept in the user's folder."""
