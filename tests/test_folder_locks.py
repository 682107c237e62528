"""Two trainings, studies, evaluations or jobs on one folder: the second is refused in one line, and writes nothing."""

import subprocess
import sys
from contextlib import contextmanager

import pytest

from e2crf_core import LabError
from e2crf_core.cli import main
from e2crf_core.io.locks import LOCK, claim, claimed, in_use
from pages.ui.jobs.job import JobState, write_file
from pages.ui.jobs.processes import Processes
from tests.tiny import tiny_assets
from tests.waiting import until

HOLD = """
import sys
from pathlib import Path
from e2crf_core.io.locks import claim
locks = [claim(Path(folder), "test") for folder in sys.argv[1:]]
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held(*folders):
    """Hold folders in another process, which is killed at the end."""
    command = [sys.executable, "-c", HOLD, *map(str, folders)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        yield
    finally:
        process.kill()
        process.communicate()


def test_a_folder_belongs_to_one_process_until_that_process_ends_in_any_way(tmp_path):
    assert not in_use(tmp_path / "new") and not (tmp_path / "new").exists()
    with held(tmp_path):
        assert in_use(tmp_path)
        with pytest.raises(LabError, match="another process is at work on the study in") as refused:
            claim(tmp_path, "study")
        assert refused.value.field == "out" and "\n" not in str(refused.value)
    with claimed(tmp_path, "study"), claimed(tmp_path, "study"):
        assert in_use(tmp_path)
    assert not in_use(tmp_path)


def test_commands_refuse_a_folder_at_which_another_process_is_at_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("E2CRF_ASSETS", str(tiny_assets(tmp_path / "assets", ("ecg",))))
    configs = tmp_path / "configs.json"
    configs.write_text('[{"name": "a", "solver": "ddim", "grid": "linear", "steps": 10, "policy": null}]')
    train, study, table = (tmp_path / name for name in ("train", "study", "table"))
    commands = {
        "training": ["train", "--data", "ecg", "--steps", "5", "--out", str(train)],
        "study": ["tune", "--minutes", "0.1", "--out", str(study)],
        "evaluation": ["eval", "--configs", str(configs), "--num", "8", "--out", str(table)],
    }
    with held(train / "training", study, table):
        for what, command in commands.items():
            assert main(command) == 2
            lines = capsys.readouterr().err.strip().splitlines()
            assert lines[-1].count(f"another process is at work on the {what} in ") == 1
        for folder in (train / "training", study, table):
            assert [path.name for path in folder.iterdir()] == [LOCK]


def test_a_job_at_which_another_server_is_at_work_is_shown_as_running_and_not_started_twice(tmp_path):
    processes = Processes()
    write_file(tmp_path / "progress.json", JobState(status="training", step=3, steps=9))
    assert processes.state(tmp_path).status == "interrupted"
    with held(tmp_path):
        assert processes.state(tmp_path).status == "training"
        with pytest.raises(LabError, match="another process"):
            processes.launch("pages.ui.training.training_worker", tmp_path)
        processes.stop(tmp_path)
        assert (tmp_path / "stop").exists()
    until(lambda: processes.state(tmp_path).status == "interrupted")
    assert processes.state(tmp_path).step == 3
