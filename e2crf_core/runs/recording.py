"""A recorded run as one packet for a canvas: all its steps, and what a what-if needs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from e2crf_core import e2crf
from e2crf_core.caching.policy import CachePolicy
from e2crf_core.caching.triggers import TRIGGERS, influence
from e2crf_core.data.axes import STEPS_AXIS, time_axis
from e2crf_core.data.reference import Reference
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.io.packet import finite
from e2crf_core.runs.archive import Archive
from e2crf_core.runs.whatif import (
    INTENSITY_ELSEWHERE,
    INTENSITY_MARGIN,
    TIME_MARGIN,
    batch_factor,
    cost_line,
    predictable,
    refusal,
    seconds_of,
    trace,
)

COLUMNS = ("t", "log_snr", "share", "tau", "r", "r_mean", "seconds")
ASKED = ("tau", "k_low", "refresh_every")

MARKS = {
    "reused": ("event = score > tau", "reasons = event.to"),
    "calm": ("calm =", "reasons = reasons * ~calm"),
    "low": ("reasons[:, : policy.k_low + 1]",),
    "event": ("event = score > tau", "reasons = event.to"),
    "probe": ("probed =", "reasons = torch.where(probed"),
    "first": ("if cache is None and not rule.late:", "every = torch.full"),
    "always": ("if rule.verdict is not None:", "return torch.full(event.shape"),
    "warn": ("if r is not None and policy.tau_warn:", "refresh = refresh | (r > policy.tau_warn)"),
    "refresh": ("refresh = event.any(1, keepdim=True)",),
    "interval": (
        "if cache is not None and policy.refresh_every:",
        "refresh = refresh | rule.due(",
    ),
}
"""The lines of `decide` and `step` that make each kind of decision, found by their text."""


def source_lines() -> tuple[list[str], dict[str, list[int]]]:
    """Return the source of `decide` and `step` of the running program, and the lines of MARKS in it."""
    lines = [
        *inspect.getsource(e2crf.decide).splitlines(),
        "",
        "",
        *inspect.getsource(e2crf.step).splitlines(),
    ]
    marks = {
        kind: [i for i, line in enumerate(lines) if any(text in line for text in texts)]
        for kind, texts in MARKS.items()
    }
    return lines, marks


def whatif_block(archive: Archive, model: ScoreModel) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the header and arrays from which the browser can predict."""
    seen = trace(archive, model)
    policy = archive.recorder.policies[-1][2]
    if refusal(archive, policy):
        policy = CachePolicy(trigger="log_snr")
    known = predictable(archive)
    arrays: dict[str, np.ndarray] = {}
    if "gain" in known and seen.gain is not None:
        # The gain trigger measures drift of the network's input, so the published drift is not available.
        known = tuple(name for name in known if not name.startswith("paper"))
        weight = np.stack([influence(seen.alone, i).cpu().numpy() for i in range(len(seen.gain))])
        arrays |= {"p": seen.u[:, 0].numpy(), "w": seen.gain * weight}
    else:
        arrays["p"] = seen.z[:, 0].numpy()
    if policy.probe_share:
        watch = archive.spec.watch
        draws = [seen.problem.noise.uniform(i)[watch].numpy() for i in range(archive.recorder.count)]
        arrays["probed"] = (np.stack(draws) < policy.probe_share).astype(np.uint8)
    share = archive.recorder.column("share").astype(np.float64)
    seconds = archive.recorder.column("seconds")
    fair = seconds <= np.quantile(seconds, 0.98)
    base, slope = cost_line(share[fair], seconds[fair])
    middle, low, high = seconds_of(archive, share)
    meta = {f.name: f.metadata for f in fields(CachePolicy)}
    recorded = archive.recorder.policies[-1][2]
    header = {
        "policy": asdict(policy),
        "triggers": list(known),
        "clocks": {name: clock.tolist() for name, clock in seen.problem.clocks.items()},
        "factor": batch_factor(archive, policy),
        "margin": {name: rule.replay_error for name, rule in TRIGGERS.items()},
        "margin_by_tau": {name: rule.replay_error_by_tau for name, rule in TRIGGERS.items()},
        "recorded_tau": recorded.tau,
        "intensity_margin": {
            name: INTENSITY_MARGIN if name == recorded.trigger else INTENSITY_ELSEWHERE for name in TRIGGERS
        },
        "cost": {
            "base": base,
            "slope": slope,
            "low": low / middle * (1 - TIME_MARGIN),
            "high": high / middle * (1 + TIME_MARGIN),
        },
        "fields": {
            name: {
                "low": meta[name]["low"],
                "high": meta[name]["high"],
                "triggers": list(meta[name]["triggers"]),
            }
            for name in ASKED
        },
    }
    return header, arrays


def recording_parts(
    archive: Archive, load: Callable[[], ScoreModel], reference: Reference | None = None
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the header and the arrays of a record, with the real series behind it where they fit.

    `load` returns the model that made the run; if it raises LabError, the record is shown without predictions.
    """
    recorder, spec = archive.recorder, archive.spec
    arrays: dict[str, np.ndarray] = {
        "table": np.stack([recorder.column(c) for c in COLUMNS], axis=1).astype(np.float32)
    }
    arrays |= {name: recorder.column(name) for name in ("reasons", "e", "drift", "spectrum", "x0", "series")}
    time = dict(STEPS_AXIS)
    units = [""] * recorder.M
    if reference is not None and reference.dataset.x.shape[1:] == (recorder.N, recorder.M):
        arrays["fan"] = reference.fan
        time, units = time_axis(reference.dataset), list(reference.dataset.units)
        if reference.frequencies == recorder.n:
            arrays["real"] = reference.spectrum
    whatif, refused = None, None
    try:
        whatif, more = whatif_block(archive, load())
        arrays |= more
    except LabError as fault:
        refused = f"No prediction is possible: {fault}"
    lines, marks = source_lines()
    header = {
        "kind": "recording",
        "count": recorder.count,
        "total": spec.config.steps,
        "num": spec.num,
        "n": recorder.n,
        "N": recorder.N,
        "M": recorder.M,
        "time": time,
        "channels": list(archive.model["channels"]),
        "units": units,
        "mean": list(archive.model["mean"]),
        "std": list(archive.model["std"]),
        "columns": list(COLUMNS),
        "policies": [[step, version, asdict(policy)] for step, version, policy in recorder.policies],
        "share": finite(float(recorder.column("share").mean())),
        "seconds": finite(float(recorder.column("seconds").sum())),
        "source": {"lines": lines, "marks": marks},
        "whatif": whatif,
        "refusal": refused,
    }
    return header, arrays
