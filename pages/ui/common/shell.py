"""The page that a browser gets before any script runs: Streamlit's own, with the lab's style already in it.

A style that came with the first script would move all that is on the screen by then.
"""

import html
from pathlib import Path

from e2crf_core.serving.guards import App, Message, Receive, Scope, Send

STYLE = Path(__file__).parents[1] / "front" / "page.css"
# An answer from a browser's cache, or a compressed one, could not be changed.
UNWANTED = (b"accept-encoding", b"if-none-match", b"if-modified-since")
OUTDATED = (b"content-length", b"etag", b"last-modified")


def styled(page: bytes, name: str) -> bytes:
    """Return Streamlit's page with the style, and with the name in the address that it was opened by."""
    # At the end: Streamlit's own styles, which go into the head, would overrule it there.
    style = b"<style>" + STYLE.read_bytes() + b"</style></body>"
    root = f'<html data-page="{html.escape(name)}"'.encode()
    return page.replace(b"</body>", style, 1).replace(b"<html", root, 1)


class StyledPages:
    """A wrapper that puts the style into every answer that is a page."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI call."""
        if scope["type"] != "http" or scope["method"] != "GET":
            await self.app(scope, receive, send)
            return
        name = scope["path"].rpartition("/")[2]
        opening: Message = {}
        parts: list[bytes] = []

        async def with_style(message: Message) -> None:
            nonlocal opening
            if message["type"] == "http.response.start" and is_page(message):
                opening = message
            elif not opening:
                await send(message)
            else:
                parts.append(message.get("body", b""))
                if not message.get("more_body"):
                    page = styled(b"".join(parts), name)
                    headers = [pair for pair in opening["headers"] if pair[0].lower() not in OUTDATED]
                    headers.append((b"content-length", str(len(page)).encode()))
                    await send({**opening, "headers": headers})
                    await send({"type": "http.response.body", "body": page})

        asked = [(key, value) for key, value in scope["headers"] if key not in UNWANTED]
        await self.app({**scope, "headers": asked}, receive, with_style)


def is_page(start: Message) -> bool:
    """Return whether an answer that begins so is a page in HTML."""
    return any(k.lower() == b"content-type" and v.startswith(b"text/html") for k, v in start["headers"])
