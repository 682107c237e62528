"""Make inputs, feed them to their targets in processes of their own, and keep those that are faults."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz import cards, files, pages, web
from tests.fuzz.target import Input, Place, Target
from tests.fuzz.valid import make
from tests.fuzz.watch import Outcome, Watch

TARGETS: tuple[Target, ...] = (*cards.TARGETS, *files.TARGETS, *web.TARGETS, *pages.TARGETS)
CORPUS = Path(__file__).parent / "corpus"
SILENCE_S = 600.0
"""Seconds without a word after which a process is taken to hang where no signal can reach it."""
MEMORY = 3 << 30
"""Bytes that an input may allocate."""
KINDS = ("accepted", "refused", "traceback", "5xx", "hang", "outside", "message", "unfit", "crash")


@dataclass(frozen=True)
class Result:
    """The outcome of input `number` of a target."""

    target: str
    number: int
    outcome: Outcome


class Feeder:
    """Feeds inputs in this process, each in an empty folder that is also its home."""

    def __init__(self, valid: Path, scratch: Path) -> None:
        self.valid, self.scratch = valid, scratch
        self.watch = Watch()
        sys.dont_write_bytecode = True

    def feed(self, target: Target, case: Input) -> Outcome:
        """Let a target read one input."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        (self.scratch / "tmp").mkdir(parents=True)
        os.environ["E2CRF_HOME"] = str(self.scratch / "home")
        # torch makes this folder as soon as a part of it is imported.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(self.scratch / "tmp" / "inductor")
        tempfile.tempdir = str(self.scratch / "tmp")
        return self.watch.over(self.scratch, partial(target.feed, case, Place(self.valid, self.scratch)))


def schedule(inputs: int, seed: int, only: str | None = None) -> list[tuple[Target, int]]:
    """Return which target reads each input."""
    targets = [target for target in TARGETS if only in (None, target.name)]
    rng = Random(seed)
    chosen = rng.choices(targets, [target.weight for target in targets], k=inputs)
    return [(target, number) for number, target in enumerate(chosen)]


def case_of(target: Target, seed: int, number: int, valid: Path) -> Input:
    """Make input `number` of a target."""
    return target.make(Random(f"{seed} {target.name} {number}"), valid)


def fuzz(
    folder: Path, inputs: int, seed: int, processes: int, only: str | None = None, replay: bool = False
) -> list[Result]:
    """Feed all inputs, on `replay` the kept ones too; new ones that are faults are kept in the corpus.

    Kept inputs have the numbers -1, -2, and so on.
    """
    valid = folder / "valid"
    maker = _start(_make, valid)
    maker.join()
    if maker.exitcode:
        raise RuntimeError("the valid files cannot be made")
    old = [(target, -1 - index) for index, (_, target, _) in enumerate(kept())] if replay else []
    work = old + schedule(inputs, seed, only)
    workers = [_Worker(folder, valid, index, seed, work[index::processes]) for index in range(processes)]
    results = list(_results(workers))
    by_name = {target.name: target for target in TARGETS}
    for result in results:
        if not result.outcome.good and result.number >= 0:
            keep(result, case_of(by_name[result.target], seed, result.number, valid))
    return sorted(results, key=lambda result: result.number)


def keep(result: Result, case: Input, folder: Path = CORPUS) -> Path:
    """Keep the input of a fault for replays."""
    stored = {
        "target": result.target,
        "fault": result.outcome.kind,
        "detail": result.outcome.detail,
        **case.to_json(),
    }
    digest = hashlib.sha256(json.dumps(case.to_json(), sort_keys=True).encode()).hexdigest()[:10]
    path = folder / f"{result.target.replace(' ', '-')}-{digest}.json"
    folder.mkdir(exist_ok=True)
    path.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    return path


def kept(folder: Path = CORPUS) -> Iterator[tuple[str, Target, Input]]:
    """Yield (name, target, input) for everything in the corpus."""
    by_name = {target.name: target for target in TARGETS}
    for path in sorted(folder.glob("*.json")):
        stored = json.loads(path.read_text(encoding="utf-8"))
        yield path.stem, by_name[stored["target"]], Input.from_json(stored)


def table(results: Sequence[Result]) -> str:
    """Return the number of outcomes of each kind, one line for each target."""
    counts = Counter((result.target, result.outcome.kind) for result in results)
    names = [target.name for target in TARGETS if any(counts[target.name, kind] for kind in KINDS)]
    lines = ["  ".join(["target".ljust(22), "inputs".rjust(7), *(kind.rjust(9) for kind in KINDS)])]
    for name in (*names, "all"):
        row = [sum(counts[each, kind] for each in (names if name == "all" else [name])) for kind in KINDS]
        lines.append(
            "  ".join([name.ljust(22), str(sum(row)).rjust(7), *(str(count).rjust(9) for count in row)])
        )
    return "\n".join(lines)


# ---- processes


def _start(target: Any, *args: Any) -> Any:
    process = multiprocessing.get_context("spawn").Process(target=target, args=args, daemon=True)
    process.start()
    return process


def _make(valid: Path) -> None:
    os.environ["E2CRF_HOME"] = str(valid.parent / "no-home")
    make(valid)


class _Worker:
    """A process that feeds inputs and says before each which one comes; a new one follows a dead one."""

    def __init__(
        self, folder: Path, valid: Path, index: int, seed: int, work: list[tuple[Target, int]]
    ) -> None:
        self.folder, self.valid, self.index, self.seed = folder, valid, index, seed
        self.rest = [(target.name, number) for target, number in work]
        self.begin()

    def begin(self) -> None:
        """Start a process on what is left."""
        self.pipe, theirs = multiprocessing.Pipe(duplex=False)
        args = (theirs, self.valid, self.folder / f"worker-{self.index}", self.seed, self.rest)
        self.process = _start(_feed_all, *args)
        self.heard = time.monotonic()
        theirs.close()

    @property
    def silent(self) -> bool:
        """Return whether the process must be taken to hang."""
        return time.monotonic() - self.heard > SILENCE_S

    def result(self, outcome: Outcome) -> Result:
        """Return the outcome of the input at hand, and go on to the next."""
        name, number = self.rest.pop(0)
        self.heard = time.monotonic()
        return Result(name, number, outcome)


def _results(workers: list[_Worker]) -> Iterator[Result]:
    while busy := [worker for worker in workers if worker.rest]:
        ready = wait([worker.pipe for worker in busy], 5.0)
        for worker in busy:
            if worker.pipe not in ready and not worker.silent:
                continue
            try:
                if worker.pipe not in ready:
                    raise EOFError
                yield worker.result(worker.pipe.recv())
            except EOFError:
                kind = "hang" if worker.silent else "crash"
                worker.process.kill()
                worker.process.join()
                yield worker.result(Outcome(kind, f"exit code {worker.process.exitcode}"))
                if worker.rest:
                    worker.begin()


def _feed_all(pipe: Connection, valid: Path, scratch: Path, seed: int, work: list[tuple[str, int]]) -> None:
    import torch

    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY + _data_bytes(), resource.RLIM_INFINITY))
    with open(os.devnull, "w") as quiet:
        os.dup2(quiet.fileno(), 2)
    feeder = Feeder(valid, scratch)
    by_name = {target.name: target for target in TARGETS}
    old = [case for _, _, case in kept()]
    for name, number in work:
        target = by_name[name]
        case = old[-1 - number] if number < 0 else case_of(target, seed, number, valid)
        pipe.send(feeder.feed(target, case))


def _data_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmData:")[2].split()[0]) * 1024
