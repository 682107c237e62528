"""Learned scores on request: a thread that tells how far it is, can be stopped, and ends when nobody looks."""

import time

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from e2crf_core.data.datasets import load_dataset
from e2crf_core.errors import Cancelled, LabError
from e2crf_core.quality.intervals import Floor, Measurement
from e2crf_core.quality.learned_scores import NAMES, Learned
from pages.ui.compare import learned_panel as panel


def scores(rows, heldout, train, *, blocks, progress, cancelled):
    """Stand-in that takes no time: values are means of the sets."""
    progress(1, 2)
    if cancelled():
        raise Cancelled

    def one(x):
        return {
            n: Measurement(x.mean(), x.mean() - 1, x.mean() + 1, n, "", len(x), len(heldout)) for n in NAMES
        }

    floors = {n: Floor(0.1, 0.0, 0.2, (1, 1), 3) for n in NAMES}
    return Learned(tuple(tuple(one(x) for x in sets) for sets in rows), floors)


def job(**changes):
    data = load_dataset("ecg")
    sets = tuple(np.full((8, data.length, 1), v) for v in (1.0, 2.0))
    made = panel.LearnedJob(("a", "b"), sets, data)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def ended(made, score):
    made.start(score)
    end = time.monotonic() + 60
    while not made.over:
        assert time.monotonic() < end
        time.sleep(0.01)
    return made


def test_scores_come_with_real_series_beside_them():
    made = ended(job(), scores)
    assert made.error == "" and made.share == 0.5 and made.seconds_left > 0
    frame = panel.scores_frame(made.names, made.result)
    assert list(frame["variant"]) == ["a", "b", "real training series"]
    assert list(frame["Context-FID"]) == [1.0, 2.0, 0.1]


def test_it_stops_when_told_or_when_nobody_looks():
    told = job()
    told.stopped.set()
    assert ended(told, scores).error == "stopped"
    assert ended(job(seen=time.monotonic() - 2 * panel.STALE_S), scores).error == "stopped"


@pytest.mark.parametrize(
    ("fault", "said"), [(LabError("too few"), "too few"), (ValueError("x"), "ValueError: x")]
)
def test_faults_of_the_thread_are_said(fault, said):
    def fails(*_, **__):
        raise fault

    assert ended(job(), fails).error == said


def script():
    import numpy as np
    import streamlit as st

    from e2crf_core.data.datasets import load_dataset
    from pages.ui.compare.learned_panel import learned_panel

    data = load_dataset("ecg")
    learned_panel("k", ["a", "b"], [np.full((8, data.length, 1), v) for v in (1.0, 2.0)], data)
    st.caption("below")


def test_a_visitor_measures_and_reads_them(monkeypatch):
    monkeypatch.setattr(panel.LearnedJob, "start", lambda self: ended_now(self))

    def ended_now(made):
        made._run(scores)

    at = AppTest.from_function(script, default_timeout=60).run()
    assert not at.dataframe
    at.button[0].click().run()
    assert not at.exception, at.exception
    table = at.dataframe[0].value
    assert len(table) == 3 and table.iloc[0, 1].startswith("1.000  (0.000 to 2.000)")
