"""The error to the uncached twin at every step of a run, computed once for each step."""

import weakref

import numpy as np

from e2crf_core.runs.run import RunHandle
from e2crf_core.runs.twin import step_errors

_known: weakref.WeakKeyDictionary[RunHandle, np.ndarray] = weakref.WeakKeyDictionary()


def errors_of(handle: RunHandle, count: int) -> np.ndarray | None:
    """Return (count,) relative L2 of the watched sample's estimate to its twin's; None while there is no twin."""
    twin, recorder, model = handle.twin, handle.recorder, handle.model
    if twin is None or recorder is None or model is None or not count:
        return None
    errors = _known.get(handle, np.empty(0, np.float32))
    fresh = slice(len(errors), count)
    if len(errors) < count:
        made = step_errors(model, recorder.column("x0")[fresh], twin.path[fresh])
        errors = _known[handle] = np.concatenate([errors, made.astype(np.float32)])
    return errors[:count]
