"""Write a study to files: all measurements as study.json, the chosen policy as policy.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from e2crf_core.io.files import text_writer
from e2crf_core.io.sets import write_set
from e2crf_core.tuning.choice import Choice, importance
from e2crf_core.tuning.stored import read_attributes
from e2crf_core.tuning.study import Study
from e2crf_core.tuning.warnings import Caution, Inert


def summary(study: Study, choice: Choice, inert: Sequence[Inert], told: Sequence[Caution]) -> dict[str, Any]:
    """Return a study as plain JSON values: all points, front, choice, importance, warnings."""
    assert study.reference is not None
    spec = study.spec
    return {
        "checkpoint": study.model.name,
        "digest": study.model.digest(),
        "dataset": study.dataset.name,
        "spec": asdict(spec),
        "space": study.space.to_json(),
        "machine": read_attributes(study.study).get("machine"),
        "spent_seconds": study.spent,
        "floor": study.floor,
        "no_network": study.no_network,
        "reference": study.reference.to_json(),
        "points": [p.to_json() for p in study.points],
        "front": [p.number for p in study.front()],
        "choice": {
            "number": choice.point.number,
            "why": choice.why,
            "within": choice.within,
            "needed": choice.needed,
        },
        "importance": importance(study.study),
        "inert": [asdict(i) for i in inert],
        "warnings": [asdict(w) for w in told],
    }


def save_report(
    study: Study, choice: Choice, inert: Sequence[Inert], told: Sequence[Caution]
) -> dict[str, Any]:
    """Write the summary as study.json, and the chosen policy as policy.json, into the study's folder."""
    report = summary(study, choice, inert, told)
    texts = {"study.json": json.dumps(report)}
    policy = choice.point.setting.policy
    if policy is not None:
        texts["policy.json"] = policy.to_json()
    write_set(study.out, {name: text_writer(text + "\n") for name, text in texts.items()})
    return report
