"""Runs in a real browser: files that are not runs are rejected with a message; runs are added and linked."""

import json
import zipfile

import pytest

pytestmark = pytest.mark.browser


def newer(source, path):
    """Return the archive as a later version of the lab might write it."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            body = old.read(name)
            if name == "run.json":
                body = json.dumps({**json.loads(body), "schema": 2}).encode()
            new.writestr(name, body)


def test_files_that_are_no_runs_are_refused_in_words(visit, demo_assets, tmp_path):
    demo = demo_assets / "demo" / "run.zip"
    (tmp_path / "damaged.zip").write_bytes(demo.read_bytes()[:-400])
    newer(demo, tmp_path / "newer.zip")
    for name, words in (
        ("damaged", "is not a run of this lab, or is damaged"),
        ("newer", "newer version of the lab"),
    ):
        page = visit("/runs")
        page.get_by_text("Add a file").click()
        page.locator('input[type="file"]').set_input_files(tmp_path / f"{name}.zip")
        page.get_by_text(words).wait_for()
        page.context.close()


def test_a_run_that_was_taken_in_is_opened_by_a_link(visit, demo_assets):
    page = visit("/runs")
    page.get_by_text("Add a file").click()
    page.locator('input[type="file"]').set_input_files(demo_assets / "demo" / "run.zip")
    page.get_by_text("Added as").wait_for()
    name = page.get_by_text("Added as").locator("strong").inner_text()
    link = visit(f"/runs?run={name}")
    link.get_by_text("Run it again, bit for bit").wait_for()
    assert name in link.locator("h5").inner_text()
