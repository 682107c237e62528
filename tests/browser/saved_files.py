"""Read the files that a canvas's Save menu writes: a table in two formats, and the panels of an SVG."""

from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd

FORMATS = ("PNG", "SVG", "HTML", "CSV", "Parquet")
SVG = "{http://www.w3.org/2000/svg}"


def save(page, formats=FORMATS):
    """Save the current view in each format; return the files under the names that the page gives them."""
    files = {}
    for name in formats:
        menu = page.locator("details.save")
        button = menu.get_by_role("button", name=name, exact=True)
        if not button.is_visible():
            menu.locator("summary").click()
        with page.expect_download() as download:
            button.click()
        path = Path(download.value.path())
        files[name] = path.rename(path.with_name(download.value.suggested_filename))
    return files


def same_table(files):
    """Return the table behind a picture, and check that CSV and Parquet hold the same values."""
    frame, other = pd.read_parquet(files["Parquet"]), pd.read_csv(files["CSV"])
    pd.testing.assert_frame_equal(frame, other, check_dtype=False)
    assert list(frame) == ["panel", "series", "x", "k", "value"] and len(frame) and frame.x.notna().all()
    return frame


@dataclass
class Panel:
    """The marks and words of one plot."""

    lines: list = field(default_factory=list)
    dots: list = field(default_factory=list)
    bars: list = field(default_factory=list)
    cells: list = field(default_factory=list)
    texts: set = field(default_factory=set)


def svg_panels(path):
    """Return the panels of a saved SVG by name. Raises an error if the SVG is not well-formed."""
    root = ElementTree.parse(path).getroot()
    assert root.tag == SVG + "svg" and float(root.get("width")) > 100
    panels = {}
    for group in root.iter(SVG + "g"):
        panel = panels[group.get("id")] = Panel()
        kinds = {"line": panel.lines, "dot": panel.dots, "bar": panel.bars, "cells": panel.cells}
        for node in group:
            if node.get("class") in kinds:
                kinds[node.get("class")].append(node)
            if node.tag == SVG + "text":
                panel.texts.add(node.text)
    return panels
