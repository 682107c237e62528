"""How the server shares its time: turns, deadlines, and batches in which one request goes wrong."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from e2crf_core import Sampler
from e2crf_core.caching.policy import PRESETS
from e2crf_core.caching.state import SamplerState
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.serving.batching import Batch
from e2crf_core.serving.queue import SampleQueue
from e2crf_core.serving.requests import Limits
from e2crf_core.serving.rounds import FIRST_S, Rounds
from e2crf_core.serving.server import make_app
from tests.test_serve import BODY, FAST, LOCAL, MODEL, Asked, expected, held
from tests.waiting import PATIENCE_S, until


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(make_app(MODEL, limits=Limits(num=8, steps=200)), base_url=LOCAL) as client:
        yield client


def test_turns_alternate_between_newcomers_and_the_others() -> None:
    """A newcomer passes any number of long tasks; a flood of newcomers takes half the turns, no more."""
    rounds: Rounds[str] = Rounds()
    for task in ("a", "b", "c"):
        rounds.again(task)
    rounds.enter("new")
    assert rounds.turn() == ("new", FIRST_S)
    order = []
    for number in range(8):
        rounds.enter(f"new {number}")
        task, seconds = rounds.turn()
        order.append(task)
        if not task.startswith("new"):
            assert seconds < FIRST_S
            rounds.again(task)
    assert [task for task in order if not task.startswith("new")] == ["a", "b", "c", "a"]
    assert [task for task in order if task.startswith("new")] == ["new 0", "new 1", "new 2", "new 3"]


def test_a_small_request_does_not_wait_for_large_ones_to_end() -> None:
    """It is done while all large ones still run, and equals the sampler's samples; so do the large ones."""
    large = SamplerConfig(PRESETS["exact"], 60, "ddim")
    with SampleQueue(MODEL, batch=4) as queue:
        with held(queue):
            heavy = [Asked(queue, large, 12, seed) for seed in (1, 2)]
            small = Asked(queue, FAST, 2, 5)
        made = small.series()
        assert not any(one.ended.is_set() for one in heavy)
        np.testing.assert_allclose(made, expected(BODY), rtol=1e-5, atol=1e-6)
        whole = Sampler(MODEL, PRESETS["exact"], steps=60, solver="ddim").sample(12, 2).series
        np.testing.assert_allclose(heavy[1].series(), whole, rtol=1e-5, atol=1e-6)


def test_a_request_with_a_deadline_ends_in_time_whether_it_waits_or_runs(client: TestClient) -> None:
    queue: SampleQueue = client.app.state.queue  # type: ignore[attr-defined]
    late = client.post("/samples", json=BODY | {"policy": "exact", "steps": 200, "deadline_s": 0.01})
    assert late.status_code == 504 and "0.01 s" in late.json()["detail"]
    with SampleQueue(MODEL) as other, held(other) as go:
        waiting = Asked(other, FAST, 2, 1, deadline=0.01)
        until(lambda: waiting.job.late)
        go.set()
        assert waiting.ended.wait(PATIENCE_S) and "not ready within" in str(waiting.job.error)
    assert client.post("/samples", json=BODY | {"deadline_s": 60}).status_code == 200
    value = queue.metrics.registry.get_sample_value
    assert value("e2crf_requests_total", {"outcome": "late"}) == 1 and value("e2crf_queue_jobs") == 0


def test_a_request_whose_samples_diverge_does_not_take_its_batch_with_it() -> None:
    """Token 3 of one sample becomes infinite; its request is told why, the others get their samples."""

    class Overflowing:
        def __getattr__(self, name: str) -> Any:
            return getattr(MODEL.network, name)

        def head(self, feature: torch.Tensor) -> torch.Tensor:
            output = MODEL.network.head(feature).clone()
            samples = output.view(-1, MODEL.n, output.shape[-1])
            if len(samples) == 5:
                samples[3, 3] = torch.inf
            return output

    config = SamplerConfig(PRESETS["exact"], 20, "ddim")
    with SampleQueue(replace(MODEL, network=Overflowing()), batch=16) as queue:  # type: ignore[arg-type]
        with held(queue):
            first, blamed, last = (Asked(queue, config, num, seed) for num, seed in ((2, 1), (2, 2), (1, 3)))
        assert blamed.ended.wait(PATIENCE_S) and "not finite from step 0 on (tokens 3)" in str(
            blamed.job.error
        )
        sampler = Sampler(MODEL, config.policy, steps=20, solver="ddim")
        for asked, num, seed in ((first, 2, 1), (last, 1, 3)):
            np.testing.assert_allclose(asked.series(), sampler.sample(num, seed).series, rtol=1e-5, atol=1e-6)


def test_the_delay_of_waiting_requests_is_measured_while_they_wait(client: TestClient) -> None:
    queue: SampleQueue = client.app.state.queue  # type: ignore[attr-defined]

    def delay() -> float:
        text = client.get("/metrics").text
        return float(re.findall(r"^e2crf_queue_longest_seconds (\S+)$", text, re.M)[0])

    assert delay() == 0
    with held(queue):
        waiting = Asked(queue, FAST, 1, 1)
        until(lambda: delay() > 0)
    assert len(waiting.series()) == 1 and delay() == 0
    queue.release(waiting.job)


def batches_in_memory() -> list[Batch | SamplerState]:
    return [one for one in gc.get_objects() if type(one) in (Batch, SamplerState)]


def test_nothing_of_a_batch_stays_in_memory_once_it_is_done() -> None:
    # What other tests of this process left stays alive here, so that its place in memory is not taken.
    others = batches_in_memory()
    known = {id(one) for one in others}
    with SampleQueue(MODEL) as queue:
        asked = Asked(queue, FAST, 4, 1)
        asked.series()
        queue.release(asked.job)
        until(lambda: {id(one) for one in batches_in_memory()} <= known)
