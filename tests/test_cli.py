"""The command line as users see it: results, and one clear line when something is wrong."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from e2crf_core import CachePolicy, Sampler, load_checkpoint
from e2crf_core.cli import main

SAMPLE = ["sample", "--checkpoint", "ecg", "--steps", "12", "--num", "3", "--seed", "4", "--device", "cpu"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


def test_sample_writes_data_units_and_prints_one_json_line_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "samples.npz"
    code, printed, progress = run(capsys, *SAMPLE, "--policy", "balanced", "--out", str(out), "--compare")
    assert code == 0
    report = json.loads(printed.strip().splitlines()[-1])
    assert {
        "seconds",
        "token_share",
        "flop_share",
        "sliced_wasserstein",
        "sliced_wasserstein_floor",
        "seconds_uncached",
        "sliced_wasserstein_uncached",
        "relative_l2",
    } <= report.keys()
    assert "sampling" in progress and "left" in progress
    with np.load(out, allow_pickle=False) as stored:
        samples = stored["samples"]
    model = load_checkpoint("ecg", device="cpu")
    expected = Sampler(model, CachePolicy.preset("balanced"), steps=12).sample(num=3, seed=4)
    np.testing.assert_array_equal(samples, expected.series)
    assert samples.shape == (3, 187, 1)
    assert report["token_share"] == pytest.approx(expected.token_share)
    assert [p.name for p in tmp_path.iterdir()] == ["samples.npz"]


def test_a_policy_file_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text(CachePolicy(trigger="fixed", refresh_every=4).to_json())
    code, printed, _ = run(capsys, *SAMPLE, "--policy", str(policy), "--out", str(tmp_path / "x.npz"))
    assert code == 0 and json.loads(printed)["token_share"] == pytest.approx(3 / 12)


def test_info_lists_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    code, printed, _ = run(capsys, "info")
    assert code == 0
    for word in ("ecg", "wind", "balanced", "paper", "cpu"):
        assert word in printed
    code, printed, _ = run(capsys, "info", "--json")
    assert "ecg" in json.loads(printed)["checkpoints"]


BAD = {
    "unknown checkpoint": (["--checkpoint", "nope"], "nope"),
    "num 0": (["--num", "0"], "num 0"),
    "steps -1": (["--steps", "-1"], "steps -1"),
    "steps 3": (["--steps", "3"], "10 to 2000"),
    "cuda": (["--device", "cuda:99"], "cuda:99"),
    "device": (["--device", "abacus"], "abacus"),
    "unknown preset": (["--policy", "turbo"], "turbo"),
    "missing policy file": (["--policy", "missing.json"], "missing.json"),
    "wrong fields": (["--policy", "WRONG"], "color"),
    "solver": (["--solver", "magic"], "magic"),
    "grid": (["--grid", "magic"], "magic"),
    "batch": (["--batch", "0"], "batch 0"),
    "seed": (["--seed", "-5"], "seed -5"),
    "text for a number": (["--num", "many"], "many"),
    "unknown option": (["--color", "red"], "--color"),
    "folder missing": (["--out", "no/such/folder/x.npz"], "no/such/folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_in_one_line_and_leaves_nothing(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.json").write_text('{"schema": 1, "color": "red", "tau": -1}')
    options, named = BAD[case]
    options = ["wrong.json" if o == "WRONG" else o for o in options]
    code, printed, said = run(capsys, *SAMPLE, "--out", "out.npz", *options)
    assert code == 2 and printed == ""
    assert len(said.strip().splitlines()) == 1 and named in said and "Traceback" not in said
    assert [p.name for p in tmp_path.iterdir()] == ["wrong.json"]


def test_the_module_runs_as_a_program(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "e2crf_core", "sample", "--num", "0", "--out", "x.npz"]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(root), "PATH": ""}, capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr.startswith("error: --num 0")
    assert len(done.stderr.splitlines()) == 1 and not list(tmp_path.iterdir())
