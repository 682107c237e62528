"""Targets that hear from other programs: HTTP bodies, socket messages, addresses of pages, command lines."""

from __future__ import annotations

import contextlib
import io
import json
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import torch
from fastapi.testclient import TestClient

from e2crf_core.caching.policy import PRESETS
from e2crf_core.cli import main
from e2crf_core.errors import LabError
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.serving.requests import Limits
from e2crf_core.serving.server import make_app
from pages.ui.common.compared import settings_of
from pages.ui.live.live_packets import obey, read_message
from tests.conftest import make_model
from tests.fake_run import FakeRun
from tests.fuzz.cards import draws, extreme_policy
from tests.fuzz.mutate import json_bytes
from tests.fuzz.pages import ADDRESSED, value
from tests.fuzz.target import Input, Place, Target
from tests.fuzz.watch import ServerError, Unfit

LOCAL = "http://localhost"
BODY: dict[str, Any] = {"num": 2, "seed": 5, "policy": "fast", "steps": 8, "solver": "ddim", "grid": "linear"}
OWN_POLICY = {"trigger": "paper", "tau": 0.3, "k_low": 1, "bands": [[4, 0.1], [100, 0.5]]}


# ---- HTTP


@lru_cache(maxsize=1)
def _client() -> TestClient:
    """Return a client of a server in this process, with limits that keep every request short."""
    app = make_app(
        make_model(dtype=torch.float64),
        limits=Limits(num=2, steps=12, queue=4, batch=2),
        default=SamplerConfig(PRESETS["fast"], 10, "ddim"),
    )
    client = TestClient(app, base_url=LOCAL, raise_server_exceptions=True)
    return client.__enter__()


def _bodies(rng: Random, valid: Path) -> Input:
    stored = BODY | ({"policy": rng.choice((OWN_POLICY, extreme_policy(rng)))} if rng.random() < 0.5 else {})
    stored |= {"format": "npz"} if rng.random() < 0.2 else {}
    kinds = ("application/json",) * 8 + (
        "text/plain",
        "application/x-www-form-urlencoded",
        "",
        "application/json;x",
    )
    options: dict[str, Any] = {
        "path": rng.choice(("/samples", "/samples", "/events")),
        "kind": rng.choice(kinds),
    }
    if rng.random() < 0.05:
        options["path"] = rng.choice(
            ("/health", "/metrics", "/docs", "/openapi.json", "/none", "/samples/../x", "//")
        )
        options["method"] = rng.choice(("GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "QUERY"))
    if rng.random() < 0.05:
        options["host"] = rng.choice(
            ("evil.example", "localhost", "[::1]", "127.0.0.1:80", "a" * 300, "[", " ")
        )
    plain = rng.random() < 0.3
    return Input(json.dumps(stored).encode() if plain else json_bytes(rng, stored), options)


def _inferences(rng: Random, valid: Path) -> Input:
    """Return a request of the Open Inference Protocol, perhaps with tensors in binary."""
    stated = {"num": ("INT64", 2), "seed": ("UINT32", 5), "steps": ("INT32", 8), "policy": ("BYTES", "fast"),
              "solver": ("BYTES", "ddim"), "grid": ("BYTES", "linear")}  # fmt: skip
    inputs = [
        {"name": name, "datatype": kind, "shape": [1], "data": [item]}
        for name, (kind, item) in stated.items()
        if rng.random() < 0.6
    ]
    binary = rng.random() < 0.3
    stored = {
        "inputs": inputs,
        "outputs": [{"name": "samples"}],
        "parameters": {"binary_data_output": binary},
    }
    body = json.dumps(stored).encode() if rng.random() < 0.4 else json_bytes(rng, stored)
    options: dict[str, Any] = {"path": "/v2/models/test/infer", "kind": "application/json"}
    if rng.random() < 0.3:
        size = rng.choice((str(len(body)), "0", "-1", "x", "9" * 20, str(len(body) - 1)))
        options["headers"] = {"inference-header-content-length": size}
        body += rng.randbytes(rng.choice((0, 1, 4, 8, 100)))
    if rng.random() < 0.1:
        options["path"] = rng.choice(
            ("/v2/models/none/infer", "/v2/models/test/versions/1/infer", "/v2/models/%00")
        )
    return Input(body, options)


def _questions(rng: Random, valid: Path) -> Input:
    """Return a request to impute, forecast or score a series with missing values."""
    rows: list[list[float | None]] = [[rng.gauss(0, 1), rng.choice((None, 1.0, 1e29))] for _ in range(24)]
    path = rng.choice(("/impute", "/forecast", "/score"))
    stored: dict[str, Any] = {"num": 2, "steps": 4, "seed": 1, "level": rng.choice((0.9, 0.011, 0.99))}
    if path == "/impute":
        stored["series"] = rows
    elif path == "/forecast":
        stored |= {"history": rows[: rng.randint(1, 24)], "horizon": rng.choice((1, 4, 23, 24))}
    else:
        stored = {
            "series": rows * rng.choice((1, 3)),
            "hop": rng.choice((None, 1, 24, 25)),
            "false_alarms": 0.1,
        }
    plain = rng.random() < 0.4
    body = json.dumps(stored).encode() if plain else json_bytes(rng, stored)
    return Input(body, {"path": path, "kind": "application/json"})


def bodies(case: Input, place: Place) -> None:
    """Send a request; the server answers anything but 5xx."""
    options = case.options
    headers = {"content-type": options["kind"]} | ({"host": options["host"]} if "host" in options else {})
    headers |= options.get("headers", {})
    try:
        answer = _client().request(
            options.get("method", "POST"), options["path"], content=case.body, headers=headers
        )
    except (UnicodeError, ValueError) as fault:
        if type(fault).__module__.startswith("httpx"):
            raise LabError("the client cannot send that") from None
        raise
    if answer.status_code >= 500:
        raise ServerError(f"{answer.status_code} {answer.text[:200]}")
    if answer.status_code >= 400:
        raise LabError(f"status {answer.status_code}")
    if (
        options["path"] == "/samples"
        and options["kind"] == "application/json"
        and '"error"' in answer.text[:40]
    ):
        raise Unfit(answer.text[:200])


# ---- the live socket


def _messages(rng: Random, valid: Path) -> Input:
    stored: Any = rng.choice(
        (
            {"type": "policy", "changes": {"tau": 0.3, "k_low": 2}},
            {"type": "policy", "changes": {"tau_safe": 0.1, "tau_warn": 0.4, "trigger": "paper"}},
            {"type": "pace", "value": 50},
            {"type": rng.choice(("pause", "resume", "step", "stop", "skip_compare", "shown", "resync"))},
        )
    )
    return Input(json_bytes(rng, stored))


def messages(case: Input, place: Place) -> None:
    """Hear a message of a viewer; the run keeps a policy that can run."""
    run: Any = FakeRun(steps=4)
    message = read_message(case.text)
    if message.get("type") not in ("shown", "resync"):
        obey(run, message)
    json.loads(run.policy.to_json(), parse_constant=_no_constant)
    draws(SamplerConfig(run.policy, 4, "ddim"))
    if not 0 <= run.pace <= 1e6:
        raise Unfit(f"pace {run.pace}")


def _no_constant(name: str) -> None:
    raise Unfit(f"the policy holds {name}")


# ---- addresses


def _settings(rng: Random, valid: Path) -> Input:
    parts = ADDRESSED[0].replace(";", ",").split(",")
    for _ in range(rng.choice((1, 1, 2, 4))):
        parts[rng.randrange(len(parts))] = value(rng)
    text = ",".join(parts[:6]) + ";" + ",".join(parts[6:])
    return Input(text.encode("utf-8", "replace"))


def settings(case: Input, place: Place) -> None:
    """Read the settings to compare from an address."""
    from pages.ui.common.compared import config_of, name_of

    for setting in settings_of(case.text):
        name_of(setting)
        draws(config_of(setting))


# ---- command lines

SHORT = ("", " ", "nan", "inf", "-inf", "1e999", "-1", "0", "x", "1.5", "٣", "9" * 20, "-" + "9" * 20, "../x", "a\nb",
         "é", "1e-300", "3:2", ":", ",", "a,b", "none", "all", "None", "[1]", "{}", "ddim:2", "ddim:nan",
         "cuda:99", "meta", "mps", "/", ".", "~", "1_0", "0x1", "True", "a" * 300)  # fmt: skip
"""Values that no command can spend long on."""
COMMANDS: dict[str, tuple[str, ...]] = {
    "sample --num 1 --steps 4 --out {out}.npz": (
        "checkpoint", "steps", "num", "policy", "seed", "solver", "grid", "batch", "device", "out"),
    "eval --num 2 --repeats 1 --configs {valid}/evaluation/configs.json --out {out}": (
        "num", "repeats", "seed", "batch", "directions", "device", "out", "configs"),
    "train --data {valid}/data --steps 1 --batch 2 --out {out}": (
        "data", "preset", "minutes", "batch", "seed", "patience", "truncation", "bands", "device", "threads"),
    "tune --minutes 0.01 --trials 1 --num 2 --batch 2 --steps 4:6 --out {out}": (
        "minutes", "trials", "num", "batch", "seed", "quality", "cost", "solvers", "grids", "steps", "triggers",
        "fields", "reference-steps", "latency-ms", "quality-budget", "workers", "device"),
    "deploy --num 2 --batch 2 --steps 4 --out {out}": (
        "policy", "steps", "solver", "grid", "num", "batch", "seed", "device", "study"),
    "export --steps 4 --out {out}": ("policy", "steps", "solver", "grid", "format", "card"),
    "check --card {valid}/card/card.json": ("card", "device"),
    "card --checkpoint {valid}/model": ("seed",),
    "info": ("checkpoint",),
    "impute {valid}/tables/rates.csv --num 2 --steps 4 --out {out}.csv": (
        "num", "level", "steps", "seed", "device", "channels", "time", "missing", "policy", "out"),
    "forecast {valid}/tables/rates.csv --horizon 2 --num 2 --steps 4 --out {out}.csv": (
        "horizon", "num", "level", "steps", "seed", "channels", "time", "policy"),
    "score {valid}/tables/rates.csv --normal {valid}/tables/rates.csv --out {out}.csv": (
        "false-alarms", "hop", "seed", "channels", "time", "missing", "normal", "device", "out"),
    "localize --steps 1 --minutes 0.01 --out {out}": ("steps", "minutes", "bands", "seed", "half", "threads"),
    "cluster evaluate --num 2 --steps 4 --shard 2 --out {out}": (
        "policy", "steps", "solver", "grid", "num", "shard", "batch", "seed", "gpus", "device"),
    "serve --host 203.0.113.1 --token x": ("port", "threads", "max-num", "max-steps", "queue", "batch", "card"),
    "data preview {valid}/tables/rates.csv": ("window", "stride", "group", "time", "tz", "skip", "header", "axes"),
    "data import {valid}/tables/rates.csv --window 16 --out {out}": (
        "window", "stride", "gaps", "max-gap", "resample", "title", "decimal", "date-order", "tz", "channels"),
    "data original ecg {valid}/tables --out {out}": ("out",),
}  # fmt: skip


def _lines(rng: Random, valid: Path) -> Input:
    line = rng.choice(sorted(COMMANDS))
    changes = {rng.choice(COMMANDS[line]): rng.choice(SHORT) for _ in range(rng.choice((1, 1, 2)))}
    return Input(b"", {"line": line, "changes": changes})


def lines(case: Input, place: Place) -> None:
    """Run a command line with one or two foreign values: it ends with 0, 1 or 2, and one line if refused."""
    line, changes = case.options["line"], case.options["changes"]
    argv = [part.format(out=place.folder / "out", valid=place.valid) for part in line.split()]
    if "checkpoint" not in changes and line.split()[0] not in _NO_CHECKPOINT:
        argv += ["--checkpoint", str(place.valid / "model")]
    argv += [f"--{name}={value}" for name, value in changes.items()]
    out, errors = io.StringIO(), io.StringIO()
    threads = torch.get_num_threads()
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(errors),
            contextlib.chdir(place.folder),
        ):
            code = main(argv)
    finally:
        torch.set_num_threads(threads)
    if code in (0, 1):
        return
    said = errors.getvalue().splitlines()
    if code != 2 or not said[-1].startswith("error: "):
        raise Unfit(f"exit code {code}, last line {said[-1:]}")
    raise LabError(said[-1].removeprefix("error: "))


_NO_CHECKPOINT = {"train", "check", "card", "data", "localize"}

TARGETS = (
    Target("HTTP bodies", _bodies, bodies, 14),
    Target("inference requests", _inferences, bodies, 6),
    Target("questions over HTTP", _questions, bodies, 6),
    Target("socket messages", _messages, messages, 10),
    Target("settings in addresses", _settings, settings, 6),
    Target("command lines", _lines, lines, 6),
)
