"""Kill writers and flip bits: `python -m tests.kill`; exit code 1 when anything was lost or wrong."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.kill.flips import flip
from tests.kill.kills import kill
from tests.kill.stores import KINDS, Store

EACH = 10
FLIPPED = ("refused", "unchanged")


def kills(store: Store, folder: Path, number: int, seed: int) -> list[str]:
    """Kill `number` writers of a store; return what was wrong."""
    rng = random.Random(f"{seed} kill {store.name}")
    faults = []
    for place in range(number):
        # A new store now and then, because reading a large one takes long.
        current = folder / str(place // EACH)
        if place % EACH == 0:
            store.prepare(current)
        faults.append(kill(store, current, rng))
    return [fault for fault in faults if fault]


def flips(store: Store, folder: Path, number: int, seed: int) -> Counter[str]:
    """Flip `number` bits of a store, one at a time; return how often each outcome was seen."""
    rng = random.Random(f"{seed} flip {store.name}")
    store.prepare(folder)
    intact = store.content(folder)
    return Counter(flip(store, folder, intact, rng) for _ in range(number))


def main() -> int:
    """Run both for every kind of store, and print a line for each."""
    parser = argparse.ArgumentParser(prog="python -m tests.kill", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="kills over all stores")
    parser.add_argument("--flips", type=int, default=400, help="flipped bits in each store")
    parser.add_argument("--seed", type=int, help="default: a new one each day")
    parser.add_argument("--only", help="one store: " + ", ".join(kind.name for kind in KINDS))
    options = parser.parse_args()
    seed = int(time.strftime("%Y%m%d")) if options.seed is None else options.seed
    begin, wrong = time.monotonic(), 0
    for kind in KINDS:
        if options.only not in (None, kind.name):
            continue
        store = kind()
        with tempfile.TemporaryDirectory(prefix="kill-") as folder:
            each = -(-options.kills // len(KINDS))
            faults = kills(store, Path(folder) / "kills", each, seed)
            outcomes = flips(store, Path(folder) / "flips", options.flips, seed)
        bad = {outcome: count for outcome, count in outcomes.items() if outcome not in FLIPPED}
        wrong += len(faults) + sum(bad.values())
        seen = ", ".join(f"{outcomes[outcome]} {outcome}" for outcome in FLIPPED)
        print(
            f"{store.name}: {each} kills, {len(faults)} faults; {options.flips} flipped bits, {seen}",
            flush=True,
        )
        print("".join(f"  {fault}\n" for fault in [*faults, *bad]), end="", flush=True)
    print(f"seed {seed}: {wrong} faults, {time.monotonic() - begin:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
