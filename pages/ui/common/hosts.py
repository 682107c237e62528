"""The Host check on every route and socket: a foreign page must not reach the lab through a name of its own.

With DNS rebinding a foreign site resolves its own name to this machine; the browser then sends that name as Host, and
page and server seem to have one origin. An address or `localhost` cannot be rebound, so these are served, and besides
them the names that the lab was given: `browser.serverAddress`, `server.address` and `server.corsAllowedOrigins`.
"""

import ipaddress
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

import streamlit as st

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def configured_hosts() -> set[str]:
    """Return the names under which Streamlit was told that the lab is served."""
    options = [st.get_option("browser.serverAddress"), st.get_option("server.address")]
    options += st.get_option("server.corsAllowedOrigins") or []
    return {
        name for option in options if option for name in [host_name(str(option).rpartition("//")[2])] if name
    }


def host_name(host: str) -> str:
    """Return the name or address in a Host header, without its port; "" for text that is neither."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def host_allowed(host: str | None, names: Iterable[str] | None = None) -> bool:
    """Return whether a Host header names this machine by address, as localhost, or by one of `names`."""
    name = host_name(host or "")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    if name in (configured_hosts() if names is None else names):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class HostGuard:
    """ASGI middleware that answers 403 to requests and sockets whose Host is foreign."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what may enter."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        host = next((value for key, value in scope["headers"] if key == b"host"), b"").decode("latin-1")
        if host_allowed(host):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            # A socket that is closed before it is accepted is answered with 403.
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": b"This lab is not served under that name.\n"})
