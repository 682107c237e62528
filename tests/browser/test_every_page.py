"""Every page, light and dark, wide, narrow and on a phone: nothing is logged, cut, over another or closed to anyone."""

from pathlib import Path

import pytest

from tests.browser.axe import grave_findings
from tests.browser.faults import watch_faults
from tests.browser.layout import MOST_SHIFT, shift, watch_shift, whole
from tests.browser.patience import settled
from tests.visits import PAGES

pytestmark = pytest.mark.browser

ADDRESSES = ("", *PAGES)
PHONE = {"width": 390, "height": 850}
ARTIFACTS = Path(__file__).parents[2] / "artifacts" / "pages"


# Colors do not depend on the width: each of both is seen once.
@pytest.mark.parametrize(("theme", "width"), [("light", 1440), ("dark", 900)])
def test_every_page_is_whole(chromium, address, theme, width):
    context = chromium.new_context(viewport={"width": width, "height": 1150}, color_scheme=theme)
    watch_shift(context)
    page = context.new_page()
    page.set_default_timeout(120_000)
    faults = watch_faults(page)
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    try:
        for path in ADDRESSES:
            page.goto(f"{address}/{path}")
            page.locator('[data-testid="stMainBlockContainer"] >> :scope > *').first.wait_for()
            settled(page)
            check(page, path, theme, width)
            assert not faults, f"/{path}: {faults}"
    finally:
        context.close()


def check(page, path, theme, width):
    """Check a page that has settled; the narrow one becomes a phone's at the end."""
    assert page.locator('[data-testid="stException"]').count() == 0, f"/{path} raised"
    assert "Page not found" not in page.content(), f"/{path}"
    assert shift(page) < MOST_SHIFT, f"/{path} at {width} px"
    whole(page, f"/{path} at {width} px")
    dark = page.evaluate("() => getComputedStyle(document.querySelector('.stApp')).colorScheme")
    assert dark == theme, f"/{path} is shown in {dark}"
    page.screenshot(path=ARTIFACTS / f"{path or 'start'}-{theme}-{width}.png")
    assert grave_findings(page) == [], f"/{path} {theme}"
    if theme == "dark":
        page.set_viewport_size(PHONE)
        whole(page, f"/{path} on a phone")
        page.set_viewport_size({"width": width, "height": 1150})
