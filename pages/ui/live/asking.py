"""Answer the instrument: the newest question wins, and work on an older one ends at its next step.

All sessions share a few workers. They do one piece at a time - one run, one point of a curve - and take the
sessions in turn, so a long job of one never holds up the drag of another.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import Cancelled, LabError
from e2crf_core.evaluation.alone import own_error, solvers_alone, without_network
from e2crf_core.io.packet import pack
from e2crf_core.progress import Cancel, never
from e2crf_core.quality.protocol import RESAMPLES
from e2crf_core.runs.answer import answer
from e2crf_core.runs.twin import TWINS
from e2crf_core.sampling.calibrations import error_model_of, is_calibrated
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.forecast import predict
from e2crf_core.sampling.sampler import Sampler
from pages.ui.common import library
from pages.ui.common.compared import config_of
from pages.ui.common.messages import sentence
from pages.ui.live.answer_packets import (
    QUICK_NUM,
    SETTLED_NUM,
    Request,
    answer_packet,
    pin_packet,
    threshold_range,
)

QUICK_RESAMPLES = 20
"""Resamples of intervals that nobody sees: those of a few samples, while the hand moves."""
PREDICTED_POINTS, MEASURED_POINTS = 25, 11

_log = logging.getLogger(__name__)
REMEMBERED = 256
"""Curves and anchors kept for all sessions."""
WORKERS = 2
"""A long run of one session then leaves a place for the others."""

_worker = ThreadPoolExecutor(WORKERS, "answers")
_finished: dict[object, dict[str, Any]] = {}


def way_of(model: ScoreModel, config: SamplerConfig) -> float:
    """Return how far log(a/s) moves during a run of this plan."""
    rows = Sampler.of(model, config.twin).plan.rows
    return abs(model.schedule.log_snr(rows[-1].t) - model.schedule.log_snr(rows[0].t))


def first_answer(request: Request, cancelled: Cancel) -> bytes:
    """Return the packet that answers a question: from few samples, or from more with honest intervals."""
    model = library.model(request.checkpoint)
    num = SETTLED_NUM if request.settle else QUICK_NUM
    resamples = RESAMPLES if request.settle else QUICK_RESAMPLES
    reply = answer(model, request.config, request.seed, num, resamples=resamples, cancelled=cancelled)
    return answer_packet(request, reply)


def needs_calibration(request: Request, model: ScoreModel) -> bool:
    """Return whether a question cannot be answered before the network's errors are measured."""
    policy = request.config.policy
    assert policy is not None
    return policy.rule.calibrated and not is_calibrated(model, Sampler.of(model, request.config).plan)


def answer_now(request: Request) -> bytes:
    """Answer a settled question in the caller's thread, where no socket is served."""
    if needs_calibration(request, library.model(request.checkpoint)):
        return pack({"kind": "uncalibrated", "serial": request.serial}, {})
    return first_answer(replace(request, settle=True), never)


class Asker:
    """One viewer's questions. `send` is called from the worker with each packet, and must not block."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._newest: Request | None = None
        self._stages: Iterator[bytes] | None = None
        self._queued = False
        self._closed = False
        self._lock = threading.Lock()

    def ask(self, request: Request) -> None:
        """Replace the question; whatever was being worked on for an older one ends."""
        with self._lock:
            self._newest = request
            self._stages = None
            self._enqueue()

    def calibrate(self) -> None:
        """Measure the errors of the newest question's network and plan, then answer it again."""
        request = self._newest
        if request is not None:
            threading.Thread(target=self._calibrate, args=(request,), daemon=True).start()

    def close(self) -> None:
        """End all work for this viewer."""
        self._closed = True

    def _enqueue(self) -> None:
        if not self._queued and not self._closed:
            self._queued = True
            _worker.submit(self._work)

    def _work(self) -> None:
        """Do one piece of work, then go to the end of the line."""
        with self._lock:
            request = self._newest
            if self._closed or request is None:
                return
            stages = self._stages = self._stages or self._all_stages(request)
        try:
            packet = next(stages, b"")
        except Cancelled:
            packet = b""
        except LabError as fault:
            packet = pack(_fault(request, sentence(str(fault))), {})
            stages = iter(())
        except Exception:
            _log.exception("an answer failed")
            packet = pack(_fault(request, "This setting could not be run; the log says why."), {})
            stages = iter(())
        with self._lock:
            # In line again only now: two workers must never share one question.
            self._queued = False
            if request is not self._newest:
                self._enqueue()
            elif packet:
                self._stages = stages
                if not self._closed:
                    self._send(packet)
                self._enqueue()

    def _all_stages(self, request: Request) -> Iterator[bytes]:
        """Yield a packet after each piece of work on a question."""

        def cancelled() -> bool:
            return self._closed or request is not self._newest

        model = library.model(request.checkpoint)
        policy = request.config.policy
        assert policy is not None
        if needs_calibration(request, model):
            yield pack({"kind": "uncalibrated", "serial": request.serial}, {})
            return
        yield first_answer(request, cancelled)
        if not request.settle:
            return
        for pin in request.pins:
            yield _pinned(request, model, pin, cancelled)
        where = (library.model_stamp(request.checkpoint), request.config.plan, request.seed)
        yield from _kept(
            (*where, replace(policy, tau=1.0), is_measured(request, model)),
            request,
            lambda: curve_stages(request, model, cancelled),
        )
        yield from _kept(where, request, lambda: anchor_stages(request, model, cancelled))

    def _calibrate(self, request: Request) -> None:
        """Calibrate in a thread of its own: it takes a minute or two, and others go on meanwhile."""

        def report(done: int, total: int) -> None:
            if not self._closed:
                self._send(pack({"kind": "calibrating", "done": done / total}, {}))

        try:
            model = library.model(request.checkpoint)
            error_model_of(model, Sampler.of(model, request.config).plan, report)
        except LabError as fault:
            self._send(pack(_fault(request, sentence(str(fault))), {}))
            return
        if self._newest is not None:
            self.ask(self._newest)


def _pinned(request: Request, model: ScoreModel, pin: str, cancelled: Cancel) -> bytes:
    """Measure a pinned setting on the noise of the question."""
    asked = replace(request, config=config_of(pin))
    if needs_calibration(asked, model):
        return pin_packet(request, pin, "This network has not been measured for its rule yet.")
    try:
        reply = answer(
            model, asked.config, request.seed, SETTLED_NUM, resamples=QUICK_RESAMPLES, cancelled=cancelled
        )
    except LabError as fault:
        return pin_packet(request, pin, sentence(str(fault)))
    return pin_packet(request, pin, reply)


def is_measured(request: Request, model: ScoreModel) -> bool:
    """Return whether the curve over tau must be measured, because nothing predicts it."""
    policy = request.config.policy
    assert policy is not None
    plan = Sampler.of(model, request.config).plan
    return not (policy.scheduled and is_calibrated(model, plan))


def curve_stages(request: Request, model: ScoreModel, cancelled: Cancel) -> Iterator[dict[str, Any]]:
    """Find error and cost over the range of tau, cheapest first; the curve grows with each point.

    It is predicted where the network is calibrated, else measured.
    """
    config, policy = request.config, request.config.policy
    assert policy is not None
    measured = is_measured(request, model)
    span = threshold_range(policy.trigger, way_of(model, config), config.steps)
    points: list[list[float]] = []
    header = {"kind": "curve", "measured": measured}
    if span is None:
        yield {**header, "points": points}
        return
    for tau in np.geomspace(span[1], span[0], MEASURED_POINTS if measured else PREDICTED_POINTS):
        if cancelled():
            raise Cancelled
        changed = replace(config, policy=policy.replace(tau=float(tau)))
        point = _measured(request, model, changed, cancelled) if measured else _predicted(model, changed)
        if point is None:
            break
        points = [*points, [float(tau), *point]]
        yield {**header, "points": points}


def _measured(request: Request, model: ScoreModel, config: SamplerConfig, cancelled: Cancel) -> list[float]:
    reply = answer(model, config, request.seed, QUICK_NUM, resamples=QUICK_RESAMPLES, cancelled=cancelled)
    return [reply.error.pooled.value, reply.cost, reply.tokens, 1000 * reply.seconds]


def _predicted(model: ScoreModel, config: SamplerConfig) -> list[float] | None:
    """Return error, cost, and tokens, without a time; None for a policy that nothing predicts."""
    assert config.policy is not None
    try:
        guess = predict(model, config.policy, steps=config.steps, solver=config.solver, grid=config.grid)
    except LabError:
        return None
    return [guess.error, guess.cost, guess.share * config.steps * model.n, 0.0]


def anchor_stages(request: Request, model: ScoreModel, cancelled: Cancel) -> Iterator[dict[str, Any]]:
    """Measure what a cache must beat; the picture grows with each solver."""
    config, seed = request.config, request.seed
    twin = TWINS.twin(model, config, QUICK_NUM, seed, cancelled=cancelled)
    rows: list[list[Any]] = []
    header = {"kind": "anchors", "no_network": without_network(model, config, seed, twin), "floor": None}
    yield {**header, "alone": rows}
    for run in solvers_alone(model, config, seed, twin, cancelled=cancelled):
        rows = [*rows, [run.error, run.steps, run.steps * model.n, 1000 * run.seconds, run.solver]]
        yield {**header, "alone": rows}
    floor = own_error(model, config, seed, twin, cancelled=cancelled)
    yield {**header, "alone": rows, "floor": floor, "whole": True}


def _kept(key: object, request: Request, stages: Callable[[], Iterator[dict[str, Any]]]) -> Iterator[bytes]:
    """Yield packets of growing headers; the complete one is remembered, and later sent at once."""
    header = _finished.get(key)
    if header is not None:
        yield pack({**header, "serial": request.serial}, {})
        return
    for header in stages():
        yield pack({**header, "serial": request.serial}, {})
    while len(_finished) >= REMEMBERED:
        _finished.pop(next(iter(_finished)), None)
    if header is not None:
        _finished[key] = header


def _fault(request: Request, text: str) -> dict[str, Any]:
    return {"kind": "fault", "serial": request.serial, "text": text}
