"""Run the fuzzer: `python -m tests.fuzz --inputs 10000`; exit code 1 when any input was a fault."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.run import TARGETS, fuzz, table


def main() -> int:
    """Run, print the table of outcomes by target, and keep the inputs of faults."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000, help="number of inputs")
    parser.add_argument("--seed", type=int, help="default: a new one each day, so that every day sees others")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", help="one target: " + ", ".join(target.name for target in TARGETS))
    parser.add_argument("--replay", action="store_true", help="feed all that were ever faults, too")
    options = parser.parse_args()
    seed = int(time.strftime("%Y%m%d")) if options.seed is None else options.seed
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        results = fuzz(Path(folder), options.inputs, seed, options.processes, options.only, options.replay)
    print(table(results))
    faults = [result for result in results if not result.outcome.good]
    for result in faults:
        print(f"{result.target} {result.number}: {result.outcome.kind}: {result.outcome.detail}")
    print(f"seed {seed}: {options.inputs} inputs, {len(faults)} faults, {time.monotonic() - begin:.0f} s")
    return 1 if faults else 0


sys.exit(main())
