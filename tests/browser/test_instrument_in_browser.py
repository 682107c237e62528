"""The instrument in a real browser: a drag is answered all along, and what it shows is what a headless run gives."""

import json
import re

import pytest
from playwright import sync_api

from e2crf_core.caching.policy import PRESETS
from e2crf_core.models.checkpoints import load_checkpoint
from e2crf_core.runs.answer import answer
from e2crf_core.sampling.config import SamplerConfig
from tests.browser import patience
from tests.browser.test_live_in_browser import LAB, lab, number, tile, wait

pytestmark = pytest.mark.browser

ADDRESS = "/live?checkpoint=ecg&seed=2&steps=30"
PICTURE = f"""() => {{
  const lab = ({LAB})();
  return ['plane', 'series', 'bands', 'map'].map((name) => {{
    const canvas = lab.querySelector(`[data-panel="${{name}}"] canvas`);
    const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    let sum = 7;
    for (let i = 0; i < data.length; i += 3) sum = (sum * 31 + data[i]) >>> 0;
    return sum;
  }});
}}"""


def settled(page):
    wait(page, "d.settled === 'true'")


def shown(page):
    """Return what the canvas shows: threshold, error and cost, in full digits."""
    return tuple(float(lab(page, name)) for name in ("tau", "error", "cost"))


def drag(page, share):
    """Move the threshold's handle along `share` of its slider, held down; returns the pictures on the way."""
    box = page.get_by_role("slider", name="Threshold").bounding_box()
    x, y = box["x"] + box["width"] * 0.9, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    pictures = []
    for part in range(1, 9):
        before = lab(page, "tau")
        page.mouse.move(x - box["width"] * share * part / 8, y)
        wait(page, f"d.tau !== '{before}'")
        pictures.append((shown(page), page.evaluate(PICTURE)))
    page.mouse.up()
    return pictures


def headless(demo_assets, tau, num):
    model = load_checkpoint(demo_assets / "checkpoints" / "ecg", "cpu")
    config = SamplerConfig(PRESETS["multistep"].replace(tau=tau), 30, "dpmpp_2m", "profile")
    return answer(model, config, 2, num, resamples=20)


def test_a_drag_is_answered_all_along_and_shows_what_a_headless_run_gives(visit, demo_assets):
    page = visit(ADDRESS)
    settled(page)
    pictures = drag(page, 0.6)
    taus = [tau for (tau, _, _), _ in pictures]
    assert taus == sorted(taus, reverse=True) and len(set(taus)) == len(taus)
    for panel in range(3):
        assert len({sums[panel] for _, sums in pictures}) > 1
    settled(page)
    tau, error, cost = shown(page)
    reply = headless(demo_assets, tau, 16)
    assert error == pytest.approx(reply.error.pooled.value, rel=1e-6) and cost == pytest.approx(reply.cost)
    assert number(tile(page, "Error to the twin").partition("95%")[0]) == pytest.approx(error, rel=0.05)
    sync_api.expect(page.get_by_role("spinbutton", name="Threshold tau")).to_have_value(f"{tau:g}")


def test_the_keyboard_multiplies_the_threshold_and_the_address_keeps_it(visit):
    page = visit(ADDRESS)
    settled(page)
    before, *_ = shown(page)
    slider = page.get_by_role("slider", name="Threshold")
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    wait(page, f"+d.tau < {before}")
    assert "Threshold" in slider.get_attribute("aria-valuetext")
    settled(page)
    after, *_ = shown(page)
    page.wait_for_url(re.compile(r"policy="))
    page.reload()
    settled(page)
    assert shown(page)[0] == after


def test_pins_are_kept_compared_restored_linked_and_taken_to_anatomy(visit, address):
    page = visit(ADDRESS)
    settled(page)
    pinned = shown(page)
    page.get_by_role("button", name="Pin", exact=True).click()
    slider = page.get_by_role("slider", name="Threshold")
    slider.focus()
    page.keyboard.press("Home")
    wait(page, f"+d.tau < {pinned[0] / 2}")
    settled(page)
    assert shown(page)[2] > pinned[2]
    page.get_by_role("button", name="Restore pin 1").click()
    wait(page, f"+d.tau === {pinned[0]} && d.settled === 'true'")
    assert shown(page) == pinned
    page.wait_for_url(re.compile("pins="))
    link = visit(page.url.removeprefix(address))
    settled(link)
    other = link.get_by_role("button", name="Restore pin 1")
    sync_api.expect(other).to_contain_text(page.get_by_role("button", name="Restore pin 1").inner_text())
    link.get_by_role("button", name="More with pin 1").click()
    link.get_by_role("button", name="See every step in Anatomy").click()
    link.wait_for_url(re.compile("/anatomy.*run="))
    page.get_by_role("button", name="Remove pin 1").click()
    sync_api.expect(page.get_by_role("button", name="Restore pin 1")).to_have_count(0)
    page.wait_for_url(lambda url: "pins=" not in url)


def test_other_settings_act_too_and_what_cannot_run_is_said(visit):
    page = visit(ADDRESS)
    settled(page)
    page.get_by_role("slider", name="K", exact=True).focus()
    cost = shown(page)[2]
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    wait(page, f"+d.cost > {cost}")
    page.get_by_label("Rule", exact=True).select_option("fixed")
    page.get_by_role("slider", name="Interval").wait_for()
    settled(page)
    solver = page.locator("select").and_(page.get_by_label("Solver", exact=True))
    solver.select_option("heun")
    page.get_by_role("alert").get_by_text("odd number").wait_for()
    solver.select_option("unipc_2")
    settled(page)
    page.get_by_label("Rule", exact=True).select_option("nested")
    measure = page.get_by_role("button", name="Measure it now")
    measure.wait_for()
    page.get_by_label("Rule", exact=True).select_option("log_snr")
    measure.wait_for(state="hidden")  # the first answer hides it
    settled(page)


def test_where_no_socket_is_served_the_page_answers(visit):
    page = visit(
        ADDRESS, before=lambda page: page.route_web_socket(re.compile("/lab/ask"), lambda ws: ws.close())
    )
    settled(page)
    before = shown(page)
    page.get_by_role("slider", name="Threshold").focus()
    page.keyboard.press("Home")
    wait(page, f"+d.tau < {before[0]} && d.settled === 'true'")
    assert json.loads(lab(page, "cost")) > before[2]


def test_a_setting_that_cannot_run_leaves_the_instrument_in_its_place(visit):
    """Without a socket, the question and the report of the setting always arrive together."""
    page = visit(
        ADDRESS, before=lambda page: page.route_web_socket(re.compile("/lab/ask"), lambda ws: ws.close())
    )
    settled(page)
    solver = page.locator("select").and_(page.get_by_label("Solver", exact=True))
    solver.select_option("heun")
    page.get_by_role("alert").get_by_text("odd number").wait_for()
    patience.settled(page)
    solver.select_option("unipc_2")
    settled(page)
