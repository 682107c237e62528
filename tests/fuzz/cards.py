"""Targets that read JSON: policies, cards, configurations, and what else the lab keeps as text."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from e2crf_core.caching.policy import PRESETS, CachePolicy
from e2crf_core.commands.sample import load_policy_argument
from e2crf_core.data.datasets import Dataset, load_dataset
from e2crf_core.deploy.card import load_policy
from e2crf_core.deploy.html import to_html
from e2crf_core.evaluation.config import load_configs
from e2crf_core.models.checkpoints import list_checkpoints, load_checkpoint, read_card
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.sampler import Sampler
from tests.conftest import make_model
from tests.fuzz.mutate import changed_bytes, changed_members, json_bytes
from tests.fuzz.target import Input, Place, Target, json_of
from tests.fuzz.valid import POLICY
from tests.fuzz.watch import Unfit

MODEL = make_model()


def draws(config: SamplerConfig) -> None:
    """Draw with an accepted configuration, unless that is long."""
    sampler = Sampler.of(MODEL, config)
    if config.steps <= 60:
        series = sampler.sample(1, 0).series
        if not np.isfinite(series).all():
            raise Unfit(f"{config} draws numbers that are not finite")


def policy(case: Input, place: Place) -> None:
    """Read a policy file as the command line does."""
    read = load_policy_argument(str(place.write("policy.json", case.body)), PRESETS)
    if CachePolicy.from_json(read.to_json()) != read:
        raise Unfit("the policy changes when it is written and read")
    draws(SamplerConfig(read, 12, "ddim"))


def policy_card(case: Input, place: Place) -> None:
    """Read a policy card, write it again, and render its page."""
    card = load_policy(place.write("card.json", case.body))
    json.loads(card.to_json(), parse_constant=lambda name: _unfit(f"the card is written with {name}"))
    page = to_html(card)
    if "<img" in page or "<script" in page:
        raise Unfit("the page of a card holds a mark-up from the card")


def _unfit(text: str) -> None:
    raise Unfit(text)


def configs(case: Input, place: Place) -> None:
    """Read the configurations of an evaluation, and draw with each."""
    for config in load_configs(place.write("configs.json", case.body)).values():
        draws(config)


def model_card(case: Input, place: Place) -> None:
    """Load a checkpoint whose card or weights are foreign, list it among others, and sample from it."""
    own = place.folder / "home" / "checkpoints" / "own"
    shutil.copytree(place.valid / "model", own)
    (own / str(case.options["file"])).write_bytes(case.body)
    if "own" not in list_checkpoints():
        raise Unfit("a damaged checkpoint is missing in the list")
    read_card("own")
    model = load_checkpoint("own", "cpu")
    model.digest()
    series = Sampler(model, POLICY, steps=4, solver="ddim").sample(1, 0).series
    if series.shape != (1, model.length, len(model.channels)):
        raise Unfit(f"series have shape {series.shape}")


def dataset(case: Input, place: Place) -> None:
    """Load a data set whose card or arrays are foreign, and use it."""
    own = place.folder / "home" / "data" / "own"
    shutil.copytree(place.valid / "data", own)
    (own / str(case.options["file"])).write_bytes(case.body)
    use_dataset(load_dataset("own"))


def use_dataset(data: Dataset) -> None:
    """Use a data set as pages and trainings do."""
    if not len(data.channels) == data.x.shape[2] == len(data.units) == len(data.mean):
        raise Unfit("channels, units and windows of the data set do not agree")
    if not (data.digest and np.isfinite(data.std).all() and np.isfinite(data.localization).all()):
        raise Unfit("the scale of the data set is not finite")
    if len(data.train) and not np.isfinite(data.standardize(data.x[:8])).all():
        raise Unfit("the data set cannot be standardized")


def of_json(file: str, plain: Callable[[Path], object] | None = None) -> Callable[[Random, Path], Input]:
    """Return a maker of JSON like that of a valid file."""

    def make(rng: Random, valid: Path) -> Input:
        stored = plain(valid) if plain else json_of(valid / file)
        return Input(json_bytes(rng, stored), {"file": Path(file).name})

    return make


def of_bytes(file: str) -> Callable[[Random, Path], Input]:
    """Return a maker of files like a valid one."""

    def make(rng: Random, valid: Path) -> Input:
        return Input(changed_bytes(rng, (valid / file).read_bytes()), {"file": Path(file).name})

    return make


def forged(file: str) -> Callable[[Random, Path], Input]:
    """Return a maker of ZIP files like a valid one, whose members were changed and whose checksums fit."""

    def make(rng: Random, valid: Path) -> Input:
        body = changed_members(rng, (valid / file).read_bytes())
        return Input(changed_bytes(rng, body) if rng.random() < 0.15 else body, {"file": Path(file).name})

    return make


def extreme_policy(rng: Random) -> dict[str, Any]:
    """Return a policy whose fields are valid one by one, at the ends of their ranges or anywhere within."""
    values: dict[str, Any] = {}
    for field in fields(CachePolicy):
        meta = field.metadata
        low, high = meta["low"], meta["high"]
        if field.name == "bands":
            edges = sorted(rng.sample((1, 2, 5, 12, 13, 100, 10**6, 2**62), rng.choice((1, 2, 4))))
            values["bands"] = [[edge, rng.choice((low, 0.1, 1.0, high))] for edge in edges]
        elif meta["choices"]:
            values[field.name] = rng.choice(meta["choices"])
        elif field.type == "bool":
            values[field.name] = rng.random() < 0.5
        elif field.type == "int":
            values[field.name] = rng.choice((low, high, field.default, rng.randint(low, min(high, 20))))
        else:
            values[field.name] = rng.choice((low, high, field.default, rng.uniform(low, high), low or 1e-9))
    return values


def _policies(rng: Random, valid: Path) -> Input:
    if rng.random() < 0.5:
        return Input(json.dumps({"schema": 1, **extreme_policy(rng)}).encode())
    chosen = rng.choice((POLICY, *PRESETS.values(), CachePolicy.of("bands")))
    return Input(json_bytes(rng, {"schema": 1, **asdict(chosen)}))


TARGETS = (
    Target("policies", _policies, policy, 10),
    Target("policy cards", of_json("card/card.json"), policy_card, 8),
    Target("configurations", of_json("evaluation/configs.json"), configs, 8),
    Target("model cards", of_json("model/card.json"), model_card, 10),
    Target("weights", of_bytes("model/model.safetensors"), model_card, 4),
    Target("data cards", of_json("data/card.json"), dataset, 6),
    Target("data sets", forged("data/dataset.npz"), dataset, 5),
)
