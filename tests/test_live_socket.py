"""The live socket over a real server: what it streams, who may connect, and its limits."""

import contextlib
import http.client
import json
import socket as sockets
from secrets import token_hex
from types import SimpleNamespace

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from pages.ui.common.hosts import host_allowed
from pages.ui.live import socket
from tests.fake_run import REFERENCE, FakeRun
from tests.packets import decode
from tests.servers import served
from tests.waiting import PATIENCE_S


@pytest.fixture(scope="module")
def server():
    with served(socket.LIVE_ROUTE, socket.live_socket) as address:
        yield address


@pytest.fixture
def run(monkeypatch):
    run = FakeRun(run_id=token_hex(4))
    runs = {run.id: run}
    monkeypatch.setattr(socket, "RUNS", SimpleNamespace(get=runs.get))
    monkeypatch.setattr(socket, "reference_of", lambda name: REFERENCE)
    return run


def open_socket(server, run_id, query="", origin=None, base=""):
    path = socket.live_path(run_id, base)
    return connect(
        f"ws://{server}{path}{query}",
        origin=origin or f"http://{server}",
        open_timeout=PATIENCE_S,
        close_timeout=1,
    )


def frame(ws):
    while isinstance(message := ws.recv(timeout=PATIENCE_S), str):
        pass
    ws.send('{"type":"shown"}')
    return decode(message)


@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
def test_other_origins_are_refused(server, run, origin):
    with pytest.raises(InvalidStatus), open_socket(server, run.id, origin=origin):
        pass
    assert not socket.origin_allowed(None, server)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8501", "localhost.evil.example", "", "["])
def test_foreign_hosts_are_refused_on_every_route(server, run, host):
    """DNS rebinding: a foreign name that resolves to this machine is the Host and the Origin."""
    address, _, port = server.rpartition(":")
    with contextlib.closing(http.client.HTTPConnection(address, int(port), timeout=PATIENCE_S)) as plain:
        plain.putrequest("GET", "/", skip_host=True)
        plain.putheader("Host", host)
        plain.endheaders()
        assert plain.getresponse().status == 403 or host == "["
    head = f"GET {socket.live_path(run.id)} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n"
    head += "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    head += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    with sockets.create_connection((address, int(port)), timeout=PATIENCE_S) as plain:
        plain.sendall(head.encode())
        assert plain.recv(64).split()[1] in (b"403", b"400")


def test_addresses_localhost_and_configured_names_are_served():
    for host in ("127.0.0.1:8501", "[::1]:8501", "localhost:8501", "lab.localhost", "192.168.0.7"):
        assert host_allowed(host, ())
    assert host_allowed("lab.example:443", {"lab.example"}) and not host_allowed("lab.example", ())
    assert not host_allowed(None, ())


def test_unknown_run_is_told_apart(server, run):
    with open_socket(server, "guess") as ws, pytest.raises(ConnectionClosed) as closed:
        ws.recv(timeout=PATIENCE_S)
    assert closed.value.rcvd.code == socket.NO_SUCH_RUN


def test_socket_streams_new_steps_and_counts_as_a_viewer(server, run):
    run.write(5)
    with open_socket(server, run.id) as ws:
        head, arrays = frame(ws)
        assert (head["from"], head["count"]) == (0, 5) and head["policy"]["tau"] == run.policy.tau
        run.write(3)
        head, arrays = frame(ws)
        assert (head["from"], head["count"]) == (5, 3) and "policy" not in head
        np.testing.assert_array_equal(arrays["reasons"], run.recorder.column("reasons")[5:])
    assert run.touched


def test_socket_is_found_under_a_base_path(server, run):
    run.write(1)
    with open_socket(server, run.id, base="/some/base/") as ws:
        assert frame(ws)[0]["count"] == 1


def test_socket_goes_on_where_the_viewer_stands_and_resyncs_on_demand(server, run):
    run.write(6)
    with open_socket(server, run.id, "?from=4") as ws:
        assert frame(ws)[0]["from"] == 4
        ws.send('{"type":"resync"}')
        assert frame(ws)[0]["from"] == 0


def test_policy_and_faults_over_the_socket(server, run):
    with open_socket(server, run.id) as ws:
        frame(ws)
        ws.send(json.dumps({"type": "policy", "changes": {"tau": 0.7}}))
        assert frame(ws)[0]["policy"]["tau"] == 0.7
        for text in ("[]", "{", '{"type":"policy","changes":{"tau":-1}}'):
            ws.send(text)
            while not isinstance(message := ws.recv(timeout=PATIENCE_S), str):
                ws.send('{"type":"shown"}')
            assert json.loads(message)["error"]
    assert run.policy.tau == 0.7


@pytest.mark.parametrize(
    ("messages", "code"),
    [(['"' + "x" * 5000 + '"'], socket.TOO_BIG), (["{}"] * 400, socket.TOO_FAST)],
)
def test_big_and_fast_messages_end_the_connection(server, run, messages, code):
    with open_socket(server, run.id) as ws, pytest.raises(ConnectionClosed) as closed:
        for message in messages:
            ws.send(message)
        while True:
            ws.recv(timeout=PATIENCE_S)
    assert closed.value.rcvd.code == code


def test_a_viewer_that_does_not_answer_gets_no_more_than_a_few_pictures(server, run):
    with open_socket(server, run.id) as ws:
        for _ in range(socket.IN_FLIGHT):
            run.write(1)
            ws.recv(timeout=PATIENCE_S)
        run.write(1)
        with pytest.raises(TimeoutError):
            ws.recv(timeout=0.5)


def test_viewers_of_one_run_are_bounded(server, run, monkeypatch):
    monkeypatch.setattr(socket, "VIEWERS", 1)
    with open_socket(server, run.id) as ws:
        frame(ws)
        with open_socket(server, run.id) as second, pytest.raises(ConnectionClosed) as closed:
            second.recv(timeout=PATIENCE_S)
        assert closed.value.rcvd.code == socket.TOO_MANY_VIEWERS


# ---- small helpers of the page
