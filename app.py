"""E²-CRF Lab: `streamlit run app.py` serves the pages, and the live stream next to them."""

import streamlit as st
from starlette.middleware import Middleware
from starlette.routing import WebSocketRoute

from e2crf_core.io.userfiles import clean_home
from e2crf_core.serving.guards import SecurityHeaders
from pages.ui.common.hosts import LabHostGuard, page_headers
from pages.ui.common.shell import StyledPages
from pages.ui.live.ask_socket import ASK_ROUTE, ask_socket
from pages.ui.live.socket import LIVE_ROUTE, live_socket

clean_home()
app = st.App(
    "pages/main.py",
    routes=[WebSocketRoute(LIVE_ROUTE, live_socket), WebSocketRoute(ASK_ROUTE, ask_socket)],
    middleware=[
        Middleware(SecurityHeaders, headers=page_headers()),
        Middleware(LabHostGuard),
        Middleware(StyledPages),
    ],
)
