"""Lessons in a real browser: the controls do what the text says, and moving one needs no server."""

import pytest

from tests.browser.patience import settled
from tests.browser.saved_files import same_table, save, svg_panels
from tests.browser.test_anatomy_in_browser import COUNT, data, wait
from tests.waiting import until

pytestmark = pytest.mark.browser


def opened(visit, query):
    page = visit(f"/lessons?{query}", before=lambda page: page.add_init_script(COUNT))
    wait(page, "+d.renders > 0")
    return page


def value(page, label):
    return page.locator(".values div", has=page.get_by_text(label, exact=True)).locator("dd").inner_text()


def test_a_cutoff_takes_energy_and_the_last_frequency_gives_all_back(visit):
    page = opened(visit, "lesson=1&dataset=wind&K=0")
    label = "Σ |X₀..K|² / Σ |X|²"
    few = float(value(page, label).split("%")[0])
    settled(page)
    sent, slider = page.evaluate("window.sent"), page.get_by_label("Cutoff K", exact=True)
    slider.focus()
    page.keyboard.press("End")
    until(lambda: value(page, label).startswith("100.0 %") and "K=72" in page.url)
    assert few < 100
    assert page.evaluate("window.sent") == sent


def test_a_broken_mirror_leaves_a_residue_and_a_mended_one_none(visit):
    page = opened(visit, "lesson=2")
    assert "not a real series" in value(page, "max |Im x|")
    page.get_by_label("edit the mirror X[N−k] too").check()
    until(lambda: value(page, "max |Im x|").startswith("0"))
    assert "not a real series" not in value(page, "max |Im x|")


def test_less_noise_lifts_more_frequencies_above_it(visit):
    page = opened(visit, "lesson=3&dataset=wind&t=900")
    early = int(value(page, "a² vₖ > s²").split()[0])
    slider = page.get_by_label("Diffusion time t")
    slider.focus()
    page.keyboard.press("Home")
    until(lambda: int(value(page, "a² vₖ > s²").split()[0]) == 73)
    assert early <= 1


def test_a_higher_threshold_computes_less(visit):
    page = opened(visit, "lesson=5&tau=-200")
    many = float(value(page, "|S| / n").split("%")[0])
    page.get_by_label("τ", exact=True).focus()
    page.keyboard.press("End")
    until(lambda: float(value(page, "|S| / n").split("%")[0]) < many)
    assert data(page)["lesson"] == "events"


def test_what_is_kept_longer_is_more_wrong(visit):
    page = opened(visit, "lesson=4&h=1")
    short = float(value(page, "|Δ D| / |D|").split("%")[0])
    page.get_by_label("Keep for h steps").focus()
    page.keyboard.press("End")
    until(lambda: float(value(page, "|Δ D| / |D|").split("%")[0]) > short)


def test_a_symbol_lights_up_its_trace_while_it_is_pointed_at_or_focused(visit):
    page = opened(visit, "lesson=1&dataset=wind")
    tile = page.locator(".values .lights").first
    tile.focus()
    wait(page, "d.lit === 'time'")
    tile.hover()
    wait(page, "d.lit === 'time'")
    page.mouse.move(0, 0)
    wait(page, "d.lit === ''")


def test_a_lesson_can_be_taken_away(visit):
    page = opened(visit, "lesson=1&dataset=wind&K=9")
    files = save(page)
    frame, panels = same_table(files), svg_panels(files["SVG"])
    assert len(panels["time"].lines) == 2 and len(panels["spectrum"].bars) == 73
    assert {"frequency k", "|Xₖ|"} <= panels["spectrum"].texts
    spectrum = frame[frame.panel.str.startswith("spectrum")]
    assert spectrum.series.str.startswith("kept").sum() == 10 and len(spectrum) == 73
    assert files["HTML"].read_text().count("<svg") == 1


def test_guess_then_look_then_the_next_lesson_by_key_and_back(visit):
    page = visit("/lessons?lesson=2&present=1")
    title = page.locator("h1")
    until(lambda: "2. " in title.inner_text())
    settled(page)
    assert page.get_by_text("Half of them describe the series").is_visible()
    page.keyboard.press("1")
    page.get_by_text("Not “All N”, but", exact=False).wait_for()
    settled(page)
    page.keyboard.press("n")
    until(lambda: "3. " in title.inner_text() and "lesson=3" in page.url and "present=1" in page.url)
    settled(page)
    assert page.get_by_role("button", name="Low frequencies").is_visible()
    page.go_back()
    until(lambda: "2. " in title.inner_text())
    assert "lesson=2" in page.url
    settled(page)
    assert page.get_by_text("Not “All N”, but", exact=False).is_visible()
    size = "getComputedStyle(document.querySelector('[data-testid=stMarkdownContainer] p')).fontSize"
    assert float(page.evaluate(size).removesuffix("px")) >= 20
    assert not page.locator('[data-testid="stSidebar"]').is_visible()
