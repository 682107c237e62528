"""Pages without a browser: open them by address and read what they show."""

from pathlib import Path

from streamlit.testing.v1 import AppTest

PAGES = (
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
"""Addresses of all pages but Live, which has none."""

MAIN = str(Path(__file__).parents[1] / "pages" / "main.py")
PATIENCE = 60
"""Seconds for one run of a page: what a machine with other work may take."""
SAID = ("markdown", "caption", "info", "success", "warning", "error", "subheader")


def opened(page: str | None = None, **query: str) -> AppTest:
    """Open a page by name, or the Live page without one, as a link with this query would."""
    at = AppTest.from_file(MAIN, default_timeout=PATIENCE)
    if page is not None:
        clean(at.run())
    for name, value in query.items():
        at.query_params[name] = value
    return clean(at.run() if page is None else at.switch_page(f"{page}.py").run())


def clean(at: AppTest) -> AppTest:
    """Return the page after checking that it raised no error."""
    assert not at.exception, at.exception
    return at


def text(at: AppTest) -> str:
    """Return all prose on a page."""
    return " ".join(e.value for kind in SAID for e in at.get(kind))
