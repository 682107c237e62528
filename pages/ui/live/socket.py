"""The WebSocket next to the pages: it sends about 30 updates per second and receives small control messages.

Streamlit's own origin check does not cover a custom route, so the checks are here: a Host that is an address
of this server, the same Origin, a run id that cannot be guessed, limits on the size and rate of messages and
on the number of viewers of a run.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import urlparse

from starlette.websockets import WebSocket, WebSocketDisconnect
from streamlit.web.server.server_util import is_url_from_allowed_origins

from e2crf_core.errors import LabError
from e2crf_core.runs.run import RunHandle
from pages.ui.common.hosts import host_allowed
from pages.ui.common.messages import sentence
from pages.ui.common.reference import reference_of
from pages.ui.common.registry import RUNS
from pages.ui.live.live_packets import obey, picture, read_message

LIVE_ROUTE = "/{base:path}lab/live/{run}"
FRAME_S = 1 / 32
IDLE_S = 1.0
IN_FLIGHT = 3
MESSAGE_BYTES = 4096
RATE, BURST = 120.0, 240.0
VIEWERS = 8

NO_SUCH_RUN, TOO_MANY_VIEWERS, TOO_BIG, TOO_FAST = 4404, 4429, 1009, 1008

_viewers: Counter[str] = Counter()


def live_path(run_id: str, base: str = "") -> str:
    """Return the path of a run's socket; `base` is the path that Streamlit is served under, if any."""
    return "/" + "/".join(filter(None, (base.strip("/"), "lab/live", run_id)))


def origin_allowed(origin: str | None, host: str | None) -> bool:
    """Return whether a page comes from this server, or from an origin that Streamlit was told to trust."""
    if not origin:
        return False
    return urlparse(origin).netloc == host or is_url_from_allowed_origins(origin)


class Allowance:
    """A token bucket: `take` is False once messages come faster than `rate` per second for long."""

    def __init__(self, rate: float = RATE, burst: float = BURST) -> None:
        self._rate, self._burst, self._left = rate, burst, burst
        self._at = time.monotonic()

    def take(self) -> bool:
        """Use the allowance of one message; return False when none is left."""
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        self._left -= 1
        return self._left >= 0


class _View:
    """A connection: its step in the run, and the number of updates on their way to it."""

    def __init__(self, start: int) -> None:
        self.cursor = start
        self.sent = 0
        self.shown = 0


async def live_socket(websocket: WebSocket) -> None:
    """Serve `LIVE_ROUTE`; `?from=` is the number of steps that the viewer already has."""
    host = websocket.headers.get("host")
    if not host_allowed(host) or not origin_allowed(websocket.headers.get("origin"), host):
        await websocket.close(TOO_FAST)
        return
    await websocket.accept()
    handle = RUNS.get(websocket.path_params["run"])
    if handle is None:
        await websocket.close(NO_SUCH_RUN, "no such run")
        return
    if _viewers[handle.id] >= VIEWERS:
        await websocket.close(TOO_MANY_VIEWERS, "too many viewers")
        return
    start = websocket.query_params.get("from", "0")
    view = _View(int(start) if start.isdecimal() and len(start) < 8 else 0)
    _viewers[handle.id] += 1
    sender = asyncio.create_task(_send(websocket, handle, view))
    try:
        await obey_messages(websocket, partial(_act, handle, view))
    except (WebSocketDisconnect, RuntimeError):
        pass
    finally:
        sender.cancel()
        with suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
            await sender
        _viewers[handle.id] -= 1
        if not _viewers[handle.id]:
            del _viewers[handle.id]


async def _send(websocket: WebSocket, handle: RunHandle, view: _View) -> None:
    reference = reference_of(handle.spec.checkpoint)
    seen: tuple[object, ...] = ()
    version = -1
    last = 0.0
    due = time.monotonic()
    while True:
        handle.touch()
        recorder = handle.recorder
        count = recorder.count if recorder is not None else 0
        now = time.monotonic()
        mark = (handle.status, handle.policy_version, handle.pace, handle.error)
        news = count != view.cursor or mark != seen or now - last > IDLE_S
        if news and view.sent - view.shown < IN_FLIGHT:
            frame, view.cursor = picture(
                handle, reference, view.cursor, with_policy=handle.policy_version != version
            )
            seen, version, last = mark, handle.policy_version, now
            view.sent += 1
            await websocket.send_bytes(frame)
        # A picture that was late is made up for by the next one, so that their number keeps its rate.
        due = max(due + FRAME_S, time.monotonic() - FRAME_S)
        await asyncio.sleep(max(0.0, due - time.monotonic()))


async def obey_messages(websocket: WebSocket, act: Callable[[dict[str, Any]], None]) -> None:
    """Carry out each message by `act`, until one is too big or they come too fast; faults are answered."""
    allowance = Allowance()
    while True:
        text = await websocket.receive_text()
        if len(text) > MESSAGE_BYTES:
            await websocket.close(TOO_BIG, "message too big")
            return
        if not allowance.take():
            await websocket.close(TOO_FAST, "too many messages")
            return
        try:
            act(read_message(text))
        except LabError as fault:
            await websocket.send_text(json.dumps({"error": sentence(str(fault))}))


def _act(handle: RunHandle, view: _View, message: dict[str, Any]) -> None:
    if message.get("type") == "shown":
        view.shown = min(view.sent, view.shown + 1)
    elif message.get("type") == "resync":
        view.cursor = 0
    else:
        obey(handle, message)
