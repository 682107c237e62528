"""A study in a real browser: points arrive, one is clicked, keys move on and mark an axis, the study is removed."""

import re

import pytest
from playwright import sync_api

from tests.browser.patience import click_until, settled

pytestmark = pytest.mark.browser
SLOW = 90_000


def heading(page, text):
    return page.get_by_role("heading", name=text)


def test_points_arrive_one_is_clicked_and_its_details_are_shown(visit):
    page = visit("/tune")
    page.set_default_timeout(SLOW)
    page.get_by_role("button", name=re.compile("Try it")).click()
    page.get_by_text(re.compile("Trial .* is running, .* min left")).wait_for()
    chart = page.locator(".tune:has([data-mark])").first
    chart.locator('[data-number="0"]').wait_for(state="attached")
    chart.locator('[data-number="1"]').wait_for(state="attached")

    reference = chart.locator('[data-mark="reference"] path').last
    click_until(page, reference, lambda: chart.get_attribute("data-selected") == "-1")
    sync_api.expect(chart.locator(".tip")).to_contain_text("Uncached reference")
    heading(page, "Uncached reference").wait_for()
    page.wait_for_url(re.compile(r"trial=-1"))
    chart.locator("svg[tabindex]").focus()
    page.keyboard.press("Home")
    if chart.get_attribute("data-selected") == "-1":
        # On a busy machine the reference may be the cheapest of the first points.
        page.keyboard.press("ArrowRight")
    page.wait_for_url(re.compile(r"trial=\d"))
    number = re.search(r"trial=(\d+)", page.url)[1]
    heading(page, re.compile(f"^Trial {number}")).wait_for()

    page.get_by_role("button", name="Cancel the search").click()
    page.get_by_role("button", name="Resume").wait_for()
    page.reload()
    heading(page, re.compile(f"^Trial {number}")).wait_for()
    axes = page.locator(".tune svg[aria-label*='choose an axis']")
    axes.focus()
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    axes.locator("[data-axis='0']").wait_for(state="attached")
    page.keyboard.press("Escape")
    axes.locator("[data-axis='0']").wait_for(state="detached")
    settled(page)
    page.get_by_role("button", name="Remove").click()
    page.get_by_role("button", name="Delete it").click()
    page.get_by_role("button", name=re.compile("Try it")).wait_for()
