"""Does a study end whole while optuna-dashboard polls it and writes notes into its database?

    python -m benchmarks.dashboard --minutes 5

Runs `tune` with its default storage, SQLite, and the dashboard beside it. Readers ask for the list of studies, the
study with all its trials, and parameter importances without pause, and every fifth round saves a note, as a
person at the dashboard would. Afterwards the study must have ended by itself, SQLite must find its file intact,
every trial must have ended (the budget may cut the last one short), and the study's summary must name the same
ones. The exit code is 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx

from e2crf_core.io.provenance import commit, machine
from e2crf_core.tuning.study import CUT

CAUSES = "SELECT number, value_json FROM trials JOIN trial_user_attributes USING (trial_id) WHERE key = 'why'"
"""Why trials have no result. The budget cuts the last one short, by design; it is tried again on resume."""


@contextmanager
def dashboard(storage: Path) -> Iterator[str]:
    """Run optuna-dashboard on a database; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = Path(sys.executable).with_name("optuna-dashboard")
    process = subprocess.Popen(
        [program, f"sqlite:///{storage}", "--port", str(port), "--quiet"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with socket.socket() as probe:
            while probe.connect_ex(("127.0.0.1", port)):
                if process.poll() is not None:
                    raise SystemExit("optuna-dashboard did not start")
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def poll(address: str, stop: threading.Event, pause: float, ended: Counter[str]) -> None:
    """Ask the dashboard for everything until `stop` is set; count in `ended` how each kind of request ended."""
    rounds = 0
    with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:

        def ask(kind: str, method: str, path: str, **options: Any) -> Any:
            try:
                answer = client.request(method, path, **options)
            except httpx.HTTPError as fault:
                ended[f"{kind}: {type(fault).__name__}"] += 1
                return None
            ended[f"{kind}: {answer.status_code}"] += 1
            return answer.json() if answer.status_code == 200 else None

        while not stop.wait(pause):
            listed = ask("studies", "GET", "/api/studies")
            for study in (listed or {}).get("study_summaries", []):
                path = f"/api/studies/{study['study_id']}"
                trials = ask("trials", "GET", path)
                ask("importances", "GET", f"{path}/param_importances")
                if trials and rounds % 5 == 0:
                    version = trials["note"]["version"] + 1
                    ask("note", "PUT", f"{path}/note", json={"body": f"round {rounds}", "version": version})
            rounds += 1


@contextmanager
def polled(database: Path, pause: float) -> Iterator[Counter[str]]:
    """Poll a dashboard of the database during the block; yields how many requests ended how so far."""
    stop, ended = threading.Event(), Counter[str]()
    with dashboard(database) as address:
        reader = threading.Thread(target=poll, args=(address, stop, pause, ended))
        reader.start()
        try:
            yield ended
        finally:
            stop.set()
            reader.join()


def faults(database: Path, points: set[int]) -> list[str]:
    """Return what is wrong with the database of a study that ended with these trials; empty if it is whole."""
    found = []
    with closing(sqlite3.connect(database)) as connection:
        (state,) = connection.execute("PRAGMA integrity_check").fetchone()
        trials = dict(connection.execute("SELECT number, state FROM trials").fetchall())
        causes = dict(connection.execute(CAUSES).fetchall())
    if state != "ok":
        found.append(f"SQLite: {state}")
    running = [number for number, state in trials.items() if state == "RUNNING"]
    failed = [n for n, state in trials.items() if state == "FAIL" and CUT not in causes.get(n, "")]
    if running or failed:
        found.append(f"trials {running} have not ended, and trials {failed} have failed")
    finished = {number for number, state in trials.items() if state in ("COMPLETE", "PRUNED")}
    if points != finished:
        found.append(f"the study and its database differ in trials {sorted(points ^ finished)}")
    return found


def watched(command: Sequence[str], out: Path, pause: float) -> dict[str, Any]:
    """Run a study with the dashboard beside it; return what was asked, and what is wrong."""
    log = out.with_suffix(".log")
    began = time.monotonic()
    with log.open("w") as output:
        study = subprocess.Popen([*command, "--out", str(out)], stdout=output, stderr=subprocess.STDOUT)
        while not (out / "study.db").is_file() and study.poll() is None:
            time.sleep(0.05)
        with polled(out / "study.db", pause) as ended:
            exit_code = study.wait()
    if exit_code:
        points, wrong = set(), [f"the study ended with exit code {exit_code}: {log.read_text()[-2000:]}"]
    else:
        points = {point["number"] for point in json.loads((out / "study.json").read_text())["points"]}
        wrong = faults(out / "study.db", points)
    seconds = round(time.monotonic() - began, 1)
    return {
        "seconds": seconds,
        "trials": len(points),
        "requests": dict(sorted(ended.items())),
        "faults": wrong,
    }


def main() -> int:
    """Run, print the report, and keep it beside the study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoint", default="ecg")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--trials", type=int, help="end after so many trials, too")
    parser.add_argument("--num", type=int, default=64, help="samples of a finished trial")
    parser.add_argument("--steps", default="4:1000", help="steps to search")
    parser.add_argument("--pause", type=float, default=0.1, help="seconds between rounds")
    parser.add_argument("--out", type=Path, default=Path("artifacts/dashboard-study"))
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "e2crf_core", "tune", "--checkpoint", options.checkpoint]
    command += ["--minutes", str(options.minutes), "--num", str(options.num), "--steps", options.steps]
    if options.trials is not None:
        command += ["--trials", str(options.trials)]
    report = {
        "command": " ".join(["python -m benchmarks.dashboard", *sys.argv[1:]]),
        "commit": commit(),
        "machine": machine(),
        **watched(command, options.out.resolve(), options.pause),
    }
    text = json.dumps(report, indent=1)
    print(text)
    options.out.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    return 1 if report["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
