"""Material of the lessons that run in the browser: real series and recorded runs."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from e2crf_core.caching.policy import PRESETS, CachePolicy
from e2crf_core.data.axes import time_axis
from e2crf_core.data.datasets import Dataset
from e2crf_core.data.reference import Reference
from e2crf_core.diffusion.schedules import VP
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.diffusion.spectral import token_count, tokenize
from e2crf_core.errors import LabError
from e2crf_core.io.packet import pack
from e2crf_core.runs.archive import Archive
from e2crf_core.sampling.sampler import Sampler

CHANGE_STEPS = 200


def series_packet(lesson: str, reference: Reference, view: Mapping[str, str]) -> bytes:
    """Pack windows of a data set, the variance of their tokens, and one draw of noise."""
    data: Dataset = reference.dataset
    fan = reference.fan
    tokens = tokenize(
        data.standardize(data.x[data.train[:: max(1, len(data.train) // 2000)]]).astype(np.float64)
    )
    schedule = VP()
    header = {
        "kind": "lesson",
        "lesson": lesson,
        "key": f"{lesson} {data.name}",
        "F": len(fan),
        "n": tokens.shape[1],
        "N": data.length,
        "M": fan.shape[2],
        "time": time_axis(data),
        "channels": list(data.channels),
        "mean": data.mean.tolist(),
        "std": data.std.tolist(),
        "beta_min": schedule.beta_min,
        "beta_max": schedule.beta_max,
        "view": dict(view),
    }
    noise = np.random.default_rng(0).standard_normal(data.length)
    return pack(header, {"fan": fan, "v": tokens.var(0).mean(-1), "noise": noise})


def change_recording(model: ScoreModel, name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the header and arrays of an uncached run of one sample.

    The arrays hold, at every step, what D takes from the score (s²/a times the score), D itself, F, and the
    coefficients c_in, c_skip and c_out (steps, n) of every token.
    """
    sampler = Sampler(model, PRESETS["exact"], steps=CHANGE_STEPS)
    parts: dict[str, list[np.ndarray]] = {"score": [], "D": [], "F": []}
    for row, step in zip(sampler.plan.rows, sampler.steps(1, 0), strict=True):
        assert step.after.cache is not None
        a, denoised = model.schedule.a(row.t), step.info.denoised
        # D = (z + s² score) / a: so much of D is taken from the score.
        parts["score"].append(((a * denoised - step.before.z) / a)[0].numpy())
        parts["D"].append(denoised[0].numpy())
        parts["F"].append(step.after.cache.output[0].numpy())
    header = {
        "kind": "lesson",
        "lesson": "change",
        "key": f"change {name}",
        "count": CHANGE_STEPS,
        "n": model.n,
        "width": parts["D"][0].shape[-1],
        "t": [row.t for row in sampler.plan.rows],
        "a": [model.schedule.a(row.t) for row in sampler.plan.rows],
        "s": [model.schedule.s(row.t) for row in sampler.plan.rows],
    }
    scales = {
        name: getattr(step.problem, name).square().mean(-1).sqrt().numpy()
        for name in ("c_in", "c_skip", "c_out")
    }
    return header, {key: np.stack(values) for key, values in parts.items()} | scales


def events_recording(archive: Archive) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return header and arrays of a record for the lesson on events. Raises LabError without E1's tokens."""
    recorder = archive.recorder
    if recorder.n != token_count(recorder.N):
        raise LabError(
            "the tokens of this imported network are not a half spectrum", remedy="choose another run"
        )
    mean, std = (np.asarray(archive.model[key]) for key in ("mean", "std"))
    z = tokenize((recorder.column("series").astype(np.float64) - mean) / std)
    header = {
        "kind": "lesson",
        "count": recorder.count,
        "n": recorder.n,
        "M": recorder.M,
        "whatif": {
            "policy": asdict(CachePolicy(trigger="paper", tau=0.3)),
            "clocks": {"log_snr": recorder.column("log_snr").tolist()},
        },
    }
    return header, {"p": z}
