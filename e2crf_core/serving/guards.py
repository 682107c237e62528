"""Guard an application with plain ASGI: host names, body size and form, and security headers.

None of it needs a web framework, so the lab's own app can use the same guards.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Awaitable, Callable, Collection, Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from e2crf_core.errors import LabError
from e2crf_core.io.json_files import parse_json

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

INFERENCE = "/v2/"
"""The routes of the Open Inference Protocol, which prescribes another form of faults."""
MAX_BODY = 65_536
BODY_S = 15.0
"""Seconds that a client may take to send a body."""

# These lists cover what a page of this server needs: nothing but the style of the offline documentation.
SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
}


def host_name(host: str) -> str:
    """Return the name or address in a Host header, without its port; "" for text that is neither."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def is_address(name: str) -> bool:
    """Return whether a name is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(name: str) -> bool:
    """Return whether a host is reachable from this machine only."""
    return name == "localhost" or (is_address(name) and ipaddress.ip_address(name).is_loopback)


def host_allowed(host: str | None, names: Collection[str] = ()) -> bool:
    """Return whether a Host header names this machine by address, as localhost, or by one of `names`.

    With DNS rebinding, a foreign site resolves its own name to this machine, and its page then seems to share
    the server's origin. An address or `localhost` cannot be rebound.
    """
    name = host_name(host or "")
    return name == "localhost" or name.endswith(".localhost") or name in names or is_address(name)


class HostGuard:
    """A guard that answers 403 to requests and sockets with a foreign Host; `names` are allowed too."""

    def __init__(self, app: App, names: Callable[[], Collection[str]] | Collection[str] = ()) -> None:
        self.app, self.names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI call."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        hosts = [value.decode("latin-1") for key, value in scope["headers"] if key == b"host"]
        names = self.names() if callable(self.names) else self.names
        if len(hosts) == 1 and host_allowed(hosts[0], names):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            # A socket that is closed before it is accepted gets the answer 403.
            await send({"type": "websocket.close", "code": 1008})
        else:
            await answer(scope, send, 403, "this host name is not served here")


class SecurityHeaders:
    """A wrapper that adds headers to every answer that does not set them itself."""

    def __init__(
        self, app: App, headers: Iterable[tuple[str, str]] = tuple(SECURITY_HEADERS.items())
    ) -> None:
        self.app = app
        self.headers = [(name.encode(), value.encode()) for name, value in headers]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI call."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                stated = {name.lower() for name, _ in message.get("headers", [])}
                added = [(name, value) for name, value in self.headers if name not in stated]
                message = {**message, "headers": [*message.get("headers", []), *added]}
            await send(message)

        await self.app(scope, receive, with_headers)


class JsonBodies:
    """A wrapper that reads each body whole, limited in size and time, and only passes on unambiguous JSON.

    `translate` may turn a request into one with a JSON body; it raises LabError for what it cannot read.
    Answers 408 to a body that does not arrive, 413 to one that is too large, 422 to one that is not JSON.
    """

    def __init__(
        self,
        app: App,
        limit: int = MAX_BODY,
        seconds: float = BODY_S,
        translate: Callable[[Scope, bytes], tuple[Scope, bytes]] = lambda scope, body: (scope, body),
    ) -> None:
        self.app, self.limit, self.seconds, self.translate = app, limit, seconds, translate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI call."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return
        stated = dict(scope["headers"]).get(b"content-length", b"0")
        if not stated.isdigit() or len(stated) > 9 or int(stated) > self.limit:
            await answer(scope, send, 413, self._too_large)
            return
        try:
            body = await asyncio.wait_for(self._body(receive), self.seconds)
        except TimeoutError:
            await answer(scope, send, 408, f"the body did not arrive within {self.seconds:g} s")
            return
        if body is None:
            await answer(scope, send, 413, self._too_large)
            return
        try:
            scope, body = self.translate(scope, body)
            if body:
                parse_json(body, "the body", limit=self.limit)
        except LabError as fault:
            await answer(scope, send, 422, str(fault))
            return
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        await self.app(scope, lambda: self._again(messages, receive), send)

    @property
    def _too_large(self) -> str:
        return f"a body of at most {self.limit} bytes is expected"

    async def _body(self, receive: Receive) -> bytes | None:
        """Return the body, or None if it is too large."""
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return b""
            part = message.get("body", b"")
            size += len(part)
            if size > self.limit:
                return None
            parts.append(part)
            if not message.get("more_body"):
                return b"".join(parts)

    @staticmethod
    async def _again(messages: list[Message], receive: Receive) -> Message:
        return messages.pop() if messages else await receive()


async def answer(scope: Scope, send: Send, status: int, detail: str) -> None:
    """Send a small JSON answer that states why a request was rejected, in the form that its route has."""
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    inference = scope.get("path", "").startswith(INFERENCE)
    body = json.dumps({"error": detail} if inference else {"detail": detail, "faults": []}).encode()
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
