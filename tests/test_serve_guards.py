"""The server's guards: host names, bodies, headers, probes, and no open access without a token."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from e2crf_core.cli import main
from e2crf_core.serving.connections import TimedConnection
from e2crf_core.serving.guards import JsonBodies
from e2crf_core.serving.requests import Limits
from e2crf_core.serving.server import make_app
from tests.test_serve import BODY, LOCAL, MODEL, held, running
from tests.waiting import PATIENCE_S


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(make_app(MODEL, limits=Limits(num=8, steps=200)), base_url=LOCAL) as client:
        yield client


UNFIT = (
    '{"seed":NaN}',
    '{"policy":{"tau":1e999}}',
    '{"solver":NaN}',
    r'{"seed":"\ud800"}',
    '{"num":1,"num":2}',
    '{"num":' + "1" * 400 + "}",
    "[" * 99,
)


@pytest.mark.parametrize("body", UNFIT)
def test_json_that_readers_disagree_on_is_refused(client: TestClient, body: str) -> None:
    answer = client.post("/samples", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422 and answer.json()["detail"]


def test_every_wrong_field_is_named_by_its_json_pointer(client: TestClient) -> None:
    answer = client.post("/samples", json=BODY | {"num": 0, "grid": "none", "policy": {"tau": -1}})
    pointers = {fault["pointer"] for fault in answer.json()["faults"]}
    assert answer.status_code == 422 and {"/num", "/grid"} <= pointers
    assert any(one.startswith("/policy") and one.endswith("/tau") for one in pointers)


ROUTES = (
    "/health",
    "/health/live",
    "/health/ready",
    "/metrics",
    "/docs",
    "/openapi.json",
    "/samples",
    "/none",
    "/v2",
    "/v2/health/ready",
    "/v2/models/test/infer",
)


@pytest.mark.parametrize("path", ROUTES)
def test_a_foreign_host_name_is_refused_on_every_route(client: TestClient, path: str) -> None:
    for host in ("evil.example", "evil.example:8080", "", "127.0.0.1.evil.example", "localhost.evil"):
        answer = client.post(path, json=BODY, headers={"host": host})
        assert answer.status_code == 403
        assert client.get(path, headers={"host": host}).status_code == 403
    for host in ("127.0.0.1:9", "[::1]:9", "localhost", "192.168.0.7"):
        assert client.get(path, headers={"host": host}).status_code != 403


def test_names_that_are_allowed_are_served_and_every_answer_has_security_headers() -> None:
    with TestClient(make_app(MODEL, hosts=("lab.example",)), base_url="http://lab.example") as client:
        for path in ROUTES:
            answer = client.get(path)
            assert answer.status_code != 403 and answer.headers["x-content-type-options"] == "nosniff"
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


def test_probes_tell_a_live_server_from_a_ready_one() -> None:
    app = make_app(MODEL, limits=Limits(num=8, steps=200, queue=1))
    with TestClient(app, base_url=LOCAL) as client:
        assert client.get("/health/ready").json() == {"status": "ready"}
        with held(app.state.queue):
            assert client.get("/health/live").status_code == 200
            assert client.get("/health/ready").status_code == 503


def test_the_documentation_needs_no_other_server(client: TestClient) -> None:
    page = client.get("/docs").text
    assert "/samples" in page and "SamplesRequest" in page and "<script" not in page and "http" not in page


def test_a_body_that_does_not_come_is_cut_off() -> None:
    sent: list[Any] = []

    async def app(*_: Any) -> None:
        raise AssertionError("was reached")

    async def never() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    asyncio.run(JsonBodies(app, seconds=0.01)(scope, never, send))
    assert sent[0]["status"] == 408


class Hasty(TimedConnection):
    head_s = read_s = 0.2


@pytest.mark.parametrize("sent", [b"", b"GET /health HTTP/1.1\r\nHost: local", b"\r\n"])
def test_a_client_that_does_not_finish_its_head_is_cut_off(sent: bytes) -> None:
    with running(make_app(MODEL), Hasty) as url, socket.create_connection(address(url), PATIENCE_S) as slow:
        slow.sendall(sent)
        assert cut_off(slow)
        # Others are served, also after a pause that the head of a first request may not take.
        with httpx.Client(base_url=url) as client:
            assert client.get("/health/live").status_code == client.get("/health/live").status_code == 200


def test_a_client_that_does_not_read_is_cut_off() -> None:
    ended = threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(100):
                await send({"type": "http.response.body", "body": bytes(1_000_000), "more_body": True})
            ended.set()

    with running(app, Hasty) as url, socket.create_connection(address(url), PATIENCE_S) as lazy:
        lazy.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert ended.wait(PATIENCE_S) and cut_off(lazy)


def address(url: str) -> tuple[str, int]:
    """Return host and port of an address."""
    host, _, port = url.removeprefix("http://").partition(":")
    return host, int(port)


def cut_off(connection: socket.socket) -> bool:
    """Read until the server ends the connection."""
    try:
        while connection.recv(1 << 20):
            pass
    except ConnectionResetError:
        pass
    return True


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "lab.example"])
def test_a_server_that_others_can_reach_needs_a_token(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--host", host, "--port", "0"]) == 2
    assert "--token" in capsys.readouterr().err
