"""How a page lies on the screen: what is too wide, what overlaps, and how far its content jumps by itself."""

from benchmarks.browser import EVERY

OVERFLOW = """() => {
  const main = document.querySelector('[data-testid="stMain"]') ?? document.documentElement;
  return main.scrollWidth - main.clientWidth;
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
  for (const node of every(document.querySelector('[data-testid="stMain"], main')))
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

SHIFT = """(() => {
  window.shift = 0;
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
  }).observe({ type: 'layout-shift', buffered: true });
})()"""
MOST_SHIFT = 0.05
"""Largest layout shift of a page that opens: content that is read must not jump."""


def watch_shift(context):
    """Count the layout shift of each page of a browser context, from the moment it is opened."""
    context.add_init_script(SHIFT)


def shift(page):
    """Return the layout shift of a page so far."""
    return page.evaluate("window.shift")


def fits(page):
    """Wait until a page is no wider than the screen: plots follow a new width after a moment."""
    page.wait_for_function(f"() => ({OVERFLOW})() <= 0")


def overlaps(page):
    """Return what overlaps, once something is there."""
    page.wait_for_function(f"() => ({OVERLAPS})().count > 0")
    return page.evaluate(OVERLAPS)["bad"][:5]


def whole(page, where):
    """Check that nothing is off the screen or over something else; `where` names the place if so."""
    fits(page)
    found = overlaps(page)
    assert found == [], f"{where}: {found}"
