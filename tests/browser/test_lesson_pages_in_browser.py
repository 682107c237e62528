"""The lessons' static pages, opened from a disk with the network off: guess, look, turn the page."""

import pytest

from e2crf_core.cli import main
from e2crf_core.lessons import material
from e2crf_core.lessons.record import AXES, recorded, table
from e2crf_core.lessons.texts import TEXTS
from tests.browser.axe import grave_findings
from tests.browser.layout import whole

pytestmark = pytest.mark.browser

PLACES = {text.key: place for place, text in enumerate(TEXTS, 1)}
DRAWN = "() => [...document.querySelectorAll('.lab')].every((lab) => +lab.dataset.renders > 0 || !lab.offsetParent)"


@pytest.fixture(scope="module")
def folder(demo_assets, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lessons")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("E2CRF_ASSETS", str(demo_assets))
        patch.setattr(material, "CHANGE_STEPS", 12)
        assert main(["export-lessons", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def opened(chromium, folder):
    """Open a file without a network; fail the test for a script error or any request."""
    context = chromium.new_context(offline=True, viewport={"width": 390, "height": 850}, color_scheme="dark")
    page, faults = context.new_page(), []
    page.set_default_timeout(120_000)
    page.on("pageerror", lambda fault: faults.append(str(fault)))
    page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
    page.on("request", lambda request: faults.append(request.url) if request.url.startswith("http") else None)

    def open_at(name, query=""):
        page.goto(f"{(folder / name).as_uri()}?{query}")
        page.wait_for_function(DRAWN)
        return page

    yield open_at
    assert faults == []
    context.close()


def test_all_lessons_lead_from_one_to_the_next_and_are_whole_on_a_phone(opened):
    page = opened("index.html")
    page.get_by_role("link", name=TEXTS[0].title).click()
    for place, text in enumerate(TEXTS, 1):
        page.locator("h1", has_text=f"{place}. {text.title}").wait_for()
        assert not page.locator("details p").first.is_visible()
        page.keyboard.press(str(text.right + 1))
        page.locator(".verdict", has_text="Right:").wait_for()
        page.wait_for_function(DRAWN)
        whole(page, text.key)
        if place < len(TEXTS):
            page.keyboard.press("n")
    page.go_back()
    page.locator("h1", has_text=TEXTS[-2].title).wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_grave(opened, scheme):
    page = opened(f"lesson-{PLACES['change']}.html")
    page.emulate_media(color_scheme=scheme)
    page.get_by_role("button", name=TEXTS[PLACES["change"] - 1].choices[0]).click()
    page.get_by_text("The numbers").click()
    page.wait_for_function(DRAWN)
    assert grave_findings(page) == []


def test_a_wrong_guess_is_told_and_can_be_taken_back(opened):
    page, text = opened(f"lesson-{PLACES['noise']}.html"), TEXTS[PLACES["noise"] - 1]
    page.get_by_role("button", name=text.choices[1]).click()
    page.locator(".verdict", has_text=f"Not “{text.choices[1]}”, but:").wait_for()
    page.get_by_role("button", name="Guess again").click()
    page.get_by_role("button", name=text.choices[0]).wait_for()
    page.get_by_text("Show me").click()
    page.get_by_text(text.choices[0] + ".").wait_for()
    assert page.locator(".verdict").inner_text() == ""


def test_the_address_holds_controls_data_and_presenter_mode(opened):
    page = opened(f"lesson-{PLACES['spectrum']}.html", "dataset=ecg&K=7&present=1")
    assert page.get_by_label("Data set").input_value() == "ecg"
    cutoff = page.get_by_label("Cutoff K", exact=True)
    assert cutoff.input_value() == "7"
    assert page.evaluate("parseFloat(getComputedStyle(document.body).fontSize)") >= 20
    page.get_by_label("Data set").select_option("wind")
    cutoff.focus()
    page.keyboard.press("End")
    page.wait_for_url("**K=72*")
    assert "dataset" not in page.url
    page.keyboard.press("n")
    page.wait_for_url(f"**/lesson-{PLACES['spectrum'] + 1}.html?present=1")
    page.keyboard.press("Escape")
    page.wait_for_function("() => !location.search.includes('present')")


def test_the_measurements_are_those_of_the_record(opened, demo_assets, monkeypatch):
    monkeypatch.setenv("E2CRF_ASSETS", str(demo_assets))
    page = opened(f"lesson-{PLACES['feedback']}.html")
    page.keyboard.press("1")
    page.get_by_text("The numbers").click()
    studies = recorded("feedback")
    shown = [row.inner_text().split("\t")[1:] for row in page.locator(".numbers tbody tr").all()]
    assert shown == [list(row.values()) for row in table(studies, AXES["feedback"])]
