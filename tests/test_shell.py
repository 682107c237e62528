"""The page that a browser gets first: Streamlit's own, with the lab's style."""

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from pages.ui.common.shell import STYLE, StyledPages

PAGE = "<!DOCTYPE html>\n<html lang='en'><head></head><body><div id='root'></div></body></html>"


@pytest.fixture
def client():
    def page(request):
        return HTMLResponse(PAGE, headers={"etag": "old"})

    def other(request):
        return PlainTextResponse(PAGE)

    return TestClient(
        Starlette(
            routes=[Route("/lab/live", page), Route("/other", other)],
            middleware=[Middleware(StyledPages), Middleware(GZipMiddleware, minimum_size=1)],
        )
    )


def test_a_page_has_the_style_and_its_name(client):
    answer = client.get("/lab/live", headers={"if-none-match": "old"})
    style = f"<style>{STYLE.read_text(encoding='utf-8')}</style></body>"
    assert answer.text == PAGE.replace("</body>", style).replace("<html", '<html data-page="live"')
    assert "etag" not in answer.headers


def test_other_answers_are_left_alone(client):
    assert client.get("/other").text == PAGE


def test_a_name_in_the_address_cannot_leave_its_attribute(client):
    client.app.routes.append(Route("/{name}", lambda request: HTMLResponse(PAGE)))
    assert '<html data-page="&quot;&gt;&lt;b&gt;"' in client.get("/%22%3E%3Cb%3E").text
