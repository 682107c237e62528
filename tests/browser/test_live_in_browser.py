"""The Live page in a real browser: what a visitor does and sees, with the socket and without it."""

import re
from urllib.parse import parse_qs, quote

import pytest
from playwright import sync_api

from benchmarks.browser import first
from e2crf_core.runs.archive import archive_mark, load
from e2crf_core.runs.store import RunStore
from tests.browser.patience import standing
from tests.browser.saved_files import same_table, save, svg_panels
from tests.waiting import until

pytestmark = pytest.mark.browser

POLICY = quote('{"clock":"profile","predictor":"linear"}')
WATCH = f"/live?view=watch&solver=euler_maruyama&grid=linear&policy={POLICY}"
"""The published sampler with the preset `balanced`: long enough to act on while it runs."""

LAB = first("lab")


def lab(page, name):
    value = page.evaluate(f"() => ({LAB})()?.dataset.{name}")
    return int(value) if name in ("steps", "renders") and value else value


def wait(page, condition):
    """Wait until a JavaScript condition on `lab.dataset` holds."""
    page.wait_for_function(
        f"() => {{ const d = ({LAB})()?.dataset; return d && ({condition}); }}", timeout=120_000
    )


def start(page, pace=None, steps=None):
    page.get_by_role("button", name="Start", exact=True).wait_for()
    wait(page, "+d.renders > 0")
    if steps:
        page.get_by_label("Steps", exact=True).fill(str(steps))
        page.keyboard.press("Enter")
    if pace:
        page.get_by_label("Pace in steps per second").select_option(pace)
    page.get_by_role("button", name="Start", exact=True).click()
    wait(page, "+d.steps > 0")


def decided(page):
    """Return how many pixels of the decision map show a decision; steps to come are blank."""
    return page.evaluate(
        f"""() => {{
      const map = ({LAB})().querySelector('[data-panel="map"] canvas');
      const at = (map.width * 0.05) | 0, row = (map.height / 2) | 0;
      const data = map.getContext('2d').getImageData(at, row, map.width - at, 1).data;
      let count = 0;
      for (let i = 3; i < data.length; i += 4) count += data[i] > 250;
      return count;
    }}"""
    )


def tile(page, label):
    return page.locator(".tiles div", has_text=label).locator("dd").inner_text()


def number(text):
    """Read a number as the canvas writes it: 0.012, 6.6·10⁻⁴."""
    return float(text.replace("·10", "e").translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")))


def drag(page, field, dy):
    handle = page.locator(f'.handle.y[data-field="{field}"]').first
    box = standing(handle)  # axes settle in the first pictures
    x, y = box["x"] + box["width"] * 0.7, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for part in range(1, 6):
        page.mouse.move(x, y + dy * part / 5)
    return handle


def test_start_makes_the_decision_map_grow_again_and_again(visit):
    page = visit(WATCH)
    start(page, pace="50", steps=2000)
    for _ in range(5):
        before = decided(page)
        until(lambda before=before: decided(page) > before)


def test_dragging_tau_acts_while_it_is_dragged_and_the_sidebar_follows(visit):
    page = visit(WATCH)
    start(page, pace="20", steps=2000)
    handle = drag(page, "tau", -40)
    page.wait_for_function(
        f"() => +({LAB})().querySelectorAll('.tiles dd')[7].textContent > 0"
    )  # the server has a new policy although the button is still held
    page.mouse.up()
    sidebar = page.get_by_role("spinbutton", name="Threshold tau")
    # The handle moves with the next picture: read both until they agree.
    until(lambda: sidebar.input_value() == handle.get_attribute("aria-valuenow") != "0.2")
    shown = sidebar.input_value()
    assert float(shown) > 0.2
    sync_api.expect(page.get_by_role("combobox", name="Preset")).to_have_value("custom")
    changes = int(tile(page, "Policy changes"))
    handle.focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_function(f"(n) => +({LAB})().querySelectorAll('.tiles dd')[7].textContent > n", arg=changes)
    until(lambda: float(handle.get_attribute("aria-valuenow")) < float(shown))


def test_controls_act_and_sessions_do_not_disturb_each_other(visit):
    one, two = visit(WATCH), visit(WATCH)
    start(one, pace="10", steps=2000)
    start(two, pace="10", steps=2000)
    one.get_by_role("button", name="Pause", exact=True).click()
    wait(one, "d.status === 'paused'")
    held, going = lab(one, "steps"), lab(two, "steps")
    wait(two, f"+d.steps > {going + 10}")
    assert lab(one, "steps") <= held + 1 and lab(two, "status") == "running"
    held = lab(one, "steps")
    one.get_by_role("button", name="Step", exact=True).click()
    wait(one, f"+d.steps === {held + 1}")
    one.get_by_role("button", name="Resume", exact=True).click()
    wait(one, f"+d.steps > {held + 5}")
    one.get_by_role("button", name="Stop", exact=True).click()
    wait(one, "d.status === 'stopped'")
    assert lab(two, "status") == "running"


def test_a_reload_adopts_the_run_and_closing_the_tab_stops_it(visit):
    page = visit(WATCH)
    start(page, pace="10", steps=2000)
    page.wait_for_url(re.compile(r"[?&]run="))
    query = "/?" + page.url.partition("?")[2]
    other = visit(query)  # it keeps the run going, however long the reload takes
    wait(other, "d.status === 'running'")
    seen = lab(page, "steps")
    page.reload()
    wait(page, f"+d.steps > {seen}")
    assert lab(page, "status") == "running"
    mark = archive_mark(parse_qs(query.partition("?")[2])["run"][0])
    page.close()
    other.close()
    # A run without viewers ends, and its record is kept.
    until(lambda: any(entry.name.endswith(mark) for entry in RunStore().list()))
    again = visit(query)
    wait(again, "d.status === 'stopped'")
    again.get_by_text("nobody was watching").wait_for()


def test_a_whole_run_ends_with_its_results_and_shows_the_error_that_is_kept(visit):
    page = visit(f"{WATCH}&num=1")
    start(page, pace="0", steps=60)
    wait(page, "d.status === 'done'")
    page.get_by_text("What the cache did in this run").wait_for()
    mark = archive_mark(parse_qs(page.url.partition("?")[2])["run"][0])
    kept = next(entry.name for entry in RunStore().list() if entry.name.endswith(mark))
    twin = load(RunStore().path(kept)).result.comparison
    assert number(tile(page, "Error now")) == pytest.approx(twin.relative_l2, rel=0.01)
    with page.expect_download() as download:
        page.get_by_role("button", name="Samples (csv)").click()
    assert download.value.suggested_filename.endswith(".csv")
    files = save(page)
    frame, panels = same_table(files), svg_panels(files["SVG"])
    cells, dots = frame[frame.panel.str.startswith("map")], panels["scores"].dots
    assert len(cells) == 60 * len(dots) and set(cells.value) <= {0, 1, 2, 3, 4}
    assert len(panels["intensity"].lines) == 2 and {"step", "frequency k"} <= panels["map"].texts
    assert files["PNG"].name == "live-step60.png" and "A live run" in files["HTML"].read_text()


def test_where_no_socket_is_served_the_page_polls(visit):
    page = visit(
        WATCH, before=lambda page: page.route_web_socket(re.compile("/lab/live/"), lambda ws: ws.close())
    )
    # Long enough not to end before a busy machine has clicked on Pause.
    start(page, pace="50", steps=2000)
    seen = lab(page, "steps")
    wait(page, f"+d.steps > {seen + 30}")
    page.get_by_role("button", name="Pause", exact=True).click()
    wait(page, "d.status === 'paused'")


def test_a_deep_link_opens_its_page(visit):
    page = visit("/method")
    page.get_by_role("heading", name="Method", exact=True).wait_for()
