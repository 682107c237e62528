"""What the Save menu of a canvas hands out, read back: files, one table in two formats, and panels of an SVG."""

from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd

FORMATS = ("PNG", "SVG", "HTML", "CSV", "Parquet")
SVG = "{http://www.w3.org/2000/svg}"


def take(page, formats=FORMATS):
    """Save what is shown in each format; the files, under the names they are offered with."""
    found = {}
    for name in formats:
        menu = page.locator(".take")
        button = menu.get_by_role("button", name=name, exact=True)
        if not button.is_visible():
            menu.locator("summary").click()
        with page.expect_download() as download:
            button.click()
        path = Path(download.value.path())
        found[name] = path.rename(path.with_name(download.value.suggested_filename))
    return found


def same_table(taken):
    """The table behind a picture, which both formats must tell alike."""
    frame, other = pd.read_parquet(taken["Parquet"]), pd.read_csv(taken["CSV"])
    pd.testing.assert_frame_equal(frame, other, check_dtype=False)
    assert list(frame) == ["panel", "series", "x", "k", "value"] and len(frame) and frame.x.notna().all()
    return frame


@dataclass
class Panel:
    """Marks and words of one plot."""

    lines: list = field(default_factory=list)
    dots: list = field(default_factory=list)
    bars: list = field(default_factory=list)
    cells: list = field(default_factory=list)
    texts: set = field(default_factory=set)


def svg_panels(path):
    """Panels of a saved SVG by their names. Raises when it is no well-formed SVG."""
    root = ElementTree.parse(path).getroot()
    assert root.tag == SVG + "svg" and float(root.get("width")) > 100
    found = {}
    for group in root.iter(SVG + "g"):
        panel = found[group.get("id")] = Panel()
        for node in group:
            kind = {"line": panel.lines, "dot": panel.dots, "bar": panel.bars, "cells": panel.cells}.get(
                node.get("class")
            )
            if kind is not None:
                kind.append(node)
            if node.tag == SVG + "text":
                panel.texts.add(node.text)
    return found
