"""Pages without a browser: open them by address and read what they show."""

from pathlib import Path
from urllib.parse import parse_qsl

from streamlit.testing.v1 import AppTest

from tests.waiting import PATIENCE_S

PAGES = (
    "live",
    "lessons",
    "anatomy",
    "ask",
    "compare",
    "tune",
    "runs",
    "evidence",
    "data",
    "models",
    "training",
    "method",
)
"""Addresses of all pages but the landing page, which has none."""

MAIN = str(Path(__file__).parents[1] / "pages" / "main.py")
SAID = ("markdown", "caption", "info", "success", "warning", "error", "subheader")


def landed(**query: str) -> AppTest:
    """Open the address of the lab itself, with a query as links of the first release have it."""
    at = AppTest.from_file(MAIN, default_timeout=PATIENCE_S)
    for name, value in query.items():
        at.query_params[name] = value
    return clean(at.run())


def opened(page: str | None = "live", **query: str) -> AppTest:
    """Open a page by name, or the lab itself, as a link with this query would."""
    if page is None:
        return landed(**query)
    at = landed()
    for name, value in query.items():
        at.query_params[name] = value
    return clean(at.switch_page(f"{page}.py").run())


def clean(at: AppTest) -> AppTest:
    """Return the page after checking that it raised no error."""
    assert not at.exception, at.exception
    return at


def text(at: AppTest) -> str:
    """Return all prose on a page."""
    return " ".join(e.value for kind in SAID for e in at.get(kind))


def links(at: AppTest) -> dict[str, dict[str, str]]:
    """Return the queries of a page's links to other pages by label."""
    return {link.proto.label: dict(parse_qsl(link.proto.query_string)) for link in at.get("page_link")}
