"""Serve one WebSocket route of the app on a port of its own."""

import socket as sockets
import threading
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import WebSocketRoute

from pages.ui.common.hosts import LabHostGuard
from tests.waiting import PATIENCE_S, until


@contextmanager
def served(route, endpoint):
    """Serve `endpoint` at `route` behind the guard of hosts; yields the address."""
    app = Starlette(routes=[WebSocketRoute(route, endpoint)], middleware=[Middleware(LabHostGuard)])
    with sockets.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started)
    yield f"127.0.0.1:{port}"
    server.should_exit = True
    thread.join(PATIENCE_S)
