"""A run's page opened from a disk, with the network off: it scrubs, and predicts what Anatomy predicts."""

import pytest

from benchmarks.browser import first
from e2crf_core.cli import main
from tests.browser.saved_files import save
from tests.waiting import until

pytestmark = pytest.mark.browser

DATA = "() => ({ ...document.querySelector('.lab').dataset })"
ANATOMY = f"""() => {{
  const {{ share, seconds }} = ({first("anatomy")})()?.dataset ?? {{}};
  return share ? {{ share, seconds }} : null;
}}"""
QUESTIONS = ("trigger=log_snr&tau=0.25", "tau=0.1&k_low=4")


@pytest.fixture(scope="module")
def file(demo_assets, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "run.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("E2CRF_ASSETS", str(demo_assets))
        assert main(["export-run", str(demo_assets / "demo" / "run.zip"), "--html", str(path)]) == 0
    return path.as_uri()


@pytest.fixture
def opened(chromium, file):
    """Open the file without a network; fail the test for a script error or any request."""
    context = chromium.new_context(offline=True, viewport={"width": 1440, "height": 1000})
    page, faults = context.new_page(), []
    page.set_default_timeout(120_000)
    page.on("pageerror", lambda fault: faults.append(str(fault)))
    page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
    page.on("request", lambda request: faults.append(request.url) if request.url.startswith("http") else None)

    def open_at(query=""):
        page.goto(f"{file}?{query}")
        page.wait_for_function("() => +document.querySelector('.lab').dataset.renders > 0")
        return page

    open_at.faults = faults
    yield open_at
    assert faults == []
    context.close()


def test_it_scrubs_by_key_and_by_pointer_and_keeps_its_place(opened):
    page = opened("step=5&k=3")
    assert page.evaluate(DATA)["step"] == "5" and page.evaluate(DATA)["k"] == "3"
    page.locator('[data-panel="map"] canvas').focus()
    for key, step in (("ArrowRight", "6"), ("End", "39"), ("Home", "0")):
        page.keyboard.press(key)
        page.wait_for_function(f"() => document.querySelector('.lab').dataset.step === '{step}'")
    box = page.locator('[data-panel="map"] canvas').bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] / 2, steps=12)
    page.mouse.up()
    page.wait_for_function("() => +document.querySelector('.lab').dataset.step > 20")
    until(lambda: f"step={page.evaluate(DATA)['step']}" in page.url)
    place = page.evaluate(DATA)["step"]
    page.reload()
    page.wait_for_function(f"() => document.querySelector('.lab').dataset.step === '{place}'")
    assert len(table_lines(page)) > 0


def table_lines(page):
    """Return the lines of the table that the file's Save menu writes; it has no Parquet, which needs the lab."""
    assert not page.get_by_role("button", name="Parquet").is_visible()
    return save(page, ("CSV",))["CSV"].read_text().splitlines()


def test_what_if_gives_the_numbers_of_anatomy(opened, visit):
    for question in QUESTIONS:
        page = opened(f"view=whatif&{question}")
        lab = visit(f"/anatomy?run=demo&view=whatif&{question}")
        lab.wait_for_function(f"() => ({ANATOMY})()")
        there = lab.evaluate(ANATOMY)
        here = page.evaluate(DATA)
        assert {name: here[name] for name in there} == there, question
        lab.context.close()


def test_a_script_in_the_page_reaches_nobody(opened, address):
    page = opened()
    reached = page.evaluate(
        """(url) => fetch(url, { mode: 'no-cors' }).then(() => true, () => false)""", address
    )
    assert reached is False
    assert any("Content Security Policy" in fault for fault in opened.faults)
    opened.faults.clear()


def test_it_can_be_filmed(opened):
    page = opened()
    page.clock.install()
    page.locator("details.save summary").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="WebM").click()
        page.get_by_text("(stop)").wait_for()
        page.clock.fast_forward(20_000)
    assert download.value.suggested_filename.endswith(".webm")
    assert download.value.path().read_bytes().startswith(b"\x1a\x45\xdf\xa3")
    page.locator("details.save summary", has_text="Save").wait_for()
