"""Ask every route and socket of an application, as its own route table lists them, under a Host name."""

import json
import re
import sys
from collections.abc import Iterable, Iterator

from starlette.routing import BaseRoute, Mount, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

REFUSED = "this host name is not served here"


def listed(routes: Iterable[BaseRoute], base: str = "") -> Iterator[tuple[str, str]]:
    """Yield (method, path) of every route, mounts included; the method of a socket is SOCKET."""
    for route in routes:
        path = base + re.sub(r"{[^}]*}", "1", getattr(route, "path", ""))
        if isinstance(route, Mount):
            yield "GET", f"{path}/index.html"
            yield from listed(route.routes, path)
        elif isinstance(route, WebSocketRoute):
            yield "SOCKET", path
        else:
            for method in sorted(getattr(route, "methods", None) or ("GET",)):
                yield method, path


def refusals(app, host: str) -> dict[tuple[str, str], bool]:
    """Ask each route of `app` as `host`; return, by (method, path), whether the Host guard refused it."""
    scopes = []

    async def spied(scope, receive, send):
        scopes.append(scope)
        await app(scope, receive, send)

    client = TestClient(spied, base_url="http://localhost")
    client.get("/")
    # Starlette notes in the scope which application answered: the inner one, for Streamlit's wrapper.
    table = sorted(
        {*listed(scopes[0]["app"].routes), ("GET", "/no/such/page"), ("SOCKET", "/no/such/socket")}
    )
    headers = {"host": host}
    found = {}
    for method, path in table:
        if method == "SOCKET":
            code = None
            try:
                with client.websocket_connect(path, headers=headers):
                    pass
            except WebSocketDisconnect as closed:
                code = closed.code
            found[method, path] = code == 1008
        else:
            answer = client.request(method, path, headers=headers)
            body = answer.text if method != "HEAD" else REFUSED
            found[method, path] = answer.status_code == 403 and REFUSED in body
    return found


if __name__ == "__main__":
    from app import app

    result = {host: refusals(app, host) for host in sys.argv[1:]}
    print(json.dumps({host: [[*key, value] for key, value in of.items()] for host, of in result.items()}))
