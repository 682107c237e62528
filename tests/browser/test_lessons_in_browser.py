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
