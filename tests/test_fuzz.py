"""A short form of `make fuzz`: some inputs of every kind, and all that were ever faults (see tests/fuzz)."""

import json
import os
import subprocess
import sys

from tests.fuzz.run import CORPUS, TARGETS, case_of, keep, kept, table
from tests.fuzz.run import Result as FuzzResult
from tests.fuzz.target import Input
from tests.fuzz.watch import Outcome

ROOT = CORPUS.parents[2]
WATCHED = """
import os, sys, time
from pathlib import Path
from e2crf_core.errors import LabError
from tests.fuzz.watch import Watch
own, other = Path(sys.argv[1]), Path(sys.argv[2])
def refuse(text): raise LabError(text)
def divide(): return 1 / 0
def spin():
    while True: pass
actions = {
    "accepted": lambda: (own / "x").write_text("x"),
    "refused": lambda: refuse("no"),
    "traceback": divide,
    "hang": spin,
    "outside": lambda: (other / "x").write_text("x"),
    "outside ": lambda: os.mkdir(other / "y"),
    "outside  ": lambda: os.symlink(other, own / "link") or (own / "link" / "z").write_text("x"),
    "outside   ": lambda: os.system("true"),
}
watch = Watch()
for kind, action in actions.items():
    print(kind.strip(), watch.over(own, action).kind)
"""
"""A program of its own, because a watch stays as long as its process."""


def test_the_watch_sees_every_kind_of_fault(tmp_path):
    for name in ("own", "other"):
        (tmp_path / name).mkdir()
    command = [sys.executable, "-c", WATCHED, str(tmp_path / "own"), str(tmp_path / "other")]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    pairs = [line.split() for line in said.stdout.splitlines()]
    assert len(pairs) == 8 and all(expected == got for expected, got in pairs), pairs


def test_some_inputs_of_every_kind_are_no_fault(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "tests.fuzz",
        "--inputs",
        "150",
        "--seed",
        "1",
        "--processes",
        "1",
        "--replay",
    ]
    said = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert said.returncode == 0, said.stdout[-4000:] + said.stderr[-2000:]
    assert "150 inputs, 0 faults" in said.stdout


def test_inputs_are_reproducible_and_survive_being_kept(tmp_path):
    (tmp_path / "corpus").mkdir()
    case = Input(b"\x00\xff", {"window": 2**64, "name": "a\u202e"})
    path = keep(FuzzResult("imports", 3, Outcome("traceback", "why")), case, tmp_path / "corpus")
    assert json.loads(path.read_text())["fault"] == "traceback"
    assert [(target.name, again) for _, target, again in kept(tmp_path / "corpus")] == [("imports", case)]
    by_name = {target.name: target for target in TARGETS}
    policies = [case_of(by_name["policies"], 1, 7, tmp_path) for _ in range(2)]
    assert policies[0] == policies[1] != case_of(by_name["policies"], 1, 8, tmp_path)


def test_the_table_counts_every_target():
    results = [
        FuzzResult("imports", n, Outcome(kind)) for n, kind in enumerate(("refused", "hang", "refused"))
    ]
    lines = table(results).splitlines()
    assert lines[-1].split()[:2] == ["all", "3"] and lines[1].split()[0] == "imports"
    assert not Outcome("hang").good
