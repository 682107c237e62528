"""Helpers that wait in a browser for an event, never for a fixed time: busy machines are slow, not wrong."""

from tests.waiting import until

STILL = """(quiet) => {
  const ran = document.querySelector('.stApp')?.getAttribute('data-test-script-state') === 'notRunning';
  const busy = !ran || document.querySelector('[data-testid="stStatusWidget"], [data-testid="stSkeleton"]');
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
    """Wait until a page's script has run, and nothing has changed or been sent for `quiet` milliseconds."""
    page.wait_for_function(STILL, arg=quiet)


def standing(locator):
    """Wait until an element has not moved for twenty frames; return its box."""
    locator.evaluate(STANDING)
    return locator.bounding_box()


def click_until(page, locator, condition):
    """Click the middle of an element that may move or be drawn again, until a condition holds."""

    def attempt():
        if box := locator.bounding_box():
            page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            page.mouse.down()
            page.mouse.up()
        return condition()

    until(attempt)
