"""Archive a run as one zip: its request, every recorded step, its results, and its provenance.

Members are one JSON text (see `manifest`) and NPY arrays, nothing else, so untrusted archives can be opened:
sizes, names, and shapes are checked before decompression, and nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import io
import platform
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from e2crf_core.caching.policy import CachePolicy
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.io.arrays import parse_npy, reason
from e2crf_core.io.files import replace_file
from e2crf_core.io.json_files import faults_text, parse_json, validated
from e2crf_core.runs.manifest import (
    KIND,
    LIMIT_BYTES,
    NOTE_LENGTH,
    SCHEMA,
    Manifest,
    ModelPart,
    ResultPart,
    ShapePart,
    SpecPart,
)
from e2crf_core.runs.run import FINISHED, RunHandle, RunResult, RunSpec
from e2crf_core.sampling.recorder import Recorder
from e2crf_core.version import __version__

MANIFEST = "run.json"
MANIFEST_BYTES = 1 << 22
MEMBER = re.compile(r"run\.json|samples(_uncached)?\.npy|columns/[a-z0-9_]{1,40}\.npy")
LAST_REASON = 4


@dataclass(frozen=True)
class Archive:
    """A recorded run.

    `model` names the checkpoint's data set, digest, channels, mean, and std; `kept` archives were saved by a
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
        """Return the policy that decided `step`."""
        return [policy for first, _, policy in self.recorder.policies if first <= step][-1]


def archive_name(handle: RunHandle) -> str:
    """Return a run's archive name, which does not reveal the run's id, since the id allows control."""
    label = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(handle.spec.checkpoint).name).strip("-")[:40] or "run"
    return label + archive_mark(handle.id)


def archive_mark(run_id: str) -> str:
    """Return how the name of the archive of the run with that id ends."""
    return "-" + hashlib.sha256(run_id.encode()).hexdigest()[:12]


def of_handle(handle: RunHandle, note: str = "", kept: bool = False) -> Archive:
    """Return the archive of an ended run. Raises LabError for one that is running or never took a step."""
    if handle.status not in FINISHED:
        raise LabError("the run still goes on", remedy="stop it or wait for its end before it is saved")
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
    """Return what a bit-for-bit rerun depends on besides spec and weights."""
    return {
        "e2crf_lab": __version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": str(model.device),
        "threads": str(torch.get_num_threads()),
    }


# ---- writing


def save(archive: Archive, path: Path) -> None:
    """Write an archive atomically. Raises LabError for a run whose numbers no archive may hold."""
    bodies = {name: _npy(array) for name, array in _arrays(archive).items()}
    manifest = _manifest(archive, {name: hashlib.sha256(body).hexdigest() for name, body in bodies.items()})
    text = manifest.model_dump_json(indent=1, by_alias=True)

    def write(target: Path) -> None:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as zipped:
            for name, body in {MANIFEST: text.encode(), **bodies}.items():
                zipped.writestr(name, body)

    replace_file(path, write)


def _arrays(archive: Archive) -> dict[str, np.ndarray]:
    recorder, result = archive.recorder, archive.result
    arrays = {f"columns/{name}.npy": recorder.column(name) for name in recorder.names}
    if result is not None:
        arrays["samples.npy"] = result.samples
        if result.comparison is not None:
            arrays["samples_uncached.npy"] = result.comparison.samples_uncached
    return arrays


def _npy(array: np.ndarray) -> bytes:
    body = io.BytesIO()
    np.lib.format.write_array(body, np.ascontiguousarray(array), allow_pickle=False)
    return body.getvalue()


def _manifest(archive: Archive, digests: dict[str, str]) -> Manifest:
    recorder = archive.recorder
    try:
        return Manifest(
            name=archive.name,
            created=archive.created,
            status=archive.status,
            note=archive.note,
            kept=archive.kept,
            spec=SpecPart.of(archive.spec),
            policies=recorder.policies,
            shape=ShapePart(count=recorder.count, n=recorder.n, N=recorder.N, M=recorder.M),
            model=ModelPart(**archive.model),
            versions=dict(archive.versions),
            result=None if archive.result is None else ResultPart.of(archive.result),
            digests=digests,
            schema=SCHEMA,
        )
    except ValidationError as fault:
        raise LabError(f"this run cannot be saved: {faults_text(fault)}") from None


# ---- reading


def load(path: str | Path) -> Archive:
    """Read an archive. Raises LabError in one line for anything damaged, forged, too large, or too new."""
    path = Path(path)
    with _opened(path) as zipped:
        members = _members(zipped, path.name)
        manifest = _read_manifest(zipped, members, path.name)
        return _assemble(manifest, _Arrays(zipped, members, manifest.digests, path.name))


def read_manifest(path: Path) -> Manifest:
    """Read an archive's manifest without decompressing its arrays. Raises LabError like `load`."""
    with _opened(path) as zipped:
        return _read_manifest(zipped, _members(zipped, path.name), path.name)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as zipped:
            yield zipped
    except LabError:
        raise
    except OSError as fault:
        raise LabError(f"{path.name} cannot be read: {fault.strerror or reason(fault)}") from None
    except Exception as fault:  # whatever a forged file makes the readers stumble over
        raise LabError(f"{path.name} is not a run of this lab, or is damaged: {reason(fault)}") from None


def _members(zipped: zipfile.ZipFile, label: str) -> dict[str, zipfile.ZipInfo]:
    """Return members by name if names and stated sizes are as `save` writes; reading stops at that size."""
    members: dict[str, zipfile.ZipInfo] = {}
    for member in zipped.infolist():
        name = member.filename
        if name in members or not MEMBER.fullmatch(name):
            raise LabError(
                f"{label} holds {name[:60]!r}, which no run of this lab has: it is damaged or forged"
            )
        if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise LabError(f"{label}: {name} is encrypted or packed in a way that this lab does not use")
        members[name] = member
    total = sum(member.file_size for member in members.values())
    if total > LIMIT_BYTES:
        raise LabError(
            f"{label} inflates to {total / 1e6:.0f} MB: at most {LIMIT_BYTES / 1e6:.0f} MB are read"
        )
    if MANIFEST not in members:
        raise LabError(f"{label} is not a run of this lab: it has no {MANIFEST}")
    return members


def _read_manifest(zipped: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], label: str) -> Manifest:
    if members[MANIFEST].file_size > MANIFEST_BYTES:
        raise LabError(f"{label}: {MANIFEST} is larger than {MANIFEST_BYTES // 2**20} MB: it is forged")
    stored = parse_json(zipped.read(MANIFEST), f"{label} is damaged: {MANIFEST}", limit=MANIFEST_BYTES)
    if not isinstance(stored, dict) or stored.get("kind") != KIND:
        raise LabError(f"{label} is not a run of this lab: {MANIFEST} does not say so")
    schema = stored.get("schema")
    if schema != SCHEMA:
        newer = isinstance(schema, int) and schema > SCHEMA
        hint = ": it was made by a newer version of the lab, update this one" if newer else ""
        raise LabError(f"{label} has schema {schema!r}, this version reads {SCHEMA}{hint}")
    return validated(Manifest, stored, f"{label} is damaged")


@dataclass(frozen=True)
class _Arrays:
    """The arrays of an opened archive, each checked against its digest when it is read."""

    zipped: zipfile.ZipFile
    members: Mapping[str, zipfile.ZipInfo]
    digests: Mapping[str, str] | None
    label: str

    def read(self, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        """Return the array `name`. Raises LabError unless type, shape, and bytes match what was written."""
        if name not in self.members:
            raise LabError(f"{self.label} is damaged: {name} is missing")
        body = self.zipped.read(name)
        if self.digests is not None and hashlib.sha256(body).hexdigest() != self.digests.get(name):
            raise LabError(f"{self.label} is damaged: {name} is not what was saved")
        array = parse_npy(body, f"{self.label}: {name}")
        if array.dtype != dtype or array.shape != shape:
            part = Path(name).stem
            raise LabError(
                f"{self.label} is damaged: {part} is {array.dtype}{list(array.shape)}, not {dtype}{list(shape)}"
            )
        return array


def _assemble(manifest: Manifest, arrays: _Arrays) -> Archive:
    shape, spec = manifest.shape, manifest.spec.spec()
    recorder = Recorder(manifest.spec.steps, shape.n, shape.N, shape.M, spec.num)
    columns = {}
    for name in recorder.names:
        empty = recorder.column(name)
        columns[name] = arrays.read(f"columns/{name}.npy", empty.dtype, (shape.count, *empty.shape[1:]))
    if int(columns["reasons"].max()) > LAST_REASON:
        raise LabError(f"{arrays.label} is damaged: a decision has no meaning")
    recorder.extend(columns)
    recorder.policies.extend(manifest.policy_changes)
    result = None
    if manifest.result is not None:
        size, kind = (spec.num, shape.N, shape.M), np.dtype(np.float32)
        compared = manifest.result.comparison is not None
        twin = arrays.read("samples_uncached.npy", kind, size) if compared else None
        result = manifest.result.result(arrays.read("samples.npy", kind, size), twin)
    return Archive(
        name=manifest.name[:96],
        spec=spec,
        status=manifest.status,
        recorder=recorder,
        result=result,
        model=manifest.model.model_dump(),
        versions=manifest.versions,
        created=manifest.created,
        note=manifest.note[:NOTE_LENGTH],
        kept=manifest.kept,
    )
