"""Anatomy in a real browser: scrubbing needs no server, and what-if agrees with the core and a real run."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.browser import first
from e2crf_core.models.checkpoints import load_checkpoint
from e2crf_core.runs.archive import load
from e2crf_core.runs.layer_errors import layer_table
from e2crf_core.runs.whatif import predict, trace
from tests.browser.patience import settled
from tests.browser.saved_files import same_table, save, svg_panels

pytestmark = pytest.mark.browser

FIND = first("anatomy")
COUNT = """(() => {
  window.sent = 0;
  const send = WebSocket.prototype.send;
  WebSocket.prototype.send = function (...a) { window.sent += 1; return send.apply(this, a); };
  const fetched = window.fetch;
  window.fetch = (...a) => { window.sent += 1; return fetched(...a); };
})()"""


def data(page):
    return page.evaluate(f"() => ({{ ...({FIND})().dataset }})")


def wait(page, condition):
    page.wait_for_function(f"() => {{ const d = ({FIND})()?.dataset; return d && ({condition}); }}")


@pytest.fixture(scope="module")
def tiny(demo_assets):
    return load(demo_assets / "demo" / "run.zip")


def fan_size(frame):
    """Return the number of real series drawn behind a panel."""
    return frame[frame.series.str.startswith("real series")].series.nunique()


def opened(visit, query=""):
    page = visit(f"/anatomy?run=demo{query}", before=lambda page: page.add_init_script(COUNT))
    wait(page, "+d.renders > 0")
    return page


def test_scrubbing_draws_every_move_and_sends_nothing(visit):
    page = opened(visit)
    settled(page)
    box = page.locator('[data-panel="map"] canvas').bounding_box()
    sent = page.evaluate("window.sent")
    page.mouse.move(box["x"] + 60, box["y"] + 90)
    page.mouse.down()
    for i in range(1, 11):
        last = data(page)["step"]
        page.mouse.move(box["x"] + 60 + i * 60, box["y"] + 60 + i * 8)
        wait(page, f"d.step !== {last!r}")
    page.mouse.up()
    for key in ("ArrowLeft", "ArrowUp", "Shift+ArrowRight", "End"):
        page.keyboard.press(key)
    wait(page, "+d.step === 39")
    page.wait_for_url(re.compile("step=39"))
    page.wait_for_url(f"**k={data(page)['k']}*")
    assert page.evaluate("window.sent") == sent
    assert "Computed because" in page.locator('[data-el="why"]').inner_text() or "Reused because" in (
        page.locator('[data-el="why"]').inner_text()
    )
    assert page.locator("pre span.hit").count() >= 1


def test_the_browser_predicts_what_the_core_predicts(visit, demo_assets, monkeypatch):
    monkeypatch.setenv("E2CRF_ASSETS", str(demo_assets))
    archive = load(demo_assets / "demo" / "run.zip")
    seen = trace(archive, load_checkpoint("ecg"))
    recorded = archive.spec.policy
    for changes in (
        {"tau": recorded.tau / 3, "k_low": 4, "refresh_every": 9},
        {"trigger": "log_snr", "tau": 0.25},
        {"trigger": "fixed", "refresh_every": 5, "k_low": 2},
    ):
        query = "".join(f"&{name}={value}" for name, value in changes.items())
        page = opened(visit, f"&view=whatif{query}")
        core = predict(archive, seen, replace(recorded, **changes))
        assert float(data(page)["share"]) == pytest.approx(core.share, rel=0.02), changes
        page.context.close()


def test_tau_is_dragged_without_a_message_and_confirmed_by_a_real_run(visit):
    page = opened(visit, "&view=whatif")
    settled(page)
    sent, share = page.evaluate("window.sent"), float(data(page)["share"])
    slider = page.get_by_role("slider", name="What-if tau")
    box = slider.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] / 2, steps=8)
    page.mouse.up()
    wait(page, f"+d.share < {share}")
    assert page.evaluate("window.sent") == sent
    page.get_by_role("button", name="Confirm with a real run").click()
    page.get_by_text("Predicted and measured").wait_for()
    page.get_by_text("Open the real run here").wait_for()


def test_the_view_survives_a_reload(visit):
    page = opened(visit, "&step=11&k=33&view=whatif&map=age&tau=0.7")
    assert data(page)["step"] == "11" and data(page)["k"] == "33"
    settled(page)
    page.reload()
    wait(page, "+d.renders > 0")
    assert data(page)["step"] == "11" and page.locator('[data-el="tau_text"]').inner_text() == "0.7"


def test_what_is_shown_can_be_taken_away(visit, tiny):
    page = opened(visit, "&step=12&k=5")
    with page.expect_download() as table:
        page.get_by_role("button", name="CSV").click()
    header, *rows = table.value.path().read_text().splitlines()
    assert len(rows) == 40 and header.startswith("step,t,log_snr")
    files = save(page)
    assert {path.suffix for path in files.values()} == {".png", ".svg", ".html", ".csv", ".parquet"}
    assert files["PNG"].name == "anatomy-step13-k5.png" and files["PNG"].read_bytes().startswith(b"\x89PNG")
    frame, n = same_table(files), len(tiny.recorder.column("reasons")[0])
    cells = frame[frame.panel.str.startswith("map")]
    np.testing.assert_array_equal(
        cells.value.to_numpy().reshape(40, n).astype(int), tiny.recorder.column("reasons")
    )
    scores = frame[frame.panel.str.startswith("scores")]
    np.testing.assert_allclose(scores.value, tiny.recorder.column("e")[12], rtol=1e-6)
    panels = svg_panels(files["SVG"])
    assert [len(panels["scores"].dots), len(panels["map"].cells)] == [n, 1]
    assert len(panels["series"].lines) == 2 + fan_size(frame) and len(panels["trace"].lines) == 2
    for panel, wanted in (
        ("map", {"step", "frequency k"}),
        ("spectrum", {"frequency k (cycles per window)", "|Xₖ| (standard deviations)"}),
        ("shares", {"step", "% of tokens computed so far"}),
    ):
        assert wanted <= panels[panel].texts, panels[panel].texts
    html = files["HTML"].read_text()
    assert "<svg" in html and "because" in html and "step=12" in html and "<script" not in html


def test_a_whole_run_can_be_taken_along(visit, tiny):
    page = opened(visit)
    for button, suffix in (
        ("Page that works offline", ".html"),
        ("Timeline", ".json"),
        ("Whole run", ".zip"),
    ):
        with page.expect_download() as download:
            page.get_by_role("button", name=button).click()
        path = download.value.path()
        assert download.value.suggested_filename.endswith(suffix)
        if suffix == ".html":
            assert "default-src 'none'" in path.read_text() and "A recorded run of ecg" in path.read_text()
        elif suffix == ".json":
            steps = [e for e in json.loads(path.read_text())["traceEvents"] if e.get("cat") == "step"]
            assert len(steps) == tiny.recorder.count
        else:
            assert load(path).recorder.count == tiny.recorder.count


def test_the_inside_is_run_once_and_follows_every_move_without_a_message(
    visit, tiny, demo_assets, monkeypatch
):
    monkeypatch.setenv("E2CRF_ASSETS", str(demo_assets))
    table = layer_table(tiny, load_checkpoint("ecg"))
    page = opened(visit, "&step=12&k=5")
    page.get_by_role("button", name="Look inside this run").click()
    wait(page, "d.inside === 'there'")
    settled(page)
    sent = page.evaluate("window.sent")
    page.locator('[data-panel="map"] canvas').focus()
    page.keyboard.press("ArrowRight")
    wait(page, "d.step === '13'")
    assert page.evaluate("window.sent") == sent
    frame = same_table(save(page, ("CSV", "Parquet")))
    rows = frame[frame.panel.str.startswith("layers")]
    said = np.concatenate([table.kept[13, :, 5], table.used[13, :, 5]])
    np.testing.assert_allclose(rows.value, said, rtol=1e-3, atol=1e-6)
    words = page.locator('[data-el="inside_words"]').inner_text()
    c = 100 * table.kept[13, table.names.index("C"), 5]
    assert f"{float(f'{c:.3g}'):g} % in C" in words, words
    page.get_by_label("What the map shows").select_option("reuse")
    page.wait_for_url(re.compile("map=reuse"))
    page.reload()
    wait(page, "d.inside === 'there'")
    assert "map=reuse" in page.url and page.get_by_label("What the map shows").input_value() == "reuse"


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (900, "dark")])
def test_nothing_overlaps_or_leaves_the_page(visit, width, scheme):
    page = opened(visit)
    page.set_viewport_size({"width": width, "height": 1100})
    page.emulate_media(color_scheme=scheme)
    settled(page)
    found = page.evaluate(
        f"""() => {{
      const lab = ({FIND})(), shown = [...lab.querySelectorAll('section, .bar')].filter((s) => !s.hidden);
      const boxes = shown.map((s) => s.getBoundingClientRect()), bad = [];
      boxes.forEach((a, i) => boxes.slice(i + 1).forEach((b) => {{
        const beside = a.left >= b.right - 1 || b.left >= a.right - 1;
        if (!beside && a.top < b.bottom - 1 && b.top < a.bottom - 1) bad.push([a, b]);
      }}));
      return {{ bad, wide: document.documentElement.scrollWidth - innerWidth, count: boxes.length }};
    }}"""
    )
    assert found["count"] >= 7 and found["bad"] == [] and found["wide"] <= 0, json.dumps(found)[:300]
