"""What the Anatomy canvas receives: a recorded run, the view that was asked for, and the layer errors."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from e2crf_core.caching.policy import CachePolicy
from e2crf_core.errors import LabError
from e2crf_core.io.packet import pack
from e2crf_core.runs.archive import Archive
from e2crf_core.runs.recording import ASKED, recording_parts
from e2crf_core.runs.run import RunSpec
from e2crf_core.runs.whatif import refusal
from e2crf_core.sampling.calibrations import is_calibrated
from e2crf_core.sampling.forecast import predict_bands
from e2crf_core.sampling.sampler import Sampler
from pages.ui.anatomy.layer_job import LayerJob
from pages.ui.common.kept_runs import model_of
from pages.ui.common.messages import sentence
from pages.ui.common.reference import recorded_reference


def layers_block(archive: Archive, job: LayerJob | None) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the state of this run's layer errors: a header and, once measured, arrays."""
    if job is not None and job.result is not None:
        table = job.result
        header = {"state": "there", "text": "", "names": list(table.names), "changed": table.changed}
        return header, {"layers_kept": table.kept, "layers_used": table.used}
    seconds = float(archive.recorder.column("seconds").sum())
    text = (
        f"Runs the record again once ({seconds:.1f} s of computing when it was made) and compares every step "
        "with a fresh forward of all tokens."
    )
    if job is not None and job.status == "failed":
        return {"state": "idle", "text": f"That failed: {sentence(job.error)}"}, {}
    try:
        model_of(archive.spec.checkpoint, archive.model["digest"])
    except LabError as fault:
        return {"state": "refused", "text": f"The layers cannot be shown. {sentence(str(fault))}"}, {}
    return {"state": "idle" if job is None else job.status, "text": text}, {}


def recording_packet(
    archive: Archive, key: str, view: Mapping[str, Any], confirmable: bool, job: LayerJob | None = None
) -> bytes:
    """Pack all steps of a run, its reference, what a what-if needs, and the layer errors if measured."""

    def model() -> Any:
        return model_of(archive.spec.checkpoint, archive.model["digest"])

    header, arrays = recording_parts(archive, model, recorded_reference(archive))
    layers, more = layers_block(archive, job)
    own = {
        "key": key,
        "view": dict(view),
        "confirmable": confirmable,
        "inside": layers,
        "foresees": is_measured(archive),
    }
    return pack({**header, **own}, {**arrays, **more})


def is_measured(archive: Archive) -> bool:
    """Return whether errors of this network are known for the run's plan, so that they can be predicted."""
    try:
        model = model_of(archive.spec.checkpoint, archive.model["digest"])
        return is_calibrated(model, Sampler.of(model, archive.spec.config).plan)
    except LabError:
        return False


def foreseen_bands(archive: Archive, changes: Mapping[str, Any]) -> tuple[tuple[int, int, float], ...]:
    """Predict the error by band of a what-if. Raises LabError where only a run can tell."""
    if not is_measured(archive):
        raise LabError("the errors of this network have not been measured for this plan")
    model = model_of(archive.spec.checkpoint, archive.model["digest"])
    return predict_bands(model, confirmed_spec(archive, changes).config)


def confirmed_spec(archive: Archive, changes: Mapping[str, Any]) -> RunSpec:
    """Return the spec of the real run and its twin that a what-if asks for. Raises LabError for a bad policy."""
    policy = archive.recorder.policies[-1][2]
    if refusal(archive, policy):
        policy = CachePolicy(trigger="log_snr")
    allowed = {name: changes[name] for name in (*ASKED, "trigger") if name in changes}
    config = replace(archive.spec.config, policy=policy.replace(**allowed))
    return replace(archive.spec, config=config, compare=True, pace=0.0)
