"""Newcomers in a real browser: the landing page moves, and the tour leads through Live."""

import pytest

from benchmarks.browser import first
from tests.browser.axe import grave_findings
from tests.browser.patience import settled

pytestmark = pytest.mark.browser

FRAME = f"() => ({first('home')})()?.dataset.frame ?? null"


def test_the_recorded_run_moves_until_it_is_paused_and_a_door_leads_on(visit):
    page = visit("/")
    page.wait_for_function(f"() => +({FRAME})() > 2")
    assert page.title() == "Start · E²-CRF Lab"
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Play").wait_for()
    still = page.evaluate(FRAME)
    settled(page)
    assert page.evaluate(FRAME) == still
    page.get_by_role("link", name="Take the tour").click()
    page.get_by_text("1 of 5").wait_for()
    settled(page)
    page.keyboard.press("n")
    page.get_by_text("2 of 5").wait_for()
    page.wait_for_url("**tour=2*")
    assert grave_findings(page) == []
    page.reload()
    page.get_by_text("2 of 5").wait_for()
    page.get_by_role("button", name="Back").click()
    page.get_by_text("1 of 5").wait_for()
    page.get_by_role("button", name="End the tour").click()
    page.get_by_text("1 of 5").wait_for(state="detached")
    page.wait_for_url(lambda url: "tour" not in url)
    assert page.title() == "Live · E²-CRF Lab"


def test_someone_who_wants_less_motion_sees_the_last_step_at_rest(chromium, address):
    context = chromium.new_context(reduced_motion="reduce")
    page = context.new_page()
    page.goto(address)
    page.get_by_role("button", name="Play").wait_for(timeout=120_000)
    page.wait_for_function(f"() => ({FRAME})() === '39'", timeout=120_000)
    context.close()
