"""A run as one zip: what was asked, every step that was recorded, what came out, and what made it.

Members are one JSON text and NPY arrays, nothing else, so a stranger's archive can be opened: sizes, names and
shapes are checked before anything is inflated, and nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import platform
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from e2crf_core.caching.events import StepEvent
from e2crf_core.caching.policy import CachePolicy
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.diffusion.solvers import MAX_STEPS
from e2crf_core.errors import LabError
from e2crf_core.io.arrays import parse_npy, reason
from e2crf_core.io.files import replace_file
from e2crf_core.io.userfiles import user_dir
from e2crf_core.models.checkpoints import load_checkpoint
from e2crf_core.runs.comparison import Comparison
from e2crf_core.runs.run import FINISHED, RunHandle, RunResult, RunSpec
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.recorder import Recorder
from e2crf_core.sampling.sampler import observe
from e2crf_core.version import __version__

SCHEMA = 1
KIND = "e2crf-run"
MANIFEST = "run.json"
LIMIT_BYTES = 1 << 29
MANIFEST_BYTES = 1 << 22
AUTOSAVED = 40
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,95}")
NOTE_LENGTH = 4000
MEASURED_TIME = frozenset({"seconds"})
"""Columns that no rerun can repeat."""


@dataclass(frozen=True)
class Archive:
    """One recorded run.

    `model` names the checkpoint's data set, digest, channels, mean and std; `kept` archives were saved by a
    person and are never cleaned up. `created` is UTC in ISO form.
    """

    name: str
    spec: RunSpec
    status: str
    recorder: Recorder
    result: RunResult | None
    model: Mapping[str, Any]
    versions: Mapping[str, str]
    created: str
    note: str = ""
    kept: bool = False

    def policy_at(self, step: int) -> CachePolicy:
        """The policy that decided `step`."""
        return [policy for first, _, policy in self.recorder.policies if first <= step][-1]


@dataclass(frozen=True)
class Entry:
    """One line of a list of runs, read without inflating the arrays."""

    name: str
    path: Path
    created: str
    status: str
    checkpoint: str
    solver: str
    steps: int
    num: int
    seed: int
    trigger: str
    token_share: float | None
    relative_l2: float | None
    note: str
    kept: bool
    bytes: int


def archive_name(handle: RunHandle) -> str:
    """The name under which a run is kept; it does not give the run's own id away, which lets one control it."""
    label = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(handle.spec.checkpoint).name).strip("-")[:40] or "run"
    return label + archive_mark(handle.id)


def archive_mark(run_id: str) -> str:
    """How the name of the archive of the run with that id ends."""
    return "-" + hashlib.sha256(run_id.encode()).hexdigest()[:12]


def of_handle(handle: RunHandle, note: str = "", kept: bool = False) -> Archive:
    """The archive of a run that has ended. Raises LabError for one that goes on, or never took a step."""
    if handle.status not in FINISHED:
        raise LabError("the run still goes on: stop it or wait for its end before it is saved")
    recorder, model = handle.recorder, handle.model
    if recorder is None or model is None or not recorder.count:
        raise LabError("the run took no step: there is nothing to save")
    return Archive(
        name=archive_name(handle),
        spec=handle.spec,
        status=handle.status,
        recorder=recorder,
        result=handle.result,
        model={
            "dataset": model.dataset,
            "digest": model.digest(),
            "channels": list(model.channels),
            "mean": [float(v) for v in model.mean],
            "std": [float(v) for v in model.std],
        },
        versions=versions(model),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        note=note,
        kept=kept,
    )


def versions(model: ScoreModel) -> dict[str, str]:
    """What a bit-for-bit rerun depends on besides spec and weights."""

    return {
        "e2crf_lab": __version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": str(model.device),
        "threads": str(torch.get_num_threads()),
    }


def save(archive: Archive, path: Path) -> None:
    """Write an archive, whole or not at all."""
    recorder, result = archive.recorder, archive.result
    arrays = {f"columns/{name}.npy": recorder.column(name) for name in recorder.names}
    if result is not None:
        arrays["samples.npy"] = result.samples
        if result.comparison is not None:
            arrays["samples_uncached.npy"] = result.comparison.samples_uncached
    text = json.dumps(_manifest(archive), indent=1, allow_nan=False)

    def write(target: Path) -> None:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as zipped:
            zipped.writestr(MANIFEST, text)
            for name, array in arrays.items():
                body = io.BytesIO()
                np.lib.format.write_array(body, np.ascontiguousarray(array), allow_pickle=False)
                zipped.writestr(name, body.getvalue())

    replace_file(path, write)


def load(path: str | Path) -> Archive:
    """Read an archive. Raises LabError with one line for anything that is damaged, forged, too large or too new."""
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as zipped:
            members = _members(zipped, path.name)
            manifest = _read_manifest(zipped, members, path.name)
            return _assemble(manifest, lambda name: _array(zipped, members, name, path.name), path.name)
    except LabError:
        raise
    except OSError as fault:
        raise LabError(f"{path.name} cannot be read: {fault.strerror or reason(fault)}") from None
    except Exception as fault:  # whatever a forged file makes the readers stumble over
        raise LabError(f"{path.name} is not a run of this lab, or is damaged: {reason(fault)}") from None


def read_entry(path: Path) -> Entry:
    """The line of one archive in a list. Raises LabError like `load`."""
    try:
        with zipfile.ZipFile(path) as zipped:
            manifest = _read_manifest(zipped, _members(zipped, path.name), path.name)
            spec, result = _spec(manifest["spec"]), manifest["result"] or {}
            comparison = result.get("comparison") or {}
            return Entry(
                name=path.stem,
                path=path,
                created=str(manifest["created"]),
                status=str(manifest["status"]),
                checkpoint=spec.checkpoint,
                solver=spec.config.solver,
                steps=spec.config.steps,
                num=spec.num,
                seed=spec.seed,
                trigger=spec.policy.trigger,
                token_share=_number(result.get("token_share")),
                relative_l2=_number(comparison.get("relative_l2")),
                note=str(manifest["note"])[:NOTE_LENGTH],
                kept=manifest["kept"] is True,
                bytes=path.stat().st_size,
            )
    except LabError:
        raise
    except Exception as fault:
        raise LabError(f"{path.name} is not a run of this lab, or is damaged: {reason(fault)}") from None


def events(archive: Archive) -> Iterator[StepEvent]:
    """Replay: the recorded steps one by one, as the sampler had yielded them."""
    recorder = archive.recorder
    columns = {name: recorder.column(name) for name in recorder.names}
    for row in range(recorder.count):
        yield _event(columns, row, recorder)


def rerun(
    archive: Archive,
    *,
    load: Callable[[str, str], ScoreModel] = load_checkpoint,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Recorder, np.ndarray]:
    """Run it again, with every policy from the step on at which it came: new record, and samples (num, N, M).

    Raises LabError when the checkpoint is not here, or is not the one that made the run.
    """
    spec, old = archive.spec, archive.recorder
    model = load(spec.checkpoint, spec.device)
    if model.digest() != archive.model["digest"]:
        raise LabError(
            f"checkpoint {spec.checkpoint!r} has changed since this run was made: its weights are others"
        )
    sampler = spec.config.sampler(model)
    recorder = Recorder(spec.config.steps, model.n, model.length, len(model.channels), spec.num)
    recorder.policies.extend(old.policies)
    with torch.inference_mode():
        problem, state = sampler.begin(spec.num, spec.seed)
        for step in range(old.count):
            version, policy = [(v, p) for first, v, p in old.policies if first <= step][-1]
            after, info = sampler.step(problem, state, policy)
            recorder.append(observe(sampler, problem, state, info, 0.0, spec.watch, version, after))
            state = after
            if progress is not None:
                progress(step + 1, old.count)
    return recorder, model.series(state.z.cpu().numpy())


def differences(old: Recorder, new: Recorder) -> list[str]:
    """Columns in which two records of a run differ in any bit; times are not compared."""
    return [
        name
        for name in old.names
        if name not in MEASURED_TIME and old.column(name).tobytes() != new.column(name).tobytes()
    ]


class RunStore:
    """A folder of archives. Without `folder` it is `runs` in `user_dir()`, looked up at each use."""

    def __init__(self, folder: Path | None = None, autosaved: int = AUTOSAVED) -> None:
        self._folder = folder
        self._autosaved = autosaved

    @property
    def folder(self) -> Path:
        """Where the archives are."""
        return self._folder or user_dir() / "runs"

    def path(self, name: str) -> Path:
        """The file of a run. Raises LabError for a name that could lead elsewhere."""
        if not NAME.fullmatch(name):
            raise LabError(f"run name {name[:40]!r}: letters, digits, '-', '_' and '.' only")
        return self.folder / f"{name}.zip"

    def add(self, archive: Archive) -> Path:
        """Keep an archive, replacing one of that name, and let go of the oldest ones that nobody chose to keep."""
        path = self.path(archive.name)
        save(archive, path)
        loose = [entry for entry in self.list() if not entry.kept and entry.path != path]
        for entry in loose[max(0, self._autosaved - 1) :]:
            entry.path.unlink(missing_ok=True)
        return path

    def get(self, name: str) -> Archive:
        """Open a run. Raises LabError when it is not there or cannot be read."""
        path = self.path(name)
        if not path.is_file():
            raise LabError(f"there is no run {name!r} in {self.folder}")
        return load(path)

    def annotate(self, name: str, note: str) -> None:
        """Write a note to a run, which from then on is kept."""
        if len(note) > NOTE_LENGTH:
            raise LabError(f"a note may have at most {NOTE_LENGTH} characters, not {len(note)}")
        save(replace(self.get(name), note=note, kept=True), self.path(name))

    def bring(self, path: Path) -> Archive:
        """Take an archive file into the folder, once it has been read whole. Its name is of our own making."""
        archive = load(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        label = re.sub(r"[^A-Za-z0-9_-]+", "-", archive.name).strip("-")[:60] or "run"
        name = label if not self.path(label).exists() else f"{label}-{digest}"
        archive = replace(archive, name=name, kept=True)
        self.add(archive)
        return archive

    def delete(self, name: str) -> None:
        """Remove a run for good."""
        self.path(name).unlink(missing_ok=True)

    def list(self, search: str = "") -> list[Entry]:
        """Runs, youngest first, whose name, checkpoint, trigger, solver or note holds every word of `search`.

        Files that are no archives are passed over.
        """
        found = []
        for path in self.folder.glob("*.zip"):
            try:
                entry = read_entry(path)
            except LabError:
                continue
            text = " ".join(
                (entry.name, entry.checkpoint, entry.trigger, entry.solver, entry.note, entry.status)
            ).lower()
            if all(word in text for word in search.lower().split()):
                found.append(entry)
        return sorted(found, key=lambda entry: (entry.created, entry.name), reverse=True)


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _policy(policy: CachePolicy) -> Any:
    return json.loads(policy.to_json())


def _manifest(archive: Archive) -> dict[str, Any]:
    recorder, result = archive.recorder, archive.result
    outcome: Any = None
    if result is not None:
        outcome = {name: _finite(getattr(result, name)) for name in ("seconds", "token_share", "flop_share")}
        outcome["comparison"] = None
        if result.comparison is not None:
            measured = asdict(result.comparison)
            del measured["samples_uncached"]
            outcome["comparison"] = measured
    return {
        "kind": KIND,
        "schema": SCHEMA,
        "name": archive.name,
        "created": archive.created,
        "status": archive.status,
        "note": archive.note,
        "kept": archive.kept,
        "spec": _spec_json(archive.spec),
        "policies": [[step, version, _policy(p)] for step, version, p in recorder.policies],
        "shape": {"count": recorder.count, "n": recorder.n, "N": recorder.N, "M": recorder.M},
        "model": dict(archive.model),
        "versions": dict(archive.versions),
        "result": outcome,
    }


def _members(zipped: zipfile.ZipFile, label: str) -> dict[str, zipfile.ZipInfo]:
    """Members by name, once names and stated sizes are such as `save` writes. Reading stops at a stated size."""
    found: dict[str, zipfile.ZipInfo] = {}
    total = 0
    for member in zipped.infolist():
        name = member.filename
        if name in found or not re.fullmatch(
            r"run\.json|samples(_uncached)?\.npy|columns/[a-z0-9_]{1,40}\.npy", name
        ):
            raise LabError(
                f"{label} holds {name[:60]!r}, which no run of this lab has: it is damaged or forged"
            )
        if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise LabError(f"{label}: {name} is encrypted or packed in a way that this lab does not use")
        total += member.file_size
        found[name] = member
    if total > LIMIT_BYTES:
        raise LabError(
            f"{label} inflates to {total / 1e6:.0f} MB: at most {LIMIT_BYTES / 1e6:.0f} MB are read"
        )
    if MANIFEST not in found:
        raise LabError(f"{label} is not a run of this lab: it has no {MANIFEST}")
    return found


def _read_manifest(
    zipped: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], label: str
) -> dict[str, Any]:
    if members[MANIFEST].file_size > MANIFEST_BYTES:
        raise LabError(f"{label}: {MANIFEST} is larger than {MANIFEST_BYTES // 2**20} MB: it is forged")
    manifest = json.loads(zipped.read(MANIFEST))
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
        raise LabError(f"{label} is not a run of this lab: {MANIFEST} does not say so")
    schema = manifest.get("schema")
    if schema != SCHEMA:
        newer = isinstance(schema, int) and schema > SCHEMA
        hint = ": it was made by a newer version of the lab, update this one" if newer else ""
        raise LabError(f"{label} has schema {schema!r}, this version reads {SCHEMA}{hint}")
    return manifest


def _array(
    zipped: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], name: str, label: str
) -> np.ndarray:
    if name not in members:
        raise LabError(f"{label} is damaged: {name} is missing")
    return parse_npy(zipped.read(name), f"{label}: {name}")


_PLAN = ("steps", "solver", "grid")
_KINDS: dict[str, Any] = {
    **dict.fromkeys(("checkpoint", "device", "solver", "grid"), str),
    **dict.fromkeys(("steps", "num", "seed", "watch"), int),
    "pace": (int, float),
    "compare": bool,
}


def _spec(stored: Any) -> RunSpec:
    if not isinstance(stored, dict) or set(stored) != {*_KINDS, "policy"}:
        raise LabError("the spec of the run does not have the fields it must have")
    for name, value in stored.items():
        kind = _KINDS.get(name, dict)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise LabError(f"the spec of the run says {name} = {str(value)[:40]!r}, which cannot be")
    policy = CachePolicy.from_json(json.dumps(stored["policy"]))
    config = SamplerConfig(policy, stored["steps"], stored["solver"], stored["grid"])
    others = {name: value for name, value in stored.items() if name not in ("policy", *_PLAN)}
    return RunSpec(**others, config=config)


def _spec_json(spec: RunSpec) -> dict[str, Any]:
    config = spec.config
    plan = {"policy": _policy(spec.policy), **{name: getattr(config, name) for name in _PLAN}}
    return {**{name: getattr(spec, name) for name in _KINDS if name not in _PLAN}, **plan}


def _whole(value: Any, low: int, high: int, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise LabError(f"{what} is {str(value)[:40]}, which must lie in [{low}, {high}]")
    return value


def _assemble(manifest: dict[str, Any], array: Callable[[str], np.ndarray], label: str) -> Archive:
    spec = _spec(manifest["spec"])
    steps = _whole(spec.config.steps, 1, MAX_STEPS, f"{label}: steps")
    shape = manifest["shape"]
    count = _whole(shape["count"], 1, steps, f"{label}: count")
    n, length, channels = (_whole(shape[key], 1, 1 << 16, f"{label}: {key}") for key in ("n", "N", "M"))
    if n > 2 * length or steps * (n * (13 + 4 * channels) + 8 * length * channels) > LIMIT_BYTES:
        raise LabError(f"{label}: n = {n}, N = {length}, M = {channels} do not go together or are too many")
    recorder = Recorder(steps, n, length, channels, spec.num)
    columns = {}
    for name in recorder.names:
        found, wanted = array(f"columns/{name}.npy"), recorder.column(name)
        if found.dtype != wanted.dtype or found.shape != (count, *wanted.shape[1:]):
            raise LabError(
                f"{label} is damaged: column {name} is {found.dtype}{list(found.shape)},"
                f" not {wanted.dtype}{[count, *wanted.shape[1:]]}"
            )
        columns[name] = found
    for row in range(count):
        recorder.append(_event(columns, row, recorder))
    for step, version, policy in manifest["policies"]:
        _whole(step, 0, steps, f"{label}: step of a policy")
        _whole(version, 0, 1 << 31, f"{label}: version of a policy")
        recorder.policies.append((step, version, CachePolicy.from_json(json.dumps(policy))))
    if not recorder.policies or recorder.policies[0][0] != 0:
        raise LabError(f"{label} is damaged: no policy was in force at its first step")
    if int(columns["reasons"].max()) > 4:
        raise LabError(f"{label} is damaged: a decision has no meaning")
    return Archive(
        name=str(manifest["name"])[:96],
        spec=spec,
        status=str(manifest["status"])[:20],
        recorder=recorder,
        result=_outcome(manifest["result"], array, (spec.num, length, channels), label),
        model=_model(manifest["model"], channels, label),
        versions={str(key)[:40]: str(value)[:80] for key, value in manifest["versions"].items()},
        created=str(manifest["created"])[:40],
        note=str(manifest["note"])[:NOTE_LENGTH],
        kept=manifest["kept"] is True,
    )


def _model(stored: Any, channels: int, label: str) -> dict[str, Any]:
    lists = [stored[key] for key in ("channels", "mean", "std")]
    if any(not isinstance(values, list) or len(values) != channels for values in lists):
        raise LabError(f"{label} is damaged: the model does not have {channels} channels")
    return {
        "dataset": str(stored["dataset"])[:200],
        "digest": str(stored["digest"])[:64],
        "channels": [str(name)[:80] for name in stored["channels"]],
        "mean": [float(v) for v in stored["mean"]],
        "std": [float(v) for v in stored["std"]],
    }


def _outcome(
    stored: Any, array: Callable[[str], np.ndarray], shape: tuple[int, ...], label: str
) -> RunResult | None:
    if stored is None:
        return None

    def series(name: str) -> np.ndarray:
        found = array(name)
        if found.dtype != np.float32 or found.shape != shape:
            raise LabError(
                f"{label} is damaged: {name} is {found.dtype}{list(found.shape)}, not float32{shape}"
            )
        return found

    figures = {name: float(stored[name]) for name in ("seconds", "token_share", "flop_share")}
    comparison = None
    if stored["comparison"] is not None:
        measured = stored["comparison"]
        sizes = measured["floor_sizes"]
        values = {
            f.name: None if measured[f.name] is None else float(measured[f.name])
            for f in fields(Comparison)
            if f.name not in ("samples_uncached", "floor_sizes")
        }
        comparison = Comparison(
            samples_uncached=series("samples_uncached.npy"),
            floor_sizes=None if sizes is None else (int(sizes[0]), int(sizes[1])),
            **values,  # type: ignore[arg-type]
        )
    return RunResult(samples=series("samples.npy"), comparison=comparison, **figures)


def _event(columns: Mapping[str, np.ndarray], row: int, recorder: Recorder) -> StepEvent:
    values: dict[str, Any] = {name: column[row] for name, column in columns.items()}
    if not recorder.keeps_batch:
        values["batch_reasons"] = np.broadcast_to(values["reasons"], (recorder.batch, recorder.n))
    return StepEvent(**values)
