"""Cut connections that are too slow: clients that do not finish a request's head, or do not read the answer.

The time for a request's body is limited in `guards`, and that between two requests by uvicorn itself.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol

KEEP_ALIVE_S = 5
CONNECTIONS = 512


class TimedConnection(H11Protocol):
    """A connection that ends when the client takes longer than `head_s` for a head, or `read_s` to read on."""

    head_s = 10.0
    read_s = 30.0
    _head: asyncio.TimerHandle | None = None
    _read: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Read on; a head that has begun must be completed in time."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            _cancel(self._head)
            self._head = None
        else:
            self._expect_head()

    def pause_writing(self) -> None:
        """Wait for a client that does not read as fast as the answer is written."""
        super().pause_writing()
        self._read = self.loop.call_later(self.read_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Write on."""
        _cancel(self._read)
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers of a connection that has ended."""
        _cancel(self._head)
        _cancel(self._read)
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        if self._head is None:
            self._head = self.loop.call_later(self.head_s, self.transport.abort)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def server_config(app: Any, connection: type[H11Protocol] = TimedConnection, **settings: Any) -> Config:
    """Return uvicorn's configuration for serving samples, with its limits on connections."""
    return Config(
        app,
        http=connection,
        log_level="warning",
        timeout_graceful_shutdown=5,
        timeout_keep_alive=KEEP_ALIVE_S,
        limit_concurrency=CONNECTIONS,
        server_header=False,
        **settings,
    )
