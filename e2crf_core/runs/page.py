"""Write a recorded run as one HTML file that shows every step and answers what-if without a network.

The file holds the scripts of the Anatomy canvas and the record itself. Its content security policy admits that one
script, by its digest, and no connection of any kind.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Callable, Mapping
from typing import Any

from e2crf_core.data.reference import Reference
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.io.extras import require
from e2crf_core.io.packet import pack
from e2crf_core.runs.archive import Archive
from e2crf_core.runs.recording import recording_parts

MOST_BYTES = 32 * 2**20
"""Largest record, in memory, that becomes a page: the file takes about as much, and small machines open it."""
REFUSED = {"state": "refused", "text": ""}
"""The layers of the network need the network, which a page does not hold."""


def check_page_size(archive: Archive) -> None:
    """Raise LabError if the record is too large for a page."""
    recorder = archive.recorder
    step = recorder.n * (13 + 12 * recorder.M) + 8 * recorder.N * recorder.M
    if recorder.count * step > MOST_BYTES:
        raise LabError(
            f"the steps of this run take {recorder.count * step / 1e6:.0f} MB; "
            f"a page holds at most {MOST_BYTES / 1e6:.0f} MB",
            remedy="record fewer steps, or share the run as a zip file",
        )


def run_page(archive: Archive, load: Callable[[], ScoreModel], reference: Reference | None = None) -> str:
    """Return the page of a run; see `recording_parts` for `load` and `reference`.

    Raises LabError for a record that is too large, or if jinja2 is not installed.
    """
    check_page_size(archive)
    require("app", "the page of a run", "jinja2")
    from markupsafe import Markup

    from e2crf_core.report.front import markup, script, styles
    from e2crf_core.report.html import digest, render

    header, arrays = recording_parts(archive, load, reference)
    own = {"key": f"{archive.name} {archive.created}", "view": {}, "confirmable": False, "inside": REFUSED}
    packet = pack({**header, **own}, arrays)
    data = base64.b64encode(gzip.compress(packet, 6, mtime=0)).decode()
    style = styles("shared/shared.css", "anatomy/anatomy.css", "shared/offline.css")
    code = script("anatomy/offline.js")
    return render(
        "run.html",
        title=_title(archive),
        facts=_facts(archive),
        note=archive.note.strip(),
        origin=_origin(archive),
        board=Markup(markup("anatomy/anatomy.html")),
        style=Markup(style),
        style_digest=Markup(digest(style)),
        script=Markup(code),
        script_digest=Markup(digest(code)),
        data=Markup(data),
    )


def _title(archive: Archive) -> str:
    return f"A recorded run of {archive.spec.checkpoint}, trigger {archive.recorder.policies[-1][2].trigger}"


def _facts(archive: Archive) -> str:
    spec, result = archive.spec, archive.result
    parts = [
        f"{spec.config.solver.replace('_', '-')}, {archive.recorder.count} of {spec.config.steps} steps",
        f"batch of {spec.num}",
        f"seed {spec.seed}",
    ]
    if result is not None:
        parts.append(f"{result.token_share:.1%} of the tokens computed")
        if result.comparison is not None:
            parts.append(f"relative L2 to the uncached twin {result.comparison.relative_l2:.3f}")
    return ", ".join(parts) + "."


def _origin(archive: Archive) -> Mapping[str, Any]:
    """Return where a run comes from, by name."""
    return {
        "Run": archive.name,
        "Recorded (UTC)": archive.created,
        "Data set": archive.model["dataset"],
        "Weights, digest": archive.model["digest"],
        **archive.versions,
    }
