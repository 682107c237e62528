"""The guards of the pages: the Host check on every route and socket, and the headers of every answer.

A foreign page must not reach the lab through its own host name, show it in a frame, or be loaded by it.

Requests to addresses and `localhost` are served (see `guards`), and to the configured names:
`browser.serverAddress`, `server.address` and `server.corsAllowedOrigins`.
"""

import base64
import hashlib
import re
from collections.abc import Collection
from pathlib import Path

import streamlit as st

from e2crf_core.serving import guards
from e2crf_core.serving.guards import host_name

__all__ = ["LabHostGuard", "configured_hosts", "host_allowed", "host_name", "page_headers"]


def _inline_scripts() -> str:
    """Return the hashes of the scripts within Streamlit's page, as a content security policy names them."""
    page = (Path(st.__file__).parent / "static" / "index.html").read_bytes()
    digests = (hashlib.sha256(code).digest() for code in re.findall(rb"<script>(.*?)</script>", page, re.S))
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)


def page_headers() -> list[tuple[str, str]]:
    """Return the security headers of pages.

    Scripts, pictures and connections come from this server alone: not even a picture in a file's note can call
    another one. Components are loaded from blobs; pages and plots set styles in their elements.
    """
    content = (
        "default-src 'self'",
        f"script-src 'self' blob: {_inline_scripts()}",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' blob: data:",
        "font-src 'self' data:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
    own = {"content-security-policy": "; ".join(content), "referrer-policy": "same-origin"}
    return [*(guards.SECURITY_HEADERS | own).items()]


def configured_hosts() -> set[str]:
    """Return the host names in Streamlit's configuration."""
    options = [st.get_option("browser.serverAddress"), st.get_option("server.address")]
    options += st.get_option("server.corsAllowedOrigins") or []
    return {
        name for option in options if option for name in [host_name(str(option).rpartition("//")[2])] if name
    }


def host_allowed(host: str | None, names: Collection[str] | None = None) -> bool:
    """Return whether a Host header names this machine by address, as localhost, or by one of `names`."""
    return guards.host_allowed(host, configured_hosts() if names is None else names)


class LabHostGuard(guards.HostGuard):
    """ASGI middleware that answers 403 to requests and sockets whose Host is foreign to the lab."""

    def __init__(self, app: guards.App) -> None:
        super().__init__(app, configured_hosts)
