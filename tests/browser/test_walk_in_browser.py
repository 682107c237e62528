"""A newcomer's walk in a real browser: door, tour, every lesson's guess and answer, Back, reload, and every button."""

import re
import time
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Error

from benchmarks.browser import EVERY
from e2crf_core.lessons.texts import TEXTS
from e2crf_core.runs.archive import load
from e2crf_core.runs.store import RunStore
from pages.ui.live.tour import STOPS
from tests.browser.conftest import served
from tests.browser.faults import watch_faults
from tests.browser.layout import whole
from tests.browser.patience import settled
from tests.visits import PAGES
from tests.waiting import PATIENCE_S, until

pytestmark = pytest.mark.browser

WIDTHS = (1440, 900, 390)
# The first button that has not been pressed, in the topmost dialog if there is one. Menus of the header, the handle of
# the sidebar, lists that drop down, tool bars above a plot or table, and what cannot be pressed now are left out.
LEFT_OUT = (
    'header, [data-testid="stHeader"], [data-testid="stSidebarHeader"], [data-testid="stElementToolbar"], .modebar, '
    '[role="combobox"], [data-testid="stSelectbox"], [data-testid="stMultiSelect"]'
)
NEXT = (
    f"(pressed) => {{ const LEFT_OUT = {LEFT_OUT!r};"
    + EVERY
    + """
  const layers = document.querySelectorAll('[role=dialog], [data-testid="stPopoverBody"]');
  const top = layers[layers.length - 1] ?? document.body;
  for (const node of every(top)) {
    if (!node.matches('button, [role=tab], summary') || node.disabled || node.closest(LEFT_OUT)) continue;
    if (!node.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    const name = (node.ariaLabel || node.innerText || node.title || '').trim().replace(/[0-9]+/g, '#');
    if (!pressed.includes(name)) { node.buttonName = name; return node; }
  }
  return top === document.body ? null : 'close';
}"""
)
# The script has run, and no other run has begun for a moment.
RESTING = """() => {
  const state = document.querySelector('.stApp')?.getAttribute('data-test-script-state');
  if (state !== 'notRunning') window.restingSince = null;
  else window.restingSince ??= performance.now();
  return window.restingSince != null && performance.now() - window.restingSince > 150;
}"""


@pytest.fixture(scope="module")
def own_lab(demo_assets, tmp_path_factory):
    """Serve a lab of its own: what is pressed here is in nobody's way."""
    home = tmp_path_factory.mktemp("walk")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("E2CRF_HOME", str(home))
        demo = load(demo_assets / "demo" / "run.zip")
        for name in ("first", "second"):
            RunStore().add(replace(demo, name=name))
    with served(demo_assets, E2CRF_HOME=str(home)) as address:
        yield address


@pytest.fixture(params=["light", "dark"])
def walker(request, chromium, own_lab):
    """Provide a page of a visitor who has just come; any fault that it notes fails the test."""
    context = chromium.new_context(
        base_url=own_lab, viewport={"width": WIDTHS[0], "height": 1000}, color_scheme=request.param
    )
    page = context.new_page()
    page.set_default_timeout(30_000)
    faults = watch_faults(page)
    yield page
    context.close()
    assert faults == []


def button(page, label):
    """Return the button with a label; its key, if it has one, follows the label in its name."""
    return page.get_by_role("button", name=re.compile(f"^{re.escape(label)}( Shortcut .)?$"))


def raised(page):
    """Return what a page shows of errors in its script."""
    return page.get_by_test_id("stException").all_inner_texts()


def whole_at_all_widths(page, where):
    """Check a place as it is on a large screen, a small one, and a phone."""
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 1000})
        whole(page, f"{where} at {width} px")
        assert raised(page) == [], where
    page.set_viewport_size({"width": WIDTHS[0], "height": 1000})


def test_through_the_door_and_the_tour(walker):
    walker.goto("/")
    walker.get_by_role("link", name="Take the tour").click()
    for number, stop in enumerate(STOPS, 1):
        walker.get_by_text(f"{number} of {len(STOPS)} · {stop.title}.").wait_for()
        settled(walker)
        whole_at_all_widths(walker, f"stop {number} of the tour")
        if number < len(STOPS):
            button(walker, "Next").click()
    walker.go_back()
    walker.get_by_text(f"{len(STOPS) - 1} of {len(STOPS)} · {STOPS[-2].title}.").wait_for()
    walker.reload()
    walker.get_by_text(STOPS[-2].title).wait_for()
    settled(walker)
    button(walker, "End the tour").click()
    walker.get_by_text(STOPS[-2].title).wait_for(state="detached")


def test_through_every_lesson_by_guess_answer_back_and_link(walker):
    walker.goto("/lessons")
    title = walker.locator("h1")
    for place, lesson in enumerate(TEXTS, 1):
        until(lambda name=f"{place}. {lesson.title}": name in title.inner_text())
        settled(walker)
        guess = button(walker, lesson.choices[place % len(lesson.choices)])
        guess.click()
        guess.wait_for(state="detached")
        right = lesson.right == place % len(lesson.choices)
        verdict = (
            f"Right: {lesson.choices[lesson.right]}" if right else f"but: {lesson.choices[lesson.right]}"
        )
        walker.get_by_text(verdict).wait_for()
        settled(walker)
        whole_at_all_widths(walker, f"lesson {place}, answered")
        if place > 1:
            walker.go_back()
            until(lambda name=TEXTS[place - 2].title: name in title.inner_text())
            walker.go_forward()
            until(lambda name=lesson.title: name in title.inner_text())
        if place < len(TEXTS):
            settled(walker)
            button(walker, f"{TEXTS[place].title} →").click()
    walker.reload()
    until(lambda: TEXTS[-1].title in title.inner_text())
    settled(walker)
    walker.get_by_role("link", name="Try it live").click()
    walker.wait_for_url("**/live?*")
    settled(walker)
    whole_at_all_widths(walker, "a lesson's turn on Live")


def press(button, where):
    """Press a button; return False if it went away first, as a menu does that closes or a part that is drawn again."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            button.click(timeout=3_000)
            return True
        except Error as fault:
            if not button.is_visible():
                return False
            if time.monotonic() > end:
                pytest.fail(f"{where} cannot be pressed: {fault}")


@pytest.mark.parametrize("walker", ["light"], indirect=True)
@pytest.mark.parametrize("path", ["", *PAGES])
def test_every_button_does_something_that_the_lab_survives(walker, path):
    walker.goto(f"/{path}")
    walker.locator('[data-testid="stMainBlockContainer"] >> :scope > *').first.wait_for()
    settled(walker)
    pressed: list[str] = []
    while True:
        target = walker.evaluate_handle(NEXT, pressed)
        button = target.as_element()
        if button is None:
            if target.json_value() is None:
                break
            walker.keyboard.press("Escape")
        else:
            name = button.evaluate("(node) => node.buttonName")
            if not press(button, f"/{path}: {name!r} after {pressed}"):
                continue
            pressed.append(name)
        assert len(pressed) < 100, pressed
        walker.evaluate("window.restingSince = null")
        walker.wait_for_function(RESTING)
        assert raised(walker) == [], f"/{path} after {pressed}"
        if urlsplit(walker.url).path.strip("/") != path:
            walker.goto(f"/{path}")
            settled(walker)
    settled(walker)
    whole(walker, f"/{path} after {pressed}")
