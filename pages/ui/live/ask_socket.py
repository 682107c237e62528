"""The WebSocket of the instrument: it receives questions and sends answers, for the time a page is open.

A question names all that it needs, so nothing is kept between connections. The checks are those of the live socket:
a Host that is an address of this server, the same Origin, and limits on messages and on connections.
"""

import asyncio
from contextlib import suppress
from functools import partial
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from e2crf_core.errors import LabError
from pages.ui.common.hosts import host_allowed
from pages.ui.live.answer_packets import read_request
from pages.ui.live.asking import Asker
from pages.ui.live.socket import TOO_FAST, TOO_MANY_VIEWERS, obey_messages, origin_allowed

ASK_ROUTE = "/{base:path}lab/ask"
ASKERS = 32
WAITING = 64
"""Most packets that wait for a slow viewer; older ones are dropped."""

_open: set[WebSocket] = set()


def ask_path(base: str = "") -> str:
    """Return the path of the socket; `base` is the path that Streamlit is served under, if any."""
    return "/" + "/".join(filter(None, (base.strip("/"), "lab/ask")))


async def ask_socket(websocket: WebSocket) -> None:
    """Serve `ASK_ROUTE`."""
    host = websocket.headers.get("host")
    if not host_allowed(host) or not origin_allowed(websocket.headers.get("origin"), host):
        await websocket.close(TOO_FAST)
        return
    await websocket.accept()
    if len(_open) >= ASKERS:
        await websocket.close(TOO_MANY_VIEWERS, "too many viewers")
        return
    _open.add(websocket)
    loop = asyncio.get_running_loop()
    packets: asyncio.Queue[bytes] = asyncio.Queue()

    def put(packet: bytes) -> None:
        if packets.qsize() >= WAITING:
            packets.get_nowait()
        packets.put_nowait(packet)

    def send(packet: bytes) -> None:
        with suppress(RuntimeError):  # the server is shutting down
            loop.call_soon_threadsafe(put, packet)

    asker = Asker(send)
    sender = asyncio.create_task(_send(websocket, packets))
    try:
        await obey_messages(websocket, partial(_act, asker))
    except (WebSocketDisconnect, RuntimeError):
        pass
    finally:
        asker.close()
        _open.discard(websocket)
        sender.cancel()
        with suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
            await sender


async def _send(websocket: WebSocket, packets: asyncio.Queue[bytes]) -> None:
    while True:
        await websocket.send_bytes(await packets.get())


def _act(asker: Asker, message: dict[str, Any]) -> None:
    kind = message.get("type")
    if kind == "calibrate":
        asker.calibrate()
    elif kind == "ask":
        asker.ask(read_request(message))
    else:
        raise LabError(f"unknown message type {kind!r:.40}", remedy="use ask or calibrate")
