"""From an uploaded file to a trained network, in a real browser and with the keyboard where it matters."""

import math
import re
from contextlib import suppress

import pytest
from playwright import sync_api

from e2crf_core.io.userfiles import user_folder
from tests.waiting import until

pytestmark = pytest.mark.browser


def waves(rows=1500):
    lines = ["hour;level;flow"]
    lines += [f"{i};{math.sin(i / 5):.3f};{math.cos(i / 7):.3f}".replace(".", ",") for i in range(rows)]
    return "\n".join(lines).encode()


def heading(page, text):
    return page.get_by_role("heading", name=text)


def drawn(page, count):
    """Wait until the page shows that many plots, each with lines in it."""
    figures = page.locator(".js-plotly-plot:has(.scatterlayer path.js-line)")
    sync_api.expect(figures).to_have_count(count)
    return figures


def fits(page):
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_an_uploaded_file_is_cut_shown_trained_on_and_run_live(visit):
    page = visit("/data?view=import")
    upload = {"name": "Tide.csv", "mimeType": "text/csv", "buffer": waves()}
    page.get_by_test_id("stFileUploader").locator("input[type=file]").set_input_files(upload)
    page.get_by_text("separated by semicolon").wait_for()
    stride = page.get_by_label("Stride (rows)", exact=True)
    window = page.get_by_label("Window (rows)", exact=True)
    window.fill("12")
    window.press("Tab")
    sync_api.expect(stride).to_have_value("3")
    page.get_by_role("button", name="Import", exact=True).press("Enter")
    heading(page, "tide is now a data set").wait_for()
    page.get_by_role("button", name="Show it").click()
    drawn(page, 2)
    page.wait_for_url("**set=tide*")  # a page writes its address at its end, after its plots
    page.set_viewport_size({"width": 900, "height": 900})
    assert fits(page)

    train = page.get_by_role("link", name="Train on it")
    sync_api.expect(train).to_have_count(1)  # the page before is still leaving
    train.click()
    page.get_by_role("radio", name=re.compile("Compact")).wait_for()
    page.wait_for_url("**data=tide*")
    minutes = page.get_by_label("Minutes", exact=True)
    minutes.fill("0.2")
    minutes.press("Tab")
    page.get_by_role("button", name="Train", exact=True).click()
    page.get_by_text(re.compile(r"Step \d+ of \d+")).wait_for()
    page.get_by_test_id("stTopNavSection").filter(has_text="Data").click()
    page.get_by_role("menuitem", name="Models").click()
    heading(page, "Real and generated").wait_for()
    page.goto(page.url.split("/models")[0] + "/training?job=tide-compact")
    drawn(page, 2)
    live = page.get_by_role("link", name="Run it live")
    end = page.get_by_role("button", name=re.compile("Stop and keep the best|Skip the measurement"))

    def ended():  # the button changes its name, and is gone when training ends by itself
        if not live.count():
            with suppress(sync_api.TimeoutError):
                end.click(timeout=2_000)
        return live.count()

    until(ended)
    assert fits(page)
    assert (user_folder("checkpoints", "tide-compact") / "model.safetensors").is_file()
    live.click()
    page.get_by_role("radio", name="Watch one run").click()
    page.get_by_text("a network draws new series like those of Tide").wait_for()
