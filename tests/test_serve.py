"""The server as clients see it: samples, events, limits, batches, and work that ends when nobody waits."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
import uvicorn
from fastapi.testclient import TestClient

from e2crf_core import LabError, Sampler
from e2crf_core.caching.policy import PRESETS, CachePolicy
from e2crf_core.cli import main
from e2crf_core.models.checkpoints import save_checkpoint
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.serving.batching import SampleJob
from e2crf_core.serving.connections import TimedConnection, server_config
from e2crf_core.serving.guards import MAX_BODY
from e2crf_core.serving.queue import QueueFull, SampleQueue
from e2crf_core.serving.requests import Limits
from e2crf_core.serving.server import make_app
from tests.conftest import make_model
from tests.waiting import PATIENCE_S

MODEL = make_model(dtype=torch.float64)
FAST = SamplerConfig(PRESETS["fast"], 20, "ddim")
LOCAL = "http://localhost"
BODY: dict[str, Any] = {"num": 2, "seed": 5, "policy": "fast", "steps": 20, "solver": "ddim"}


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(
        make_app(MODEL, limits=Limits(num=8, steps=200, queue=4, batch=6)), base_url=LOCAL
    ) as client:
        yield client


def expected(body: dict[str, Any]) -> np.ndarray:
    sampler = Sampler(MODEL, PRESETS[body["policy"]], steps=body["steps"], solver=body["solver"])
    return sampler.sample(body["num"], body["seed"]).series


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.005)


class Asked:
    """A job on whose end a test can wait."""

    def __init__(
        self, queue: SampleQueue, config: SamplerConfig, num: int, seed: int, **options: Any
    ) -> None:
        self.ended = threading.Event()
        self.job = SampleJob(config, num, seed, done=self.ended.set, **options)
        queue.submit(self.job)

    def series(self) -> np.ndarray:
        assert self.ended.wait(PATIENCE_S) and self.job.answer is not None, self.job.error
        return self.job.answer.series


@contextmanager
def held(queue: SampleQueue) -> Iterator[threading.Event]:
    """Hold the worker in the first step of a one-sample job until the event is set."""
    go, inside = threading.Event(), threading.Event()

    def wait(_: object) -> None:
        inside.set()
        assert go.wait(PATIENCE_S)

    blocker = Asked(queue, SamplerConfig(PRESETS["exact"], 12, "ddim"), 1, 0, on_event=wait)
    assert inside.wait(PATIENCE_S)
    try:
        yield go
    finally:
        go.set()
        blocker.ended.wait(PATIENCE_S)
        queue.release(blocker.job)


def test_a_server_runs_what_it_can_on_its_backend() -> None:
    model = make_model(dtype=torch.float32)
    config = SamplerConfig(PRESETS["fast"], 20, "ddim", backend="eager-bf16")
    alone = CachePolicy(trigger="gain", tau=0.3)
    with TestClient(make_app(model, default=config), base_url=LOCAL) as client:
        assert client.get("/health").json()["backend"] == "eager-bf16"
        ways = {
            "eager-bf16": ({}, PRESETS["fast"]),
            "eager": ({"policy": {"trigger": "gain", "tau": 0.3}}, alone),
        }
        for backend, (stated, policy) in ways.items():
            answer = client.post("/samples", json={"num": 2, "seed": 5, **stated})
            sampler = Sampler.of(model, replace(config, policy=policy, backend=backend))
            np.testing.assert_allclose(answer.json()["samples"], sampler.sample(2, 5).series, rtol=1e-6)
    plain = Sampler.of(model, replace(config, backend="eager")).sample(2, 5).series
    half = Sampler.of(model, config).sample(2, 5).series
    assert np.abs(plain - half).max() > 1e-6, "lower precision must show"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--backend", "gpu"], ["unknown backend 'gpu'", "onnxruntime"]),
        (["--backend", "cudagraphs", "--device", "cpu"], ["needs an NVIDIA GPU"]),
    ],
)
def test_a_backend_that_cannot_run_is_refused_before_the_server_listens(
    options: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_checkpoint(make_model(dtype=torch.float32), tmp_path / "model")
    assert main(["serve", "--checkpoint", str(tmp_path / "model"), *options]) == 2
    message = capsys.readouterr().err
    assert all(word in message for word in words)


def test_samples_are_those_of_the_sampler_in_json_and_npz(client: TestClient) -> None:
    answer = client.post("/samples", json=BODY)
    assert answer.status_code == 200
    told = answer.json()
    np.testing.assert_allclose(told["samples"], expected(BODY), rtol=1e-5, atol=1e-6)
    assert told["channels"] == ["c0", "c1"] and 0 < told["token_share"] < 1
    packed = client.post("/samples", json=BODY | {"format": "npz"})
    with np.load(io.BytesIO(packed.content), allow_pickle=False) as stored:
        np.testing.assert_allclose(stored["samples"], expected(BODY), rtol=1e-5, atol=1e-6)
    policy = json.loads(PRESETS["fast"].to_json())
    policy.pop("schema")
    own = client.post("/samples", json=BODY | {"policy": policy, "num": 2.0})
    assert own.json()["samples"] == told["samples"]


def test_events_come_step_by_step_and_end_with_the_samples(client: TestClient) -> None:
    with client.stream("POST", "/events", json=BODY) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in stream.iter_lines() if line]
    names = [line.split(": ", 1)[1] for line in lines if line.startswith("event")]
    data = [json.loads(line.split(": ", 1)[1]) for line in lines if line.startswith("data")]
    assert names == ["step"] * 20 + ["samples"]
    assert [d["step"] for d in data[:-1]] == list(range(20)) and len(data[0]["reasons"]) == MODEL.n
    share = np.mean([np.mean(np.array(d["reasons"]) > 0) for d in data[:-1]])
    assert share == pytest.approx(data[-1]["token_share"], abs=0.2)
    np.testing.assert_allclose(data[-1]["samples"], expected(BODY), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"num": 9}, 422),
        ({"num": 0}, 422),
        ({"num": "2"}, 422),
        ({"num": True}, 422),
        ({"steps": 201}, 422),
        ({"seed": -1}, 422),
        ({"seed": 2**53}, 422),
        ({"solver": "rk45"}, 422),
        ({"solver": "ddim:1.5"}, 422),
        ({"solver": "ddim:0.5\n"}, 422),
        ({"policy": "bogus"}, 422),
        ({"policy": {"tau": -1}}, 422),
        ({"policy": {"tua": 1}}, 422),
        ({"policy": {"bands": []}}, 422),
        ({"surprise": 1}, 422),
        ({"solver": "heun"}, 409),
        ({"solver": "euler_maruyama", "steps": 5}, 409),
        ({"policy": {"trigger": "fixed"}}, 409),
        ({"policy": {"bands": [[5, 0.1], [3, 0.1]]}}, 409),
    ],
)
def test_wrong_requests_are_told_so(client: TestClient, change: dict[str, Any], status: int) -> None:
    answer = client.post("/samples", json=BODY | change)
    assert answer.status_code == status and answer.json()["detail"]
    assert client.get("/health").json()["queue"] == 0


def test_bodies_that_are_no_json_or_too_large_are_refused(client: TestClient) -> None:
    kind = {"content-type": "application/json"}
    assert client.post("/samples", content=b"{", headers=kind).status_code == 422
    assert client.post("/samples", content=b"\xff\xfe", headers=kind).status_code in (400, 422)
    assert client.post("/samples", content=b"[" * 60_000, headers=kind).status_code in (400, 422)
    assert client.post("/samples", content=b" " * (MAX_BODY + 1), headers=kind).status_code == 413

    def chunks() -> Iterator[bytes]:
        for _ in range(MAX_BODY // 1000 + 2):
            yield b" " * 1000

    assert client.post("/samples", content=chunks(), headers=kind).status_code == 413


@pytest.mark.parametrize("solver", ["ddim:0", "ddim:0.25", "ddim:1"])
def test_ddim_with_any_share_of_ancestral_noise_is_served(client: TestClient, solver: str) -> None:
    answer = client.post("/samples", json=BODY | {"solver": solver})
    np.testing.assert_allclose(
        answer.json()["samples"], expected(BODY | {"solver": solver}), rtol=1e-5, atol=1e-6
    )


def test_a_token_is_asked_for_when_set() -> None:
    with TestClient(make_app(MODEL, token="secret"), base_url=LOCAL) as client:
        assert client.get("/health").status_code == 200
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic secret"}):
            for call in (client.get("/metrics", headers=headers), client.post("/samples", headers=headers)):
                assert call.status_code == 401 and call.headers["WWW-Authenticate"] == "Bearer"
        right = {"Authorization": "Bearer secret"}
        assert client.post("/samples", json=BODY, headers=right).status_code == 200
        assert client.get("/metrics", headers=right).status_code == 200


def test_metrics_count_what_was_done(client: TestClient) -> None:
    client.post("/samples", json=BODY)
    text = client.get("/metrics").text
    for line in (
        'e2crf_requests_total{outcome="done"} 1.0',
        "e2crf_samples_total 2.0",
        "e2crf_sample_steps_total 40.0",
        "e2crf_queue_seconds_count 1.0",
        "e2crf_queue_jobs 0.0",
    ):
        assert line in text.splitlines(), line


def test_compatible_requests_run_together_and_are_not_mixed() -> None:
    with SampleQueue(MODEL, batch=16) as queue:
        with held(queue):
            asked = [Asked(queue, FAST, num, seed) for num, seed in ((2, 1), (3, 2), (1, 1))]
            other = Asked(queue, SamplerConfig(PRESETS["quality"], 20, "ddim"), 2, 1)
        series = [a.series() for a in asked]
        sampler = Sampler(MODEL, PRESETS["fast"], steps=20, solver="ddim")
        for made, (num, seed) in zip(series, ((2, 1), (3, 2), (1, 1)), strict=True):
            np.testing.assert_allclose(made, sampler.sample(num, seed).series, rtol=1e-5, atol=1e-6)
        apart = Sampler(MODEL, PRESETS["quality"], steps=20, solver="ddim").sample(2, 1).series
        np.testing.assert_allclose(other.series(), apart, rtol=1e-5, atol=1e-6)
        text = queue.metrics.registry.get_sample_value
        assert text("e2crf_batch_samples_count") == 3 and text("e2crf_batch_samples_sum") == 1 + 6 + 2


def test_a_request_larger_than_a_batch_is_cut_and_joined() -> None:
    with SampleQueue(MODEL, batch=3) as queue:
        made = Asked(queue, FAST, 8, 4).series()
        assert queue.metrics.registry.get_sample_value("e2crf_batch_samples_count") == 3
    whole = Sampler(MODEL, PRESETS["fast"], steps=20, solver="ddim").sample(8, 4).series
    np.testing.assert_allclose(made, whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("trigger", ["log_snr", "paper", "gain", "bands"])
def test_a_cancelled_job_leaves_its_batch_and_the_others_do_not_notice(trigger: str) -> None:
    """The departed job's work ends at that step; the remaining results are unchanged."""
    policy = CachePolicy(trigger=trigger, tau=0.3, predictor="quadratic", probe_share=0.1)
    config = SamplerConfig(policy, 20, "sde_dpmpp_2m")
    sampler = Sampler(MODEL, policy, steps=20, solver="sde_dpmpp_2m")
    with SampleQueue(MODEL, batch=16) as queue:
        seen: list[int] = []
        whole: list[int] = []

        def leave(event: Any) -> None:
            seen.append(event.step)
            if event.step == 6:
                leaving.job.cancel()

        with held(queue):
            stays = Asked(queue, config, 2, 1)
            leaving = Asked(queue, config, 3, 2, on_event=leave)
            also = Asked(queue, config, 1, 3, on_event=lambda event: whole.append(event.flops_full))
        np.testing.assert_allclose(stays.series(), sampler.sample(2, 1).series, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(also.series(), sampler.sample(1, 3).series, rtol=1e-5, atol=1e-6)
        assert seen == list(range(7)) and leaving.job.answer is None
        steps = queue.metrics.registry.get_sample_value("e2crf_sample_steps_total")
        assert steps == 12 + 7 * 6 + 13 * 3
        assert whole == [sampler.full_flops(num, 1) for num in 7 * [6] + 13 * [3]]


def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    with SampleQueue(MODEL, limit=3) as queue:
        with held(queue):
            waiting = [Asked(queue, FAST, 2, seed) for seed in (1, 2)]
            with pytest.raises(QueueFull, match="try again") as refused:
                Asked(queue, FAST, 1, 3)
            assert 1 <= refused.value.retry_after <= 60
            queue.release(waiting[0].job)
            again = Asked(queue, FAST, 1, 3)
        assert len(again.series()) == 1
        queue.release(waiting[1].job)
        queue.release(again.job)
        assert queue.depth == 0
        assert queue.metrics.registry.get_sample_value("e2crf_requests_total", {"outcome": "cancelled"}) >= 1


def test_a_full_server_answers_429_with_retry_after() -> None:
    app = make_app(MODEL, limits=Limits(num=8, steps=200, queue=1))
    with TestClient(app, base_url=LOCAL) as client, held(app.state.queue):
        refused = client.post("/samples", json=BODY)
        assert refused.status_code == 429 and int(refused.headers["Retry-After"]) >= 1


def test_a_fault_in_one_batch_does_not_end_the_service(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("cosmic ray")

    with monkeypatch.context() as patched:
        patched.setattr(Sampler, "begin", broken)
        failed = client.post("/samples", json=BODY)
        assert failed.status_code == 500 and "cosmic ray" in failed.json()["detail"]
    assert client.post("/samples", json=BODY).status_code == 200


def test_closing_ends_running_and_waiting_work() -> None:
    queue = SampleQueue(MODEL)
    with held(queue) as go:
        waiting = Asked(queue, FAST, 2, 1)
        closing = threading.Thread(target=queue.close)
        closing.start()
        go.set()
        closing.join(30)
        assert not queue.alive and waiting.ended.wait(PATIENCE_S) and "stopping" in str(waiting.job.error)
    with pytest.raises(LabError, match="stopping"):
        Asked(queue, FAST, 1, 1)


@contextmanager
def running(app: Any, connection: type[TimedConnection] = TimedConnection) -> Iterator[str]:
    """Provide a real server on a real port."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(server_config(app, connection))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        wait_for(lambda: server.started, "server start")
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)


@pytest.mark.parametrize("path", ["/samples", "/events"])
def test_a_client_that_hangs_up_frees_its_work(path: str) -> None:
    app = make_app(MODEL, limits=Limits(num=8, steps=2000, queue=2))
    queue: SampleQueue = app.state.queue
    value = queue.metrics.registry.get_sample_value
    long = {"num": 8, "policy": "exact", "steps": 2000, "solver": "ddim"}
    with running(app) as url:
        host, port = url.removeprefix("http://").split(":")
        body = json.dumps(long).encode()
        kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}"
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{kind}\r\n\r\n"
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head.encode() + body)
            wait_for(lambda: (value("e2crf_sample_steps_total") or 0) > 0, "first step")
        wait_for(lambda: queue.depth == 0, "place given back")
        wait_for(lambda: httpx.post(f"{url}/samples", json=BODY).status_code == 200, "next answer")
        steps = value("e2crf_sample_steps_total")
        assert steps is not None and steps < 8 * 2000 and value("e2crf_samples_total") == 2


def test_the_schema_states_limits_and_every_answer(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    request = schema["components"]["schemas"]["SamplesRequest"]
    assert request["properties"]["num"]["maximum"] == 8 and request["properties"]["steps"]["maximum"] == 200
    assert request["additionalProperties"] is False
    answers = schema["paths"]["/samples"]["post"]["responses"]
    assert {"200", "401", "409", "413", "422", "429", "500", "503"} <= answers.keys()
    tau = schema["components"]["schemas"]["Policy"]["properties"]["tau"]
    assert tau["maximum"] == 1e4 and "recomputes" in tau["description"]


def test_the_command_refuses_what_it_cannot_serve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(make_model(dtype=torch.float32), tmp_path / "model")
    command = ["serve", "--checkpoint", str(tmp_path / "model"), "--device", "cpu"]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main([*command, "--port", str(taken.getsockname()[1])]) == 2
        assert "cannot listen" in capsys.readouterr().err
    assert main([*command, "--port", "99999"]) == 2
    assert main([*command, "--max-steps", "3"]) == 2
    assert main(["serve", "--card", str(tmp_path / "absent.json")]) == 2
    with pytest.raises(LabError, match="over the limit"):
        make_app(MODEL, limits=Limits(steps=10), default=FAST)
