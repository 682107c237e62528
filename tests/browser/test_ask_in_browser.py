"""A visitor asks about a file of their own: gaps are filled, saved, and judged; the address leads back."""

from pathlib import Path

import pytest
from playwright import sync_api

from e2crf_core.data.datasets import load_dataset
from tests.browser.patience import settled

pytestmark = pytest.mark.browser


def recording() -> bytes:
    """Return two heartbeats in one column, with a gap."""
    values = load_dataset("ecg").x[:2].ravel()
    cells = ["" if 60 <= i < 90 else f"{value:.4f}" for i, value in enumerate(values)]
    return "\n".join([load_dataset("ecg").channels[0], *cells]).encode()


def test_a_file_with_a_gap_is_filled_and_saved(visit):
    page = visit("/ask?checkpoint=ecg&from=file&num=20&calls=4")
    upload = {"name": "beats.csv", "mimeType": "text/csv", "buffer": recording()}
    page.get_by_test_id("stFileUploader").locator("input[type=file]").set_input_files(upload)
    page.get_by_text("30 missing values in 1 stretch").wait_for()
    page.get_by_role("button", name="Answer", exact=True).press("Enter")
    page.get_by_text("Download medians and quantiles").wait_for()
    fan = page.locator(".js-plotly-plot .legendtext")
    sync_api.expect(fan.filter(has_text="90% of draws")).to_have_count(1)
    settled(page)
    with page.expect_download() as saved:
        page.get_by_role("button", name="CSV", exact=True).last.click()
    lines = Path(saved.value.path()).read_text().splitlines()
    assert len(lines) == 375 and lines[0].startswith("step,") and "median" in lines[0]
    page.set_viewport_size({"width": 390, "height": 900})
    settled(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    page.get_by_role("radio", name="What comes next?").click()
    page.get_by_text("Hide the last rows and compare").wait_for()
    page.wait_for_url(lambda url: "ask=next" in url and "from=file" in url)
