"""Provide error models by checkpoint and plan: shipped, stored in the user's folder, or measured once.

A file holds plain arrays. Its name is a digest of everything on which the error model depends, so an error
model of other weights or another plan can never be used by mistake.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import weakref
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from e2crf_core.caching.policy import CLOCKS, CachePolicy
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.diffusion.solvers import Plan
from e2crf_core.errors import LabError
from e2crf_core.io.arrays import read_npz
from e2crf_core.io.files import replace_file
from e2crf_core.io.resources import assets_dir
from e2crf_core.io.userfiles import user_dir
from e2crf_core.progress import Progress, silent
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.error_measurement import measure_error_model
from e2crf_core.sampling.error_model import DETAILS, ErrorModel

VERSION = 4
"""Increased whenever error models of older versions must be measured again."""
LIMIT_BYTES = 1 << 28
HALF_LIMIT = 6e4
"""Outputs below it are kept in half precision: a rounding of 5e-4 is far below any error that a plan tolerates."""
DEFAULT_PLANS = (SamplerConfig(None, steps=40, solver="dpmpp_2m", grid="profile"),)
"""The plans for which calibrations of causal checkpoints ship with the lab."""

_log = logging.getLogger(__name__)
_known: dict[str, ErrorModel] = {}
_by_network: weakref.WeakKeyDictionary[Any, dict[object, ErrorModel]] = weakref.WeakKeyDictionary()
_lock = threading.RLock()


def calibration_key(model: ScoreModel, plan: Plan) -> str:
    """Return the name of an error model: a digest of weights, bands, data statistics, and times."""
    times = [row.t for row in plan.rows]
    stated = repr((VERSION, model.digest(), plan.solver, times, model.schedule))
    return hashlib.sha256(stated.encode()).hexdigest()[:32]


def calibration_files(key: str) -> tuple[Path, Path]:
    """Return where an error model may be: shipped, and in the user's own folder."""
    name = f"{key}.npz"
    return assets_dir() / "calibrations" / name, user_dir() / "calibrations" / name


def is_calibrated(model: ScoreModel, plan: Plan) -> bool:
    """Return whether an error model is available, so that `error_model_of` returns at once."""
    key = calibration_key(model, plan)
    return key in _known or any(path.is_file() for path in calibration_files(key))


def error_model_of(model: ScoreModel, plan: Plan, progress: Progress = silent) -> ErrorModel:
    """Return the error model of a checkpoint and plan; if missing, measure it (1-2 minutes) and keep it."""
    with _lock:
        recent = _recent(model)
        short = (plan.solver, tuple(row.t for row in plan.rows), model.profile)
        if short not in recent:
            key = calibration_key(model, plan)
            if key not in _known:
                _known[key] = _read(key) or _measure(key, model, plan, progress)
            recent[short] = _known[key]
        return recent[short]


def calibrate_for(
    model: ScoreModel, policy: CachePolicy | None, plan: Plan, progress: Progress = silent
) -> None:
    """Calibrate a checkpoint for a plan if the policy needs it, so that no step has to wait for it."""
    if policy is not None and policy.rule.calibrated:
        error_model_of(model, plan, progress)


def _recent(model: ScoreModel) -> dict[object, ErrorModel]:
    """Return error models already loaded for a network, so that short runs need not digest its weights."""
    try:
        return _by_network.setdefault(model.network, {})
    except TypeError:  # a network that cannot be hashed or referred to
        return {}


def _measure(key: str, model: ScoreModel, plan: Plan, progress: Progress) -> ErrorModel:
    _log.info("calibrating %s for %d calls of %s", model.name, plan.steps, plan.solver)
    config = SamplerConfig(None, steps=plan.steps, solver=plan.solver, grid=plan.grid)
    # A run may call this in the middle of a step, where gradients are off.
    with torch.inference_mode(False), torch.enable_grad():
        dtype = model.dtype if model.dtype in (torch.float32, torch.float64) else torch.float32
        measured = measure_error_model(model.to("cpu", dtype), config, progress=progress)
    kept = unpacked(packed(measured))  # so that the first run plans as all later ones do
    path = calibration_files(key)[1]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda temporary: save_error_model(kept, temporary))
    except OSError as fault:
        _log.warning("the calibration of %s was not kept: %s", model.name, fault)
    return kept


def _read(key: str) -> ErrorModel | None:
    for path in calibration_files(key):
        if path.is_file():
            try:
                return read_error_model(path)
            except LabError as fault:
                _log.warning("calibration %s is damaged and is measured again: %s", path, fault)
    return None


def packed(error_model: ErrorModel) -> dict[str, np.ndarray]:
    """Return the arrays that a file keeps: large ones in half precision, sums only where they do not follow."""
    arrays = {name: getattr(error_model, name) for name in ARRAYS}
    arrays |= {name: np.array(getattr(error_model, name)) for name in ("steps", "candidates", "edges")}
    arrays["outputs"] = _halved(error_model.outputs)
    if len(error_model.candidates) < error_model.steps:
        # Increments are small where sums are large, so their rounding does not add up.
        arrays["increments"] = _halved(np.diff(error_model.change, axis=1))
    return arrays


def _halved(values: np.ndarray) -> np.ndarray:
    """Return values in half precision, or as they are where that cannot hold them."""
    return values.astype(np.float16) if np.abs(values).max(initial=0.0) < HALF_LIMIT else values


def unpacked(stored: Mapping[str, np.ndarray]) -> ErrorModel:
    """Invert `packed`. Raises KeyError, ValueError, TypeError or IndexError for others."""
    outputs, weight = stored["outputs"].astype(np.float32), stored["weight"]
    increments = (
        stored["increments"] if "increments" in stored else np.diff(weight, axis=1)[:, :, None] * outputs
    )
    change = np.zeros((len(weight), len(outputs) + 1, *outputs.shape[1:]))
    change[:, 1:] = np.cumsum(increments, axis=1, dtype=np.float64)
    return ErrorModel(
        steps=int(stored["steps"]),
        candidates=tuple(int(call) for call in stored["candidates"]),
        edges=tuple(int(edge) for edge in stored["edges"]),
        change=change,
        outputs=outputs,
        **{name: stored[name] for name in ARRAYS},
    )


def save_error_model(error_model: ErrorModel, path: Path) -> None:
    """Write an error model as a compressed NPZ file."""
    with path.open("wb") as stream:
        np.savez_compressed(stream, **packed(error_model))  # type: ignore[arg-type]


def read_error_model(path: Path) -> ErrorModel:
    """Read what `save_error_model` wrote. Raises LabError for a damaged file."""
    try:
        error_model = unpacked(read_npz(path, limit=LIMIT_BYTES))
    except (KeyError, ValueError, TypeError, IndexError, OSError, zipfile.BadZipFile) as fault:
        raise LabError(f"{path.name} holds no calibration: {fault}") from None
    calls, count = len(error_model.candidates), error_model.edges[-1]
    samples, width = error_model.outputs.shape[1:2] + error_model.outputs.shape[-1:]
    fits = (
        error_model.outputs.shape == (calls, samples, count, width)
        and error_model.weight.shape == (len(DETAILS), calls + 1, count, width)
        and error_model.moment.shape == (len(DETAILS), len(CLOCKS), calls + 1, count, width)
        and error_model.change.shape == (len(DETAILS), calls + 1, samples, count, width)
        and error_model.variance.shape == (count, width)
        and error_model.trials.shape[::2] == (len(DETAILS), 2)
        and error_model.ticks.shape == (len(CLOCKS), calls)
        and error_model.cost.shape == (len(error_model.edges),)
        and all(np.isfinite(getattr(error_model, name)).all() for name in (*ARRAYS, "outputs", "change"))
        and (error_model.trials > 0).all()
    )
    if not fits:
        raise LabError(f"{path.name} holds arrays that do not fit each other")
    return error_model


ARRAYS = (
    "ticks",
    "cost",
    "weight",
    "moment",
    "variance",
    "points",
    "amplification",
    "trials",
)
