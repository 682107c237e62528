"""Fixtures that start the app in a separate process and open it in a real browser."""

import os
import shutil

import pytest

from benchmarks.browser import served_lab
from e2crf_core.io.resources import assets_dir
from tests.tiny import tiny_assets, tiny_demo

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def chromium():
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        reason = f"no browser found: install one of {', '.join(NAMES)}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import expect, sync_playwright

    # A busy machine is slow, not wrong.
    expect.set_options(timeout=120_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def demo_assets(tmp_path_factory):
    """Provide small checkpoints, a recorded run of one of them, and the lessons' measurements."""
    assets = tiny_assets(tmp_path_factory.mktemp("browser") / "assets")
    tiny_demo(assets)
    shutil.copytree(assets_dir() / "lessons", assets / "lessons")
    return assets


def served(assets, **environment):
    """Serve the app with these assets until the block ends; yield its address."""
    return served_lab(E2CRF_ASSETS=str(assets), OMP_NUM_THREADS="1", **environment)


@pytest.fixture(scope="session")
def address(demo_assets):
    """Provide the address of the app with small checkpoints, which the tests of a worker share."""
    with served(demo_assets) as address:
        yield address


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Keep whether the test failed, for its fixtures."""
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture
def visit(request, chromium, address):
    """Open pages in separate sessions; fail the test if a page raises a script error."""
    contexts, errors = [], []

    def visit(path="/", before=None):
        context = chromium.new_context(viewport={"width": 1440, "height": 1150})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        if before:
            before(page)
        page.goto(address + path)
        return page

    yield visit
    if request.node.stash[FAILED]:
        for page in (page for context in contexts for page in context.pages):
            print(f"{page.url}\n{page.locator('body').inner_text()}")
    for context in contexts:
        context.close()
    assert errors == []
