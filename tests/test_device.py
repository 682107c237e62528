"""Laws of runs on an accelerator, with a pretended one: the host never waits where the calls are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks import gpu
from e2crf_core import CachePolicy, LabError, Sampler
from e2crf_core.cuda import KEPT, Captured, Work
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.sampling.observing import Observer
from e2crf_core.sampling.recorder import Recorder
from tests.conftest import make_model
from tests.pretend_device import PretendDevice, moved, replayed
from tests.test_error_model import causal_model

SCHEDULED = {
    "whole": CachePolicy(trigger="fixed", refresh_every=5, predictor="linear"),
    "late": CachePolicy(trigger="log_snr", tau=1.0, start=2.0, predictor="quadratic", clock="profile"),
    "bands": CachePolicy(trigger="bands", bands=((4, 0.9), (99, 2.5)), predictor="linear"),
}
STEPS = 20


def run(model: ScoreModel, policy: CachePolicy, noise: str) -> tuple[Tensor, list[str], list[str], int]:
    """Run three samples on the pretended device; return final tokens, reads, uploads that wait, and leaps."""
    with PretendDevice() as device, torch.inference_mode():
        sampler = Sampler(moved(model), policy, steps=STEPS, noise=noise)
        sampler.segments()
        start = sampler.begin(3, 1)
        device.reads.clear(), device.waits.clear()
        leaps = list(sampler.leaps(*start))
        reads, waits = list(device.reads), list(device.waits)
        return leaps[-1].after.z.cpu(), reads, waits, len(leaps)


@pytest.mark.parametrize("name", SCHEDULED)
def test_a_scheduled_run_reads_the_device_once_at_its_end(name: str) -> None:
    model = causal_model() if name == "bands" else make_model()
    tokens, reads, waits, _ = run(model, SCHEDULED[name], "counter")
    assert len(reads) == 1, "only whether the finished samples are finite"
    assert waits == []
    expected = Sampler(model, SCHEDULED[name], steps=STEPS, noise="counter").draw(3, 1).tokens
    np.testing.assert_allclose(tokens.numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("policy", [CachePolicy(trigger="gain", tau=0.3), CachePolicy.preset("paper")])
def test_a_run_that_decides_by_data_reads_at_most_two_small_tensors_a_step(policy: CachePolicy) -> None:
    model = make_model()
    tokens, reads, _, leaps = run(model, policy, "counter")
    # Whether keys and values are valid is read until all are known to be; every sixteenth step must be finite.
    checked = 2 * model.network.layers + leaps // 16 + 1
    assert len(reads) <= 2 * leaps + checked
    expected = Sampler(model, policy, steps=STEPS, noise="counter").draw(3, 1).tokens
    np.testing.assert_allclose(tokens.numpy(), expected, atol=1e-9)


def record(sampler: Sampler, device: PretendDevice | None = None) -> Recorder:
    """Record a run of three samples; recording alone must not read the device."""
    model = sampler.model
    recorder, observer = Recorder(STEPS, model.n, model.length, len(model.channels), 3), Observer()
    for step in sampler.steps(3, 1):
        before = device and len(device.reads)
        recorder.append(observer.record(step.problem, step.before, step.info, 0.0, 1, 0, step.after))
        assert before == (device and len(device.reads))
    return recorder


def test_recording_copies_without_waiting_and_who_looks_reads_two_tables_once() -> None:
    model, policy = make_model(), SCHEDULED["late"]
    here = record(Sampler(model, policy, steps=STEPS, noise="counter"))
    with PretendDevice() as device, torch.inference_mode():
        there = record(Sampler(moved(model), policy, steps=STEPS, noise="counter"), device)
        refreshes = int((here.column("tokens") > 0).sum())
        # The state and its denoised value at every step; the network input and the intensities after a recompute.
        assert device.copies <= 2 * STEPS + 2 * (refreshes + 1)
        device.reads.clear()
        columns, count = there.since(0)
        assert count == STEPS and len(device.reads) == 2
        there.since(0), there.event(3)
        assert len(device.reads) == 2
    for name, column in here.since(0)[0].items():
        np.testing.assert_allclose(columns[name], column, rtol=1e-5, atol=1e-7)


def test_a_record_is_not_read_before_the_device_has_delivered_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model, policy = make_model(), SCHEDULED["late"]
    here = record(Sampler(model, policy, steps=STEPS, noise="counter"))
    under_way: list[tuple[Tensor, Tensor]] = []

    def send(x: Tensor) -> Tensor:
        under_way.append((torch.full(x.shape, torch.nan, dtype=x.dtype), x))
        return under_way[-1][0]

    def deliver() -> None:
        for place, x in under_way:
            place.copy_(x)
        under_way.clear()

    monkeypatch.setattr("e2crf_core.sampling.observing.to_host", send)
    monkeypatch.setattr("e2crf_core.sampling.observing.mark", lambda device: deliver)
    with PretendDevice(), torch.inference_mode():
        columns, _ = record(Sampler(moved(model), policy, steps=STEPS, noise="counter")).since(0)
    for name, column in here.since(0)[0].items():
        np.testing.assert_allclose(columns[name], column, rtol=1e-5, atol=1e-7)


def test_the_count_sees_a_read(model: ScoreModel) -> None:
    with PretendDevice() as device:
        far = moved(model)
        assert bool((far.mask > 0).any()) and float(far.mask.sum()) > 0
    assert len(device.reads) == 2


def test_a_captured_function_is_captured_once_for_each_shape_and_gives_what_is_kept() -> None:
    captures = []

    def capture(work: Work, inputs: tuple[Tensor, ...]) -> tuple[Callable[[], None], Tensor]:
        captures.append(len(inputs[0]))
        return replayed(work, inputs)

    call = Captured(lambda x, y: x * y, capture)
    made = [call(torch.full((size,), 2.0), torch.tensor(float(k))) for k, size in enumerate((2, 3, 2))]
    assert captures == [2, 3]
    assert [x.tolist() for x in made] == [[0.0, 0.0], [2.0, 2.0, 2.0], [4.0, 4.0]]
    # Those used last are kept; 2 was used after 3.
    for size in (*range(4, 4 + KEPT - 1), 2, 3):
        call(torch.zeros(size), torch.tensor(1.0))
    assert captures == [2, 3, *range(4, 4 + KEPT - 1), 3]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_backend_and_its_benchmark_say_so(model: ScoreModel) -> None:
    with pytest.raises(LabError, match="cudagraphs needs an NVIDIA GPU, and this model is on cpu"):
        Sampler(model, None, steps=STEPS, backend="cudagraphs")
    with pytest.raises(SystemExit, match="no NVIDIA GPU"):
        gpu.main([])
