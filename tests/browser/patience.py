"""Helpers that wait in a browser for an event, never for a fixed time: busy machines are slow, not wrong."""

STILL = """(quiet) => {
  const busy = document.querySelector('[data-testid="stStatusWidget"], [data-testid="stSkeleton"]');
  const size = `${document.querySelectorAll('*').length} ${document.body.innerText.length}`;
  const seen = `${size} ${window.sent} ${location.href}`;
  if (busy || window.seenBefore !== seen) {
    window.seenBefore = seen;
    window.stillSince = performance.now();
  }
  return performance.now() - window.stillSince > quiet;
}"""
STANDING = """(node) => new Promise((done) => {
  let last = null, same = 0;
  const look = () => {
    const { x, y, width, height } = node.getBoundingClientRect(), box = `${x} ${y} ${width} ${height}`;
    same = box === last ? same + 1 : 0;
    last = box;
    if (same > 20) done(true);
    else requestAnimationFrame(look);
  };
  look();
})"""


def settled(page, quiet=700):
    """Wait until a page has neither changed nor sent anything for `quiet` milliseconds."""
    page.wait_for_function(STILL, arg=quiet)


def standing(locator):
    """Wait until an element has not moved for twenty frames; return its box."""
    locator.evaluate(STANDING)
    return locator.bounding_box()
