"""Every page, light and dark, wide and narrow: no errors, log messages or overlap, nothing off the screen."""

from pathlib import Path

import pytest

from benchmarks.browser import EVERY
from tests.browser.patience import settled
from tests.visits import PAGES

pytestmark = pytest.mark.browser

ADDRESSES = ("", *PAGES)
ARTIFACTS = Path(__file__).parents[2] / "artifacts" / "pages"
# Streamlit asks below a deep link's own path first; the answer is harmless.
HARMLESS = ("_stcore/health", "_stcore/host-config")

OVERFLOW = """() => {
  const main = document.querySelector('[data-testid="stMain"]');
  return main ? main.scrollWidth - main.clientWidth : -1;
}"""
# Controls, titles and plots that overlap, in the page and in its components. Parts of one Streamlit widget (a
# field and its button) count as one; handles lie on plots by design.
OVERLAPS = (
    "() => {"
    + EVERY
    + """
  const wanted = 'button, select, input, textarea, summary, h1, h2, h3, h4, h5, .legend, dl.tiles > div, ' +
    '[data-testid="stMetric"], [data-testid="stMarkdownContainer"] > p';
  const found = [];
  for (const node of every(document.querySelector('[data-testid="stMain"]')))
    if (node.matches(wanted) && node.type !== 'file' && !node.closest('.handle')) found.push(node);
  const seen = found.filter((n) => n.checkVisibility({ opacityProperty: true, visibilityProperty: true }))
    .map((node) => ({ node, box: node.getBoundingClientRect(),
      widget: node.closest('[data-testid="stElementContainer"]') }))
    .filter(({ box }) => box.width > 4 && box.height > 4);
  const bad = [];
  seen.forEach((a, i) => seen.slice(i + 1).forEach((b) => {
    if (a.node.contains(b.node) || b.node.contains(a.node) || (a.widget && a.widget === b.widget)) return;
    const wide = Math.min(a.box.right, b.box.right) - Math.max(a.box.left, b.box.left);
    const high = Math.min(a.box.bottom, b.box.bottom) - Math.max(a.box.top, b.box.top);
    const name = (n) => `${n.tagName} ${(n.ariaLabel || n.textContent || '').trim().slice(0, 40)}`;
    if (wide > 3 && high > 3) bad.push(`${name(a.node)} | ${name(b.node)}`);
  }));
  return { bad, count: seen.length };
}"""
)


# Colors do not depend on the width: each of both is seen once.
@pytest.mark.parametrize(("theme", "width"), [("light", 1440), ("dark", 900)])
def test_every_page_is_whole(chromium, address, theme, width):
    context = chromium.new_context(viewport={"width": width, "height": 1150}, color_scheme=theme)
    page = context.new_page()
    page.set_default_timeout(120_000)
    faults: list[str] = []
    page.on("pageerror", lambda fault: faults.append(str(fault)))
    page.on(
        "response",
        lambda answer: (
            faults.append(f"{answer.status} {answer.url}")
            if answer.status >= 400 and not answer.url.endswith(HARMLESS)
            else None
        ),
    )
    page.on(
        "console",
        lambda line: (
            faults.append(line.text)
            if line.type == "error" and "Failed to load resource" not in line.text
            else None
        ),
    )
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    try:
        for path in ADDRESSES:
            page.goto(f"{address}/{path}")
            page.locator('[data-testid="stMainBlockContainer"] >> :scope > *').first.wait_for()
            settled(page)
            assert page.locator('[data-testid="stException"]').count() == 0, f"/{path} raised"
            assert "Page not found" not in page.content(), f"/{path}"
            assert page.evaluate(OVERFLOW) == 0, f"/{path} is wider than {width} px"
            page.wait_for_function(f"() => ({OVERLAPS})().count > 0")
            overlaps = page.evaluate(OVERLAPS)["bad"]
            assert overlaps == [], f"/{path} at {width} px: {overlaps[:5]}"
            dark = page.evaluate("() => getComputedStyle(document.querySelector('.stApp')).colorScheme")
            assert dark == theme, f"/{path} is shown in {dark}"
            page.screenshot(path=ARTIFACTS / f"{path or 'start'}-{theme}-{width}.png")
            assert not faults, f"/{path}: {faults}"
    finally:
        context.close()
