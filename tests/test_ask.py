"""The instrument's questions: the newest wins, every packet belongs to one policy, answers equal headless runs."""

import json
import random
import threading
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from e2crf_core.caching.policy import PRESETS, CachePolicy
from e2crf_core.errors import LabError
from e2crf_core.models.checkpoints import load_checkpoint
from e2crf_core.runs.answer import answer
from e2crf_core.sampling.config import SamplerConfig
from pages.ui.live.answer_packets import QUICK_NUM, SETTLED_NUM, Request, policy_values, read_request
from pages.ui.live.ask_socket import ASK_ROUTE, ask_path, ask_socket
from pages.ui.live.asking import Asker, answer_now
from tests.packets import decode
from tests.servers import served
from tests.tiny import tiny_assets
from tests.waiting import PATIENCE_S, until

BASE = PRESETS["multistep"]
PLAN = {"solver": "dpmpp_2m", "grid": "profile", "steps": 12}


@pytest.fixture(scope="module", autouse=True)
def assets(tmp_path_factory):
    folder = tiny_assets(tmp_path_factory.mktemp("assets"), ("ecg",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("E2CRF_ASSETS", str(folder))
        yield folder


def question(serial, policy=BASE, settle=False, **changes):
    values = {"type": "ask", "serial": serial, "checkpoint": "ecg", "seed": 3, "settle": settle}
    return {**values, "policy": policy_values(policy), **PLAN, **changes}


def headless(head):
    """Return what a run without a page gives for the policy that a packet names."""
    policy = CachePolicy.from_json(json.dumps(head["policy"]))
    config = SamplerConfig(policy, head["steps"], head["solver"], head["grid"])
    return answer(load_checkpoint("ecg", "cpu"), config, head["seed"], head["num"], resamples=20)


def equals_headless(head, arrays):
    reply = headless(head)
    assert head["error"]["pooled"][0] == reply.error.pooled.value
    assert head["cost"] == reply.cost and head["tokens"] == reply.tokens
    np.testing.assert_array_equal(arrays["series"], reply.series[0])
    np.testing.assert_array_equal(arrays["twin"], reply.twin.series[0])
    np.testing.assert_array_equal(arrays["reasons"], reply.reasons)


class Viewer:
    """Receives packets as a connection does."""

    def __init__(self):
        self.packets = []
        self.asker = Asker(lambda packet: self.packets.append(decode(packet)))

    def of(self, kind):
        return [packet for packet in list(self.packets) if packet[0]["kind"] == kind]


@pytest.fixture
def viewer():
    viewer = Viewer()
    yield viewer
    viewer.asker.close()


def test_every_answer_of_a_drag_belongs_to_one_policy_and_the_last_one_comes(viewer):
    rng = random.Random(0)
    taus = [round(rng.uniform(0.1, 4), 3) for _ in range(25)]
    for serial, tau in enumerate(taus, 1):
        viewer.asker.ask(read_request(question(serial, BASE.replace(tau=tau))))
        if serial % 5 == 0:
            until(lambda serial=serial: any(h["serial"] == serial for h, _ in viewer.of("answer")))
    answers = viewer.of("answer")
    serials = [head["serial"] for head, _ in answers]
    assert serials == sorted(set(serials)) and serials[-1] == 25
    for head, _ in answers:
        assert head["policy"]["tau"] == taus[head["serial"] - 1] and head["num"] == QUICK_NUM
    for head, arrays in answers[-2:]:
        equals_headless(head, arrays)


def test_a_resting_hand_gets_more_samples_the_curve_and_what_a_cache_must_beat(viewer):
    viewer.asker.ask(read_request(question(1, settle=True, steps=8)))
    until(lambda: viewer.of("anchors") and viewer.of("anchors")[-1][0]["floor"] is not None)
    ((head, arrays),) = viewer.of("answer")
    assert head["settled"] and head["num"] == SETTLED_NUM
    assert head["error"]["pooled"][1] < head["error"]["pooled"][0] < head["error"]["pooled"][2]
    equals_headless(head, arrays)
    curve = viewer.of("curve")[-1][0]
    assert curve["measured"] and len(curve["points"]) > 5
    costs = [cost for _, _, cost, _, _ in curve["points"]]
    assert costs[0] <= costs[-1]
    anchors = viewer.of("anchors")[-1][0]
    assert anchors["no_network"] > 0 and [run[1] for run in anchors["alone"]] == [3, 4, 5, 6]


def test_sessions_take_turns():
    """A settled question is done in pieces: what another asks meanwhile is answered between them."""
    order = []
    two = Asker(lambda packet: order.append(("two", decode(packet)[0]["kind"])))

    def heard(packet):
        order.append(("one", decode(packet)[0]["kind"]))
        if len(order) == 1:
            two.ask(read_request(question(1)))

    one = Asker(heard)
    one.ask(read_request(question(1, settle=True)))
    until(lambda: ("one", "anchors") in order)
    one.close(), two.close()
    assert order[0] == ("one", "answer")
    assert ("one", "anchors") not in order[: order.index(("two", "answer"))]


def test_a_closed_viewer_hears_no_more(viewer):
    viewer.asker.close()
    viewer.asker.ask(read_request(question(1)))
    other = Viewer()
    other.asker.ask(read_request(question(1)))
    until(lambda: other.of("answer"))
    other.asker.close()
    assert viewer.packets == []


def test_a_rule_that_needs_a_measured_network_says_so_instead_of_waiting(viewer):
    viewer.asker.ask(read_request(question(4, CachePolicy.of("nested"))))
    until(lambda: viewer.packets)
    assert [head for head, _ in viewer.packets] == [{"kind": "uncalibrated", "serial": 4, "arrays": []}]


def test_a_setting_that_cannot_run_is_explained_and_the_next_is_answered(viewer):
    viewer.asker.ask(read_request(question(1, checkpoint="nobody")))
    until(lambda: viewer.of("fault"))
    viewer.asker.ask(read_request(question(2, solver="heun", steps=8)))
    until(lambda: len(viewer.of("fault")) == 2)
    assert "odd number" in viewer.of("fault")[1][0]["text"]
    viewer.asker.ask(read_request(question(3)))
    until(lambda: viewer.of("answer"))


@pytest.mark.parametrize(
    "changes",
    [
        {"serial": -1},
        {"serial": True},
        {"seed": 2**40},
        {"steps": 10**6},
        {"steps": 2.5},
        {"solver": "none"},
        {"solver": 3},
        {"grid": "none"},
        {"policy": None},
        {"policy": {"tau": -1}},
        {"policy": {"nobody": 1}},
        {"checkpoint": "../../etc"},
        {"checkpoint": ""},
    ],
    ids=str,
)
def test_senseless_questions_are_refused_in_one_line(changes):
    with pytest.raises(LabError) as fault:
        read_request(question(1) | changes)
    assert "\n" not in str(fault.value)


def test_where_no_socket_is_served_the_page_answers_settled():
    head, arrays = decode(answer_now(read_request(question(9))))
    assert head["settled"] and head["num"] == SETTLED_NUM and head["serial"] == 9
    equals_headless(head, arrays)


def test_requests_compare_by_what_they_ask():
    one = read_request(question(1))
    assert isinstance(one, Request) and one == read_request(question(1))
    assert replace(one, serial=2) != one and one.config.plan == ("dpmpp_2m", "profile", 12)


@contextmanager
def asking(server, origin=None):
    with connect(
        f"ws://{server}{ask_path()}",
        origin=origin or f"http://{server}",
        open_timeout=PATIENCE_S,
        close_timeout=1,
    ) as ws:
        yield ws


@pytest.fixture(scope="module")
def server():
    with served(ASK_ROUTE, ask_socket) as address:
        yield address


def test_the_socket_answers_and_words_faults(server):
    with asking(server) as ws:
        for text in ("[]", "{", "[" * 3000, '{"type":"nobody"}', json.dumps(question(1) | {"seed": -1})):
            ws.send(text)
            assert json.loads(ws.recv(timeout=PATIENCE_S))["error"]
        ws.send(json.dumps(question(7)))
        head, arrays = decode(ws.recv(timeout=PATIENCE_S))
        assert head["serial"] == 7
        equals_headless(head, arrays)


def test_a_page_of_another_origin_cannot_ask(server):
    with pytest.raises(InvalidStatus), asking(server, "http://evil.example"):
        pass


def test_work_ends_with_the_connection(server):
    before = threading.active_count()
    for _ in range(3):
        with asking(server) as ws:
            ws.send(json.dumps(question(1, settle=True, steps=1000)))
    until(lambda: threading.active_count() <= before + 1)
    with asking(server) as ws:
        ws.send(json.dumps(question(2)))
        assert decode(ws.recv(timeout=PATIENCE_S))[0]["serial"] == 2
