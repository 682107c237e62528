"""A recorded run as files: a page that needs no network, and a timeline in the Chrome trace event format."""

import base64
import hashlib
import itertools
import json
import re
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from e2crf_core.caching.events import Reason
from e2crf_core.cli import main
from e2crf_core.errors import LabError
from e2crf_core.models.checkpoints import load_checkpoint
from e2crf_core.runs import page
from e2crf_core.runs.timeline import errors_to_twin, timeline
from e2crf_core.runs.twin import compute_twin
from tests.tiny import tiny_assets, tiny_demo


class Event(BaseModel):
    """What every trace event holds; times are in microseconds."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    name: str = Field(min_length=1)
    pid: int
    ts: Annotated[float, Field(ge=0)]


class Span(Event):
    """A complete event on a thread."""

    ph: Literal["X"]
    cat: str
    tid: int
    dur: Annotated[float, Field(ge=0)]
    args: dict[str, int | float | str | None]


class Counter(Event):
    """A point of a graph."""

    ph: Literal["C"]
    args: dict[str, int | float]


class Name(Event):
    """The name or place of a process or thread."""

    ph: Literal["M"]
    tid: int
    args: dict[str, int | str]


EVENTS = TypeAdapter(list[Annotated[Span | Counter | Name, Field(discriminator="ph")]])


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Provide the assets of a small network, and a run of it."""
    assets = tiny_assets(tmp_path_factory.mktemp("files") / "assets", ("ecg",))
    archive = tiny_demo(assets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("E2CRF_ASSETS", str(assets))
        yield archive, load_checkpoint("ecg", "cpu")


def events_of(document):
    return EVENTS.validate_python(json.loads(json.dumps(document, allow_nan=False))["traceEvents"])


def test_the_timeline_says_what_the_record_says(world):
    archive, _ = world
    events, recorder = events_of(timeline(archive)), archive.recorder
    threads = {e.tid: e.args["name"] for e in events if e.name == "thread_name"}
    spans = [e for e in events if isinstance(e, Span)]
    assert {e.tid for e in spans} <= threads.keys()
    for thread in threads:
        own = [e for e in spans if e.tid == thread]
        assert all(a.ts + a.dur <= b.ts + 1e-6 for a, b in itertools.pairwise(own)), threads[thread]
    steps = [e for e in spans if e.cat == "step"]
    np.testing.assert_allclose([e.dur for e in steps], 1e6 * recorder.column("seconds"))
    recomputed = [e for e in spans if e.cat == "recompute"]
    for reason in set(Reason) - {Reason.REUSED}:
        counted = sum(int(e.args.get(reason.name.lower(), 0)) for e in recomputed)
        assert counted == int((recorder.column("reasons") == reason).sum()), reason
    tokens = [e.args["value"] for e in events if e.name == "tokens computed"]
    np.testing.assert_array_equal(tokens, recorder.column("tokens"))
    calls = [e for e in spans if e.cat == "call"]
    assert len(calls) == int((recorder.column("tokens") > 0).sum())
    assert not any(e.name.startswith("error") for e in events)


def test_the_timeline_shows_the_error_to_the_twin_of_the_watched_sample(world):
    archive, model = world
    spec = archive.spec
    twin = compute_twin(model, spec.config, spec.num, spec.seed)
    assert errors_to_twin(archive, model, twin) is None  # the twin's path is that of another sample
    errors = np.linspace(1, 0, archive.recorder.count)
    graph = [e.args["value"] for e in events_of(timeline(archive, errors)) if e.name.startswith("error")]
    np.testing.assert_allclose(graph, errors)
    first = replace(archive, spec=replace(spec, watch=0))
    own = errors_to_twin(first, model, replace(twin, path=archive.recorder.column("x0")))
    assert own is not None and not own.any()


def test_the_page_admits_its_own_script_and_nothing_else(world):
    archive, model = world
    text = page.run_page(replace(archive, note="<img src=x onerror=alert(1)>"), lambda: model)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)[1]
    assert policy.startswith("default-src 'none'") and "http" not in policy and "unsafe" not in policy
    for tag, directive in (('script type="module"', "script-src"), ("style", "style-src")):
        body = re.search(rf"<{tag}>(.*?)</{tag.split()[0]}>", text, re.S)[1]
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert "<img src" not in text and text.count("</script>") == 2
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)


def test_a_page_of_a_network_that_has_changed_shows_the_run_without_predictions(world):
    archive, model = world
    old = replace(archive, model={**archive.model, "digest": "0" * 64})
    assert len(page.run_page(old, lambda: model)) < len(page.run_page(archive, lambda: model))


def test_a_run_too_large_for_a_page_is_refused_in_one_line(world, monkeypatch):
    monkeypatch.setattr(page, "MOST_BYTES", 1000)
    with pytest.raises(LabError, match=r"a page holds at most 0 MB.*zip"):
        page.run_page(*world[:1], lambda: world[1])


def test_the_command_writes_both_files_and_says_what_is_wrong(world, tmp_path, capsys):
    html, trace = tmp_path / "run.html", tmp_path / "run.json"
    assert main(["export-run", "demo", "--html", str(html), "--trace", str(trace)]) == 0
    written = json.loads(capsys.readouterr().out)
    assert written["html"] == {"file": str(html), "bytes": html.stat().st_size}
    assert len(events_of(json.loads(trace.read_text()))) > 100
    for arguments, words in (
        (["demo"], "--html"),
        (["never-was", "--html", str(html)], "never-was"),
        (["demo", "--html", str(tmp_path)], "folder"),
        ([str(tmp_path / "none.zip"), "--trace", str(trace)], "there is no file"),
    ):
        assert main(["export-run", *arguments]) == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1, error
