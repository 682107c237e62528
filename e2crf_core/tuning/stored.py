"""Define what a study stores, sealed by digests, because databases do not notice a changed value.

Each attribute of the study and each measured trial is stored with the SHA-256 of its content, which is
checked when it is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial, TrialState

from e2crf_core.errors import LabError
from e2crf_core.tuning.measure import MORE, Point

SCHEMA = 3
UNSEALED = (1, 2)
"""Earlier schemas, whose studies have no digests: they can be chosen from but not continued."""
CUT = "cut short"
"""Why a trial failed that was interrupted; it is tried again."""
ATTRIBUTES = (
    "fingerprint",
    "space",
    "machine",
    "twin",
    "reference",
    "floor",
    "no_network",
    "spreads",
    "spent",
    "driver",
    "retried",
    MORE,
)
T = TypeVar("T")


def sealed(value: Any) -> dict[str, Any]:
    """Return a JSON value with its digest."""
    return {"value": value, "sha256": _digest(value)}


def unsealed(stored: Any, label: str) -> Any:
    """Invert `sealed`. Raises LabError unless the value is what was sealed."""
    whole = isinstance(stored, dict) and stored.keys() == {"value", "sha256"}
    if not whole or stored["sha256"] != _digest(stored["value"]):
        raise LabError(f"{label} is damaged: it is not what was stored")
    return stored["value"]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def read_attributes(study: optuna.Study) -> dict[str, Any]:
    """Return the attributes of a study by name. Raises LabError if one is not what was stored."""
    stored = study.user_attrs
    mark = stored.get("fingerprint")
    if isinstance(mark, dict) and mark.get("schema") in UNSEALED:
        return stored
    unknown = sorted(stored.keys() - set(ATTRIBUTES))
    if unknown:
        raise LabError(f"it is damaged: no study has an attribute {unknown[0][:40]!r}")
    return {name: unsealed(value, f"its {name}") for name, value in stored.items()}


def set_attribute(study: optuna.Study, name: str, value: Any) -> None:
    """Store an attribute of a study, one of ATTRIBUTES."""
    study.set_user_attr(name, sealed(value))


def queue(study: optuna.Study, params: dict[str, Any], origin: str) -> None:
    """Add a trial that was not proposed by the search."""
    order = sealed({"params": params, "origin": origin})
    study.enqueue_trial(params, user_attrs={"origin": origin, "order": order})


def ordered_params(trial: FrozenTrial) -> dict[str, Any] | None:
    """Return the parameters that a trial was queued with, None if the search proposed it. Raises LabError."""
    params = trial.system_attrs.get("fixed_params")
    if "order" in trial.user_attrs:
        label = f"trial {trial.number}"
        order = unsealed(trial.user_attrs["order"], label)
        if order != {"params": params, "origin": trial.user_attrs.get("origin")}:
            raise LabError(f"{label} is damaged: it is not what was stored")
    return params


def stored_point(point: Point, trial: FrozenTrial) -> dict[str, Any]:
    """Return what is stored of a measured trial."""
    return sealed({"point": point.to_json(), **_proposal(trial)})


def measured_point(trial: FrozenTrial, cost: str, schema: int) -> Point | None:
    """Return the point of a trial, None if it was not measured. Raises LabError if it is not what was stored."""
    if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED):
        return None
    stored = trial.user_attrs.get("point")
    if schema in UNSEALED:
        return Point.from_json(stored) if stored else None
    label = f"trial {trial.number}"
    kept = unsealed(stored, label)
    point = Point.from_json(kept.pop("point"))
    values = [point.last.cost(cost), point.last.quality] if point.complete else None
    whole = kept == _proposal(trial) and point.number == trial.number and values == trial.values
    if not whole or point.complete != (trial.state == TrialState.COMPLETE):
        raise LabError(f"{label} is damaged: it is not what was stored")
    return point


def why_failed(trial: FrozenTrial, schema: int = SCHEMA) -> str:
    """Return why a trial has no point. Raises LabError if that is not what was stored."""
    stored = trial.user_attrs.get("why", CUT if schema in UNSEALED else None)
    return str(stored if schema in UNSEALED else unsealed(stored, f"trial {trial.number}"))


def _proposal(trial: FrozenTrial) -> dict[str, Any]:
    """Return what the search learns from, as plain JSON values."""
    spans = {name: distribution_to_json(span) for name, span in trial.distributions.items()}
    return {"params": trial.params, "distributions": spans}


def guarded(folder: Path, action: Callable[[], T]) -> T:
    """Return `action()`; whatever it raises becomes one LabError about the study in `folder`."""
    try:
        return action()
    except LabError as fault:
        problem = f"the study in {folder} cannot be read: {fault.problem}"
        raise LabError(problem, field=fault.field, remedy=fault.remedy) from None
    except Exception as fault:  # a stranger's file may break the storage, or any of the JSON in it, anywhere
        reason = " ".join(str(fault).split())[:160]
        raise LabError(f"the study in {folder} is damaged: {type(fault).__name__}: {reason}") from None
