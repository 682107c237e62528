"""Learned scores on request: a job that reports its progress, can be stopped, and ends without viewers."""

import threading

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from e2crf_core.data.datasets import load_dataset
from e2crf_core.errors import Cancelled, LabError
from e2crf_core.quality.intervals import Floor, Measurement
from e2crf_core.quality.learned_scores import NAMES, Learned
from pages.ui.compare import learned_panel as panel
from tests.waiting import PATIENCE_S


def scores(rows, heldout, train, *, blocks, progress, cancelled):
    """A fast stand-in whose values are the means of the sets."""
    progress(1, 2)
    if cancelled():
        raise Cancelled

    def one(x):
        return {
            n: Measurement(x.mean(), x.mean() - 1, x.mean() + 1, n, "", len(x), len(heldout)) for n in NAMES
        }

    floors = {n: Floor(0.1, 0.0, 0.2, (1, 1), 3) for n in NAMES}
    return Learned(tuple(tuple(one(x) for x in sets) for sets in rows), floors)


SETS = tuple(np.full((8, 187, 1), v) for v in (1.0, 2.0))


def started(score):
    return panel.start_scores(SETS, load_dataset("ecg"), score)


def ended(job):
    assert job.wait(PATIENCE_S)
    return job


def test_scores_come_with_real_series_beside_them():
    job = ended(started(scores))
    assert job.status == "done" and job.error == "" and job.share == 0.5
    frame = panel.scores_frame(["a", "b"], job.result)
    assert list(frame["setting"]) == ["a", "b", "real training series"]
    assert list(frame["Context-FID"]) == [1.0, 2.0, 0.1]


def held(release):
    """Provide scores that wait for an event before they report progress."""

    def score(*arguments, **options):
        release.wait(PATIENCE_S)
        return scores(*arguments, **options)

    return score


def test_it_stops_when_told():
    release = threading.Event()
    job = started(held(release))
    job.stop()
    release.set()
    assert ended(job).status == "stopped" and job.result is None


def test_it_ends_when_nobody_looks(monkeypatch):
    monkeypatch.setattr(panel, "STALE_S", 0.0)
    release = threading.Event()
    job = started(held(release))
    release.set()
    assert ended(job).status == "stopped"


@pytest.mark.parametrize(
    ("fault", "words"), [(LabError("too few"), "too few"), (ValueError("x"), "ValueError: x")]
)
def test_faults_of_the_thread_are_reported(fault, words):
    def fails(*_, **__):
        raise fault

    job = ended(started(fails))
    assert job.status == "failed" and job.error == words


def script():
    import numpy as np
    import streamlit as st

    from e2crf_core.data.datasets import load_dataset
    from pages.ui.compare.learned_panel import learned_panel

    data = load_dataset("ecg")
    learned_panel("k", ["a", "b"], [np.full((8, data.length, 1), v) for v in (1.0, 2.0)], data)
    st.caption("below")


def test_a_visitor_measures_and_reads_them(monkeypatch):
    start = panel.start_scores
    monkeypatch.setattr(panel, "start_scores", lambda sets, data: ended(start(sets, data, scores)))
    at = AppTest.from_function(script, default_timeout=PATIENCE_S).run()
    assert not at.dataframe
    at.button[0].click().run()
    assert not at.exception, at.exception
    table = at.dataframe[0].value
    assert len(table) == 3 and table.iloc[0, 1].startswith("1.000  (0.000 to 2.000)")
