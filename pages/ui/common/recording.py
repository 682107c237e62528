"""Recorded runs for the pages: which are there, and one of them as a packet with all its steps."""

import inspect
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from e2crf_core import e2crf
from e2crf_core.caching.policy import CachePolicy
from e2crf_core.caching.triggers import TRIGGERS, influence
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.diffusion.spectral import token_count, tokenize
from e2crf_core.errors import LabError
from e2crf_core.io.resources import assets_dir
from e2crf_core.runs.archive import Archive, load
from e2crf_core.runs.store import Entry
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
from pages.ui.anatomy.layer_job import InsideJob
from pages.ui.common import library
from pages.ui.common.packet import finite, pack
from pages.ui.common.reference import reference_for
from pages.ui.common.registry import STORE
from pages.ui.live.live_packets import time_axis

DEMO = "demo"
COLUMNS = ("t", "log_snr", "share", "tau", "r", "r_mean", "seconds")
ASKED = ("tau", "k_low", "refresh_every")

MARKS = {
    "reused": ("event = score > tau", "reasons = event.to"),
    "calm": ("calm =", "reasons = reasons * ~calm"),
    "low": ("reasons[:, : policy.k_low + 1]",),
    "event": ("event = score > tau", "reasons = event.to"),
    "probe": ("probed =", "reasons = torch.where(probed"),
    "first": ("if cache is None:", "every = torch.full"),
    "always": ("if rule.verdict is not None:", "return torch.full(event.shape"),
    "warn": ("if policy.tau_warn:", "refresh = refresh | (cache.r > policy.tau_warn)"),
    "refresh": ("refresh = event.any(1, keepdim=True)",),
    "interval": ("if policy.refresh_every:", "refresh = refresh | (i - cache.clock.refreshed"),
}
"""Which lines of `decide` and `step` made a decision of each kind, found by what they say."""


def demo_path() -> Path:
    """The run that ships with the lab; it may be missing."""
    return assets_dir() / "demo" / "run.zip"


def label(entry: Entry) -> str:
    """One line of a list of runs."""
    share = "" if entry.token_share is None else f" · {entry.token_share:.1%} of tokens"
    when = entry.created[:16].replace("T", " ")
    return f"{entry.checkpoint} · {entry.trigger}{share} · {entry.steps} steps · {when}"


@st.cache_resource(max_entries=6, show_spinner="Opening the run")
def _opened(path: str, changed: int) -> Archive:
    return load(path)


def open_run(name: str) -> Archive:
    """A kept run by name, or the demo. Raises LabError when it is not there or cannot be read."""
    path = demo_path() if name == DEMO else STORE.path(name)
    if not path.is_file():
        raise LabError(f"the run {name!r} is not kept here any more")
    return _opened(str(path), path.stat().st_mtime_ns)


def model_of(checkpoint: str, digest: str) -> ScoreModel:
    """A checkpoint on the CPU. Raises LabError when it is not here, or not the one with this digest."""
    model = library.model(checkpoint)
    if model.digest() != digest:
        raise LabError(f"checkpoint {checkpoint!r} has changed since this run was made")
    return model


def source_lines() -> tuple[list[str], dict[str, list[int]]]:
    """Source of `decide` and `step` of the running program, and the lines of MARKS in it."""
    lines = [
        *inspect.getsource(e2crf.decide).splitlines(),
        "",
        "",
        *inspect.getsource(e2crf.step).splitlines(),
    ]
    marks = {
        kind: [i for i, line in enumerate(lines) if any(said in line for said in wanted)]
        for kind, wanted in MARKS.items()
    }
    return lines, marks


def whatif_block(archive: Archive, model: ScoreModel) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What the browser needs to predict by itself: header and arrays."""
    seen = trace(archive, model)
    policy = archive.recorder.policies[-1][2]
    if refusal(archive, policy):
        policy = CachePolicy(trigger="log_snr")
    known = predictable(archive)
    arrays: dict[str, np.ndarray] = {}
    if "gain" in known and seen.gain is not None:
        # Drift of the gain trigger is that of the network's input; then the published one cannot be had as well.
        known = tuple(name for name in known if name != "paper")
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


def inside_block(archive: Archive, job: InsideJob | None) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What is known of the inside of the network in this run: header and, once it was looked at, arrays."""
    if job is not None and job.table is not None:
        table = job.table
        said = {"state": "there", "text": "", "names": list(table.names), "changed": table.changed}
        return said, {"layers_kept": table.kept, "layers_used": table.used}
    seconds = float(archive.recorder.column("seconds").sum())
    text = (
        f"Runs the record again, once ({seconds:.1f} s of computing when it was made), and sets every step beside "
        "a fresh forward of all tokens."
    )
    if job is not None and job.state == "failed":
        return {"state": "idle", "text": f"It could not be done: {job.error}"}, {}
    try:
        model_of(archive.spec.checkpoint, archive.model["digest"])
    except LabError as fault:
        return {"state": "refused", "text": f"The inside cannot be shown: {fault}"}, {}
    return {"state": "idle" if job is None else job.state, "text": text}, {}


def recording_packet(
    archive: Archive, key: str, view: Mapping[str, Any], confirmable: bool, job: InsideJob | None = None
) -> bytes:
    """All steps of a run, with what it is drawn against, what a what-if needs, and the inside if it was looked at."""
    recorder, spec = archive.recorder, archive.spec
    arrays: dict[str, np.ndarray] = {
        "table": np.stack([recorder.column(c) for c in COLUMNS], axis=1).astype(np.float32)
    }
    arrays |= {name: recorder.column(name) for name in ("reasons", "e", "drift", "spectrum", "x0", "series")}
    time: dict[str, Any] = {"title": "time (steps of the window)", "step": 1.0}
    units = [""] * recorder.M
    try:
        reference = reference_for(archive.model["dataset"])
        data = reference.dataset
        if data.x.shape[1:] == (recorder.N, recorder.M):
            arrays["fan"] = reference.fan
            time, units = time_axis(data), list(data.units)
            if reference.frequencies == recorder.n:
                arrays["real"] = reference.spectrum
    except LabError:
        pass  # the record speaks for itself; only the real series behind it are missing
    whatif, refused = None, None
    try:
        whatif, more = whatif_block(archive, model_of(spec.checkpoint, archive.model["digest"]))
        arrays |= more
    except LabError as fault:
        refused = f"Nothing can be predicted: {fault}"
    inside, more = inside_block(archive, job)
    arrays |= more
    lines, marks = source_lines()
    header = {
        "kind": "recording",
        "key": key,
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
        "view": dict(view),
        "confirmable": confirmable,
        "inside": inside,
    }
    return pack(header, arrays)


def lesson_recording(archive: Archive) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What the lesson on events needs of a record: header and arrays. Raises LabError for other tokens than E1's."""
    recorder = archive.recorder
    if recorder.n != token_count(recorder.N):
        raise LabError("the tokens of this imported network are no half spectrum: choose another run")
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


def confirmed_spec(archive: Archive, changes: Mapping[str, Any]) -> Any:
    """The spec of the real run that a what-if asks for; raises LabError for values no policy may have."""
    policy = archive.recorder.policies[-1][2]
    if refusal(archive, policy):
        policy = CachePolicy(trigger="log_snr")
    allowed = {name: changes[name] for name in (*ASKED, "trigger") if name in changes}
    config = replace(archive.spec.config, policy=policy.replace(**allowed))
    return replace(archive.spec, config=config, compare=False, pace=0.0)
