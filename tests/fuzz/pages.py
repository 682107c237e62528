"""Targets that open whole pages: by foreign addresses, and in a home whose files are foreign."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

from e2crf_core.io.resources import assets_dir
from e2crf_core.models.training import TrainSpec
from tests.fuzz.files import changed_study, forged
from tests.fuzz.mutate import NUMBERS, TEXTS, any_value, changed_bytes, json_bytes
from tests.fuzz.target import Input, Place, Target, json_of
from tests.fuzz.valid import ROOT
from tests.fuzz.watch import Unfit
from tests.visits import PAGES, opened, text

PARAMETERS = (
    "run", "net", "pins", "setting", "steps", "num", "seed", "policy", "checkpoint", "lesson", "dataset", "v",
    "step", "k", "channel", "view", "map", "tau", "trigger", "k_low", "refresh_every", "probe_share", "study",
    "trial", "latency", "budget", "hide", "cost", "quality", "set", "model", "job", "data", "families", "what",
    "preset", "minutes", "from", "error", "x", "ask", "gap", "horizon", "window", "way", "calls", "plant",
    "size",
)  # fmt: skip
ADDRESSED = ("exact,,,ddim,linear,20;fast,0.3,,ddim,linear,20", '{"tau":0.5}', "demo", "100", "ecg", "paper")


def value(rng: Random) -> str:
    """Return the value of a parameter in an address."""
    way = rng.random()
    if way < 0.25:
        return rng.choice(ADDRESSED)
    if way < 0.45:
        return changed_bytes(rng, rng.choice(ADDRESSED).encode()).decode("utf-8", "replace")
    if way < 0.6:
        return str(rng.choice(NUMBERS))
    if way < 0.7:
        return json.dumps(any_value(rng))
    return rng.choice(TEXTS)


def _addresses(rng: Random, valid: Path) -> Input:
    names = rng.sample(PARAMETERS, rng.choice((3, 6, len(PARAMETERS))))
    return Input(b"", {"page": rng.choice((None, *PAGES)), "query": {name: value(rng) for name in names}})


def addresses(case: Input, place: Place) -> None:
    """Open a page by a foreign address."""
    opened(case.options["page"], **case.options["query"])


# ---- homes

ORDER = {"spec": asdict(TrainSpec("wind", steps=9)), "threads": 1}
STATE = {
    "status": "training",
    "share": 0.5,
    "step": 4,
    "steps": 9,
    "history": [{"step": 4, "loss": 1.0, "heldout": 1.1}],
}
SEARCH = {
    "task": "search", "checkpoint": "ecg", "spec": {"num": 8, "batch": 2}, "minutes": 1.0,
    "space": {"triggers": ["paper"], "fields": ["tau"], "solvers": ["ddim"], "grids": ["linear"], "steps": [4, 8]},
}  # fmt: skip
HOMES: dict[str, tuple[str, str, dict[str, str]]] = {
    "model card": ("checkpoints/own/card.json", "models", {"checkpoint": "own"}),
    "data card": ("data/own/card.json", "data", {"set": "own"}),
    "run": ("runs/own.zip", "anatomy", {"run": "own"}),
    "runs": ("runs/own.zip", "runs", {"run": "own"}),
    "study": ("studies/own/study.db", "tune", {"study": "own"}),
    "search": ("studies/own/jobs/search/job.json", "tune", {"study": "own"}),
    "searched": ("studies/own/jobs/search/progress.json", "tune", {"study": "own"}),
    "training": ("checkpoints/own/training/job.json", "training", {"job": "own"}),
    "trained": ("checkpoints/own/training/progress.json", "training", {"job": "own"}),
    "solver study": ("results/solver_study_cpu.json", "evidence", {"view": "solvers"}),
    "trigger study": ("results/trigger_study.json", "evidence", {"view": "triggers"}),
}
"""The foreign file in a home, and the page that shows it."""


def _home(rng: Random, valid: Path) -> Input:
    kind = rng.choice(sorted(HOMES))
    if kind in ("run", "runs"):
        body = forged(rng, (valid / "run.zip").read_bytes())
    elif kind == "study":
        body = changed_study(rng, valid)
    else:
        body = json_bytes(rng, _stored(kind, valid))
    return Input(body, {"kind": kind})


def _stored(kind: str, valid: Path) -> Any:
    plain = {"search": SEARCH, "searched": STATE, "training": ORDER, "trained": STATE}
    if kind in plain:
        return plain[kind]
    if kind == "model card":
        return json_of(assets_dir() / "checkpoints" / "ecg" / "card.json")
    if kind == "data card":
        return json_of(valid / "data" / "card.json")
    return json_of(ROOT / "benchmarks" / HOMES[kind][0])


def home(case: Input, place: Place) -> None:
    """Open the page that shows a foreign file among valid ones."""
    own = place.folder / "home"
    shutil.copytree(place.valid / "data", own / "data" / "own")
    shutil.copytree(place.valid / "study", own / "studies" / "own")
    shutil.copytree(assets_dir() / "checkpoints" / "ecg", own / "checkpoints" / "own")
    place.write("home/checkpoints/own/training/job.json", json.dumps(ORDER).encode())
    place.write("home/studies/own/jobs/search/job.json", json.dumps(SEARCH).encode())
    file, page, query = HOMES[case.options["kind"]]
    place.write(f"home/{file}", case.body)
    os.environ["E2CRF_RESULTS"] = str(own / "results")
    try:
        shown = text(opened(page, **query))
    finally:
        del os.environ["E2CRF_RESULTS"]
    if "](http" in shown.replace("](https://arxiv.org", "").replace(r"\]", "").replace(r"\(", ""):
        raise Unfit("a page shows a link from a file")


TARGETS = (Target("addresses", _addresses, addresses, 0.3), Target("homes", _home, home, 0.6))
