"""Archives load and rerun identically to the last bit; untrusted files are rejected."""

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from e2crf_core.caching.policy import PRESETS, CachePolicy
from e2crf_core.errors import LabError
from e2crf_core.io.files import replace_file
from e2crf_core.io.resources import assets_dir
from e2crf_core.io.userfiles import user_dir
from e2crf_core.models.checkpoints import list_checkpoints, load_checkpoint
from e2crf_core.runs import archive as archives
from e2crf_core.runs import store as stores
from e2crf_core.runs.archive import load, of_handle, save
from e2crf_core.runs.replay import differences, events, rerun
from e2crf_core.runs.run import RunHandle, RunSpec
from e2crf_core.runs.store import RunStore
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.recorder import Recorder
from tests import tiny
from tests.conftest import make_model
from tests.waiting import PATIENCE_S

MODEL = replace(make_model(), dataset="")
ROOT = Path(__file__).resolve().parents[1]


def ended(policy=PRESETS["fast"], change=None, compare=False, **spec):
    settings = {"checkpoint": "some/test model", "num": 3, "seed": 7, "device": "cpu", **spec}
    config = SamplerConfig(policy, steps=40)
    return tiny.ended(RunSpec(**settings, config=config, compare=compare), MODEL, change, seconds=30)


@pytest.fixture(scope="module")
def run():
    return ended(change=CachePolicy(trigger="paper", tau=0.1, k_low=2, probe_share=0.1), compare=True)


@pytest.fixture
def saved(run, tmp_path):
    path = tmp_path / "run.zip"
    save(of_handle(run, note="first try"), path)
    return path


def test_replay_shows_the_same_numbers_to_the_last_bit(run, saved):
    again = load(saved)
    assert differences(run.recorder, again.recorder) == []
    assert run.recorder.column("seconds").tobytes() == again.recorder.column("seconds").tobytes()
    assert again.recorder.policies == run.recorder.policies
    assert again.spec == run.spec and again.note == "first try" and again.model["digest"] == MODEL.digest()
    np.testing.assert_array_equal(again.result.samples, run.result.samples)
    twin, old = again.result.comparison, run.result.comparison
    np.testing.assert_array_equal(twin.samples_uncached, old.samples_uncached)
    assert replace(twin, samples_uncached=None) == replace(old, samples_uncached=None)
    copy = Recorder(40, MODEL.n, MODEL.length, 2, 3)
    for event in events(again):
        copy.append(event)
    assert differences(copy, run.recorder) == []


def test_saving_what_was_loaded_loses_nothing(saved, tmp_path):
    save(load(saved), tmp_path / "again.zip")
    with zipfile.ZipFile(saved) as a, zipfile.ZipFile(tmp_path / "again.zip") as b:
        assert {name: a.read(name) for name in a.namelist()} == {name: b.read(name) for name in b.namelist()}


def test_a_rerun_repeats_the_run_bit_for_bit_with_its_policy_changes(run, saved):
    again = load(saved)
    assert [step for step, _, _ in again.recorder.policies] == [0, 11]
    recorder, samples = rerun(again, load=lambda name, device: MODEL)
    assert differences(run.recorder, recorder) == []
    np.testing.assert_array_equal(samples, run.result.samples)
    assert again.policy_at(10).trigger == "log_snr" and again.policy_at(11).trigger == "paper"


def test_another_network_of_that_name_is_not_taken_for_the_same(saved):
    with pytest.raises(LabError, match="has changed since"):
        rerun(load(saved), load=lambda name, device: make_model(seed=1))


def test_differences_are_found(run, saved):
    other = ended(seed=8)
    assert "series" in differences(run.recorder, other.recorder)


def test_a_stopped_run_is_kept_up_to_where_it_came(tmp_path):
    run = RunHandle(
        RunSpec("m", 1, 0, SamplerConfig(steps=40), compare=False), load=lambda name, device: MODEL
    )
    for _ in range(5):
        run.step_once()
    while run.recorder is None or run.recorder.count < 5:
        run.wait(0.01)
    with pytest.raises(LabError, match="still goes on"):
        of_handle(run)
    run.stop()
    assert run.wait(PATIENCE_S)
    save(of_handle(run), tmp_path / "half.zip")
    half = load(tmp_path / "half.zip")
    assert half.recorder.count == 5 and half.result is None and half.status == "stopped"
    recorder, _ = rerun(half, load=lambda name, device: MODEL)
    assert differences(half.recorder, recorder) == []


# ---- refusals


def rewrite(path, changes=None, raw=None, drop=()):
    """Forge an archive with matching digests: `changes` edits the manifest, `raw` replaces whole members."""
    with zipfile.ZipFile(path) as zipped:
        members = {name: zipped.read(name) for name in zipped.namelist() if name not in drop}
    if "run.json" in members:
        manifest = json.loads(members["run.json"])
        manifest["digests"] |= {name: hashlib.sha256(body).hexdigest() for name, body in (raw or {}).items()}
        if changes is not None:
            changes(manifest)
        members["run.json"] = json.dumps(manifest).encode()
    members |= raw or {}
    out = path.with_name("forged.zip")
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, body in members.items():
            zipped.writestr(name, body)
    return out


def npy(array):
    body = io.BytesIO()
    np.save(body, array)
    return body.getvalue()


def refused(path, match):
    with pytest.raises(LabError, match=match) as fault:
        load(path)
    assert "\n" not in str(fault.value) and len(str(fault.value)) < 400


def test_cut_off_and_foreign_files_are_refused(saved, tmp_path):
    whole = saved.read_bytes()
    for part in (0, 10, len(whole) // 2, len(whole) - 30):
        cut = tmp_path / "cut.zip"
        cut.write_bytes(whole[:part])
        refused(cut, "damaged|not a run")
    refused(tmp_path / "absent.zip", "cannot be read")
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    (tmp_path / "flipped.zip").write_bytes(flipped)
    refused(tmp_path / "flipped.zip", "damaged")


def test_every_fault_of_a_manifest_is_listed_at_once(saved):
    def spoil(manifest):
        manifest["spec"].update(steps=0, pace="fast")
        manifest["shape"].update(n=-1)

    forged = rewrite(saved, spoil)
    for field in ("spec.steps", "spec.pace", "shape.n"):
        refused(forged, field)


def test_arrays_that_were_exchanged_are_noticed(saved):
    """The array is replaced by one of the same type and shape, as a damaged disk might leave it."""
    forged = rewrite(saved, lambda m: m["digests"].update({"columns/e.npy": "0" * 64}))
    refused(forged, "columns/e.npy is not what was saved")
    refused(rewrite(saved, lambda m: m["digests"].pop("samples.npy")), "samples.npy is not what was saved")


def test_archives_without_digests_still_open(saved):
    """The first release wrote no digests."""
    load(rewrite(saved, lambda m: m.pop("digests")))


def test_a_newer_schema_says_to_update(saved):
    refused(rewrite(saved, lambda m: m.update(schema=2)), "newer version of the lab")
    refused(rewrite(saved, lambda m: m.update(schema="x")), "schema 'x'")
    refused(rewrite(saved, lambda m: m.update(kind="other")), "not a run of this lab")


def test_zip_bombs_are_refused_before_they_are_inflated(saved, monkeypatch):
    bomb = rewrite(saved, raw={"columns/e.npy": npy(np.zeros((2, 10**7), np.float32))})
    monkeypatch.setattr(archives, "LIMIT_BYTES", 10**7)
    monkeypatch.setattr(archives, "parse_npy", lambda *a: pytest.fail("was read"))
    refused(bomb, "inflates to 80 MB")


def test_a_header_that_states_more_than_there_is_is_refused(saved):
    header = npy(np.zeros((4, 4), np.float32)).replace(b"(4, 4)", b"(9999999, 99)"[:6])
    refused(rewrite(saved, raw={"columns/e.npy": header[:100]}), "damaged|not a NumPy|cut off")
    refused(rewrite(saved, raw={"columns/e.npy": npy(np.zeros((40, 13), np.float64))}), "e is float64")
    refused(rewrite(saved, raw={"columns/e.npy": npy(np.zeros((3, 13), np.float32))}), "e is float32")
    refused(rewrite(saved, lambda m: m["spec"].update(steps=10**9)), "steps")
    huge = rewrite(saved, lambda m: (m["spec"].update(steps=2000), m["shape"].update(n=60000, N=60000)))
    refused(huge, "too many")


def test_objects_and_escaping_names_are_refused(saved, tmp_path):
    pickled = io.BytesIO()
    np.save(pickled, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    refused(rewrite(saved, raw={"columns/e.npy": pickled.getvalue()}), "Python objects")
    for name in ("../evil.npy", "/etc/passwd", "columns/../../x.npy", "columns/e.pkl", "script.py"):
        refused(rewrite(saved, raw={name: b"x"}), "no run of this lab has")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["forged.zip", "run.zip"]


def test_missing_parts_and_impossible_values_are_refused(saved):
    refused(rewrite(saved, drop=("columns/drift.npy",)), "drift.npy is missing")
    refused(rewrite(saved, drop=("run.json",)), "no run.json")
    refused(rewrite(saved, lambda m: m["spec"].update(num=0)), "num 0")
    refused(rewrite(saved, lambda m: m["spec"].update(checkpoint=3)), "checkpoint")
    refused(rewrite(saved, lambda m: m["spec"]["policy"].update(tau=-1)), "tau")
    refused(rewrite(saved, lambda m: m.update(policies=[])), "policies")
    refused(rewrite(saved, lambda m: m["policies"][0].__setitem__(0, 3)), "no policy was in force")
    refused(rewrite(saved, lambda m: m.update(surprise=1)), "surprise")
    refused(rewrite(saved, lambda m: m["result"].update(seconds=10**400)), "401 digits")
    refused(rewrite(saved, raw={"run.json": b'{"kind": NaN}'}), "NaN")
    refused(rewrite(saved, lambda m: m.pop("result")), "damaged")
    refused(rewrite(saved, lambda m: m["model"].update(mean=[])), "channels")
    refused(rewrite(saved, raw={"run.json": b"[" * 10**5}), "damaged")


# ---- the folder


def test_runs_are_listed_searched_annotated_and_deleted(run, tmp_path):
    store = RunStore(tmp_path / "runs")
    assert store.list() == []
    first = of_handle(run)
    store.add(first)
    store.add(replace(first, name="other", created="2020-01-01T00:00:00+00:00", note="a slow one"))
    (tmp_path / "runs" / "junk.zip").write_bytes(b"junk")
    assert [e.name for e in store.list()] == [first.name, "other"]
    assert [e.name for e in store.list("SLOW log_snr")] == ["other"]
    entry = store.list()[0]
    assert (entry.steps, entry.num, entry.seed) == (40, 3, 7) and not entry.kept
    assert entry.token_share == pytest.approx(run.result.token_share)
    store.annotate("other", "now quick")
    assert store.list("quick")[0].kept and store.get("other").note == "now quick"
    store.delete("other")
    assert [e.name for e in store.list()] == [first.name]
    with pytest.raises(LabError, match="there is no run"):
        store.get("other")
    for name in ("../x", "", "a/b", ".hidden"):
        with pytest.raises(LabError, match="letters, digits"):
            store.path(name)


def test_a_run_that_another_session_deletes_while_runs_are_listed_is_left_out(run, tmp_path, monkeypatch):
    stored = RunStore(tmp_path)
    first = of_handle(run)
    stored.add(first)
    stored.add(replace(first, name="gone"))
    read = stores.read_manifest

    def read_and_lose(path):
        manifest = read(path)
        if path.stem == "gone":
            path.unlink()
        return manifest

    monkeypatch.setattr(stores, "read_manifest", read_and_lose)
    assert [entry.name for entry in stored.list()] == [first.name]


def test_old_runs_make_room_but_kept_ones_stay(run, tmp_path):
    store = RunStore(tmp_path, autosaved=3)
    base = of_handle(run)
    store.add(replace(base, name="kept", created="2019", kept=True))
    for i in range(6):
        store.add(replace(base, name=f"r{i}", created=f"202{i}"))
    assert [e.name for e in store.list()] == ["r5", "r4", "r3", "kept"]


def test_what_a_killed_process_left_half_written_is_removed(run, tmp_path):
    """A child process dies while writing; a file that a live process is writing is kept."""
    code = (
        "import os, sys; from pathlib import Path; from e2crf_core.io.files import replace_file\n"
        "replace_file(Path(sys.argv[1]), lambda path: (path.write_bytes(b'half'), os._exit(9)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "cut.zip")], cwd=ROOT)
    assert done.returncode == 9 and len(list(tmp_path.glob(".cut.zip.*"))) == 1

    def add(path):
        RunStore(tmp_path).add(of_handle(run))
        assert not list(tmp_path.glob(".cut.zip.*")) and path.exists()

    replace_file(tmp_path / "mine.zip", add)


def test_an_archive_from_elsewhere_is_taken_in_under_a_name_of_its_own(run, saved, tmp_path):
    store = RunStore(tmp_path / "runs")
    a = store.bring(saved)
    b = store.bring(saved)
    assert a.name != b.name and {e.name for e in store.list()} == {a.name, b.name}
    forged = rewrite(saved, lambda m: m.update(name="../../etc/x"))
    assert "/" not in store.bring(forged).name


def test_home_can_be_moved(monkeypatch, tmp_path):
    monkeypatch.setenv("E2CRF_HOME", str(tmp_path / "there"))
    assert user_dir() == tmp_path / "there" and RunStore().folder == tmp_path / "there" / "runs"
    monkeypatch.delenv("E2CRF_HOME")
    assert user_dir().name == ".e2crf-lab"


def test_the_shipped_demo_was_made_by_the_shipped_network():
    demo = assets_dir() / "demo" / "run.zip"
    if "ecg" not in list_checkpoints() or not demo.is_file():
        pytest.skip("no network ships with this copy")
    made, ships = load(demo).model["digest"], load_checkpoint("ecg", "cpu").digest()
    assert made == ships, "the network has changed: run `python assets/demo/build.py` again"
    assert demo.stat().st_size < 1_500_000
