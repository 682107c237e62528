"""Bad input to tune, deploy, check, export, serve and cluster: one line, exit code 2, nothing written."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2crf_core.cli import main
from tests.tiny import tiny_assets

OUT = "OUT"


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_assets(tmp_path_factory.mktemp("assets"), ("ecg",))


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("tune --out OUT --minutes -1", "--minutes"),
        ("tune --out OUT --minutes nan", "--minutes"),
        ("tune --out OUT --trials 0", "--trials"),
        ("tune --out OUT --workers 0", "--workers"),
        ("tune --out OUT --latency-ms -3", "--latency-ms"),
        ("tune --out OUT --quality-budget 0", "--quality-budget"),
        ("tune --out OUT --steps 5:x", "--steps"),
        ("tune --out OUT --steps 30:20", "steps"),
        ("tune --out OUT --num 10 --batch 4", "multiple"),
        ("tune --out OUT --solvers rk45", "solver"),
        ("tune --out OUT --quality relative_l2", "twin"),
        ("tune --out OUT --storage nosuchdb://x", "storage"),
        ("tune --out FILE", "is a file"),
        ("deploy --out OUT --policy nope", "policy"),
        ("deploy --out OUT --num 1", "num"),
        ("deploy --out OUT --steps 3", "steps"),
        ("deploy --out OUT --batch 0", "batch"),
        ("deploy --out OUT --seed -1", "seed"),
        ("deploy --out OUT --device tpu", "tpu"),
        ("deploy --out OUT --study FILE", "--study"),
        ("deploy --out FILE", "is a file"),
        ("check --card FILE", "JSON"),
        ("check --card OUT", "cannot be read"),
        ("export --out OUT --policy paper", "cannot be exported"),
        ("export --out OUT --policy fast --format tflite", "format"),
        ("export --out OUT --policy fast --steps 0", "steps"),
        ("export --out OUT --card FILE", "JSON"),
        ("serve --port 70000", "--port"),
        ("serve --threads -2", "--threads"),
        ("serve --max-num 0", "limits"),
        ("serve --host 999.1.1.1 --port 0 --token x", "cannot listen"),
        ("serve --checkpoint nope", "checkpoint"),
        ("cluster", "ACTION"),
        ("cluster evaluate --out OUT --num 0", "num"),
        ("cluster evaluate --out OUT --shard 0", "shard"),
        ("cluster evaluate --out OUT --grid foo", "grid"),
        ("cluster evaluate --out OUT --device tpu", "--device"),
        ("cluster evaluate --out OUT --ray local --gpus -1", "--gpus"),
        ("cluster evaluate --out OUT --ray local --workers 0", "workers"),
    ],
)
def test_bad_input_is_told_in_one_line_and_writes_nothing(
    command: str,
    word: str,
    assets: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("E2CRF_ASSETS", str(assets))
    out, file = tmp_path / "out", tmp_path / "file"
    file.write_text("x")
    places = {OUT: str(out), "FILE": str(file)}
    assert main([places.get(part, part) for part in command.split()]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("error: ") and told.err.count("\n") == 1 and word in told.err, told.err
    assert not out.exists() and file.read_text() == "x" and not told.out
