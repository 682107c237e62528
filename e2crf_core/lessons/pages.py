"""Write the lessons as static pages that need neither a server nor a network.

Every page holds its scripts, series, runs and recorded measurements. Its content security policy admits its own
script only, by its digest, and no connection of any kind.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from e2crf_core.data.datasets import load_dataset, shipped_datasets
from e2crf_core.data.reference import reference_of_data
from e2crf_core.errors import Cancelled
from e2crf_core.io.extras import require
from e2crf_core.io.packet import pack
from e2crf_core.io.resources import assets_dir
from e2crf_core.lessons.material import change_recording, events_recording, series_packet
from e2crf_core.lessons.record import AXES, COMMAND, LessonStudy, recorded, table
from e2crf_core.lessons.texts import OPENS_ON, TEXTS, Text
from e2crf_core.models.checkpoints import list_checkpoints, load_checkpoint
from e2crf_core.progress import Cancel, Progress, never, silent
from e2crf_core.runs.archive import load
from e2crf_core.version import __version__

INDEX = "index.html"


@dataclass(frozen=True)
class PageFigure:
    """A canvas of a page with its packets by name, gzipped in base64.

    `choice` is the key of the chosen name in the address, `label` what people call it. `rows` are the numbers
    behind it, `origin` says who made them.
    """

    choice: str
    label: str
    packets: dict[str, str]
    rows: list[dict[str, str]] = field(default_factory=list)
    origin: str = ""


@dataclass(frozen=True)
class PageLink:
    """A page among the others: its file and its title."""

    file: str
    title: str


LINKS = tuple(PageLink(f"lesson-{i}.html", f"{i}. {text.title}") for i, text in enumerate(TEXTS, 1))


def lesson_pages(progress: Progress = silent, cancelled: Cancel = never) -> dict[str, str]:
    """Return the text of every page by file name; `index.html` leads to the others.

    Raises LabError for a damaged file or a missing library, and Cancelled.
    """
    require("app", "pages of the lessons", "jinja2", "latex2mathml")
    pages = {}
    for place, text in enumerate(TEXTS):
        if cancelled():
            raise Cancelled
        pages[LINKS[place].file] = _page(place, text)
        progress(place + 1, len(TEXTS))
    return {INDEX: _index(), **pages}


def _page(place: int, text: Text) -> str:
    from latex2mathml.converter import convert
    from markupsafe import Markup

    from e2crf_core.report.front import markup, script
    from e2crf_core.report.html import digest, render

    code = script("lessons/offline.js")
    return render(
        "lesson.html",
        number=place + 1,
        count=len(TEXTS),
        text=text,
        formula=[Markup(convert(line.strip(), display="block")) for line in text.formula.split(r",\qquad")],
        study=_study(text.key),
        canvas=_canvas(text.key),
        before=LINKS[place - 1] if place else None,
        after=LINKS[place + 1] if place + 1 < len(LINKS) else None,
        board=Markup(markup("lessons/lessons.html")),
        script=Markup(code),
        script_digest=Markup(digest(code)),
        **_dress(),
    )


def _index() -> str:
    from e2crf_core.report.html import render

    return render("lessons.html", lessons=LINKS, **_dress())


def _dress() -> dict[str, Any]:
    """Return what all pages share: their style, and who made what they show."""
    from markupsafe import Markup

    from e2crf_core.report.front import styles
    from e2crf_core.report.html import digest

    own = ("shared/offline.css", "lessons/offline.css")
    style = styles("shared/shared.css", "anatomy/anatomy.css", "lessons/lessons.css", *own)
    return {"style": Markup(style), "style_digest": Markup(digest(style)), "sources": _sources()}


def _sources() -> list[str]:
    """Return the version that made a page, and the origin and license of the series in it."""
    data = [load_dataset(name) for name in shipped_datasets()]
    return [
        f"Written by the E²-CRF lab, version {__version__}.",
        *(
            " ".join((f"{one.title}. License: {one.license}.", *one.card.get("attribution", ())))
            for one in data
        ),
    ]


def _packed(packet: bytes) -> str:
    return base64.b64encode(gzip.compress(packet, 6, mtime=0)).decode()


def _canvas(key: str) -> PageFigure | None:
    """Return the canvas to play with, None for a lesson without one or without its material."""
    if key in ("spectrum", "mirror", "noise"):
        return _series(key)
    if key == "change":
        return _change()
    return _events() if key == "events" else None


def _series(key: str) -> PageFigure | None:
    """Return a canvas of shipped series: what visitors imported may be private."""
    packets = {
        name: _packed(series_packet(key, reference_of_data(load_dataset(name)), {}))
        for name in sorted(shipped_datasets(), key=lambda name: name != OPENS_ON)
    }
    return PageFigure("dataset", "Data set", packets) if packets else None


def _change() -> PageFigure | None:
    names = list_checkpoints()
    on_record = [study.checkpoint for study in recorded("change") if study.checkpoint in names]
    packets = {}
    for name in on_record or names[:1]:
        header, arrays = change_recording(load_checkpoint(name, "cpu"), name)
        packets[name] = _packed(pack(header, arrays))
    return PageFigure("network", "Network", packets) if packets else None


def _events() -> PageFigure | None:
    path = assets_dir() / "demo" / "run.zip"
    if not path.is_file():
        return None
    archive = load(path)
    header, arrays = events_recording(archive)
    name = f"{archive.recorder.count} steps on {archive.spec.checkpoint}"
    packet = pack({**header, "lesson": "events", "key": f"events {name}"}, arrays)
    return PageFigure("run", "Recorded run", {name: _packed(packet)})


def _study(key: str) -> PageFigure | None:
    """Return the recorded measurement of a lesson, None for a lesson without one."""
    studies = recorded(key)
    if not studies:
        return None
    axes = AXES[key]
    groups = {" and ".join(s.checkpoint for s in studies): studies} if axes.both else {}
    groups = groups or {study.checkpoint: (study,) for study in studies}
    packets = {name: _packed(pack(_plotted(key, name, group), {})) for name, group in groups.items()}
    networks = [study.checkpoint for study in studies for _ in study.points]
    rows = [{"Network": name, **row} for name, row in zip(networks, table(studies, axes), strict=True)]
    commit = studies[0].provenance.get("commit") or "unknown"
    origin = (
        f"{studies[0].samples} samples on common noise; median sample with its 95% bootstrap interval over "
        f"samples. Recorded by {COMMAND}, commit {commit}."
    )
    return PageFigure("network", "Network" if len(groups) > 1 else "Measured on", packets, rows, origin)


def _plotted(key: str, name: str, studies: tuple[LessonStudy, ...]) -> Mapping[str, Any]:
    """Return the header of a measurement's packet: axes, and points (x, error, low, high) by family."""
    families: dict[str, list[list[float]]] = {}
    for point in (point for study in studies for point in study.points):
        error = point.error
        families.setdefault(point.family, []).append([point.x, error.value, error.low, error.high])
    axes = AXES[key]
    return {
        "kind": "lesson",
        "lesson": "study",
        "key": f"{key} measured on {name}",
        "x": axes.x,
        "y": axes.y,
        "log": axes.log,
        "families": [{"name": name, "points": sorted(points)} for name, points in families.items()],
    }
