"""The Host check on every route and socket: a foreign page must not reach the lab through its own host name.

Requests to addresses and `localhost` are served (see `guards`), and to the configured names:
`browser.serverAddress`, `server.address` and `server.corsAllowedOrigins`.
"""

from collections.abc import Collection

import streamlit as st

from e2crf_core.serving import guards
from e2crf_core.serving.guards import host_name

__all__ = ["LabHostGuard", "configured_hosts", "host_allowed", "host_name"]


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
