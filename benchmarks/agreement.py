"""Check that two evaluations with different seeds agree: `python -m benchmarks.agreement A/ B/`.

Every pair of configurations that *both* evaluations separate (their intervals do not overlap) must have the
same order in both. Pairs that only one of them separates are counted but contradict nothing. The exit code is
1 if there is a contradiction.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from e2crf_core.errors import LabError
from e2crf_core.quality.protocol import PRIMARY

LIMIT_BYTES = 50_000_000
SAME = ("checkpoint", "digest", "dataset", "num")


@dataclass(frozen=True)
class Agreement:
    """Pairs (better, worse) by the first evaluation: confirmed, contradicted, or separated by only one."""

    metric: str
    agreed: tuple[tuple[str, str], ...]
    contradicted: tuple[tuple[str, str], ...]
    first_only: tuple[tuple[str, str], ...]
    second_only: tuple[tuple[str, str], ...]
    pairs: int


def read_report(folder: Path) -> dict[str, Any]:
    """Read the results of `eval --out folder`. Raises LabError that describes what is wrong with them."""
    path = folder / "results.json" if folder.is_dir() else folder
    try:
        if path.stat().st_size > LIMIT_BYTES:
            raise LabError(
                f"{path} is larger than {LIMIT_BYTES // 1_000_000} MB: it holds no results of eval"
            )
        stored = json.loads(path.read_text(encoding="utf-8"))
        for row in stored["rows"]:
            str(row["config"]["name"])
            for figure in row["metrics"].values():
                float(figure["value"]), float(figure["low"]), float(figure["high"])
        for key in (*SAME, "seed", "repeats", "titles"):
            stored[key]
    except OSError as fault:
        raise LabError(f"{path}: {fault.strerror}: name the --out folder of an evaluation") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as fault:
        raise LabError(f"{path} holds no results of eval ({type(fault).__name__}: {fault})"[:200]) from None
    return stored


def comparable(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    """Raise LabError unless two results measure the same things with different seeds."""
    differ = [key for key in SAME if a[key] != b[key]]
    if differ:
        raise LabError(f"the two evaluations differ in {', '.join(differ)}: they answer different questions")
    seeds = [range(e["seed"], e["seed"] + e["repeats"]) for e in (a, b)]
    shared = sorted(set(seeds[0]) & set(seeds[1]))
    if shared:
        raise LabError(
            f"both evaluations used seed {shared[0]}: run one again with another --seed, or they must agree"
        )


def agreement(a: Mapping[str, Any], b: Mapping[str, Any], metric: str = PRIMARY) -> Agreement:
    """Compare the order of all pairs of rows that two results share, by one metric."""
    tables = [{row["config"]["name"]: row["metrics"] for row in e["rows"]} for e in (a, b)]
    names = [name for name in tables[0] if name in tables[1]]
    if len(names) < 2:
        raise LabError("the two evaluations have fewer than two rows in common")
    if any(metric not in table[name] for table in tables for name in names):
        raise LabError(f"no figure {metric!r}: use one of {', '.join(tables[0][names[0]])}")
    found: dict[str, list[tuple[str, str]]] = {"agreed": [], "contradicted": [], "first": [], "second": []}
    for pair in combinations(names, 2):
        first, second = (_order(table, pair, metric) for table in tables)
        if first and second:
            found["agreed" if first == second else "contradicted"].append(first)
        elif first or second:
            found["first" if first else "second"].append(first or second or pair)
    return Agreement(
        metric,
        tuple(found["agreed"]),
        tuple(found["contradicted"]),
        tuple(found["first"]),
        tuple(found["second"]),
        len(names) * (len(names) - 1) // 2,
    )


def _order(
    table: Mapping[str, Mapping[str, Mapping[str, float]]], pair: tuple[str, str], metric: str
) -> tuple[str, str] | None:
    """Return the pair as (better, worse), or None if the intervals overlap."""
    one, other = (table[name][metric] for name in pair)
    if one["high"] < other["low"]:
        return pair
    return pair[::-1] if other["high"] < one["low"] else None


def report(result: Agreement, title: str) -> str:
    """Describe an agreement in sentences and name the contradictions."""
    lines = [
        f"{title}: {result.pairs} pairs, {len(result.agreed) + len(result.contradicted)} distinguished by both,"
        f" {len(result.first_only)} by the first alone, {len(result.second_only)} by the second alone;"
        f" {len(result.contradicted)} in opposite order."
    ]
    lines += [f"  {better}  better than  {worse}" for better, worse in result.agreed]
    lines += [
        f"  CONTRADICTION: the first has {better} better than {worse}, the second the other way round"
        for better, worse in result.contradicted
    ]
    return "\n".join(lines)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("first", type=Path, help="--out folder of one evaluation")
    parser.add_argument("second", type=Path, help="--out folder of the same with another --seed")
    parser.add_argument("--metric", default=PRIMARY, help="a figure of the results, or 'all'")
    arguments = parser.parse_args()
    try:
        a, b = read_report(arguments.first), read_report(arguments.second)
        comparable(a, b)
        metrics = list(a["titles"]) if arguments.metric == "all" else [arguments.metric]
        results = [agreement(a, b, metric) for metric in metrics]
    except LabError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 2
    print("\n".join(report(result, a["titles"].get(result.metric, result.metric)) for result in results))
    return int(any(result.contradicted for result in results))


if __name__ == "__main__":
    sys.exit(main())
