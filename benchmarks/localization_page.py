"""Write the results of `benchmarks.localization` as Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.localization_reading import MATCHES
from benchmarks.localization_rows import NO_CACHE

UNITS = {"data": "standard deviations of the data", "whitened": "each frequency's own standard deviation"}

JUDGED = ("marginal Wasserstein", "log-spectral distance", "verdict")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Format a Markdown table as lines."""
    return ["| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows]]


def ratio(gain: Sequence[float | None] | None) -> str:
    """Format a ratio with its range; an end that is None is open."""
    if gain is None or gain[0] is None:
        return "not reached"
    low, high = ("open" if end is None else f"{end:.2f}" for end in gain[1:])
    return f"{gain[0]:.2f}x ({low}-{high})"


def side(part: Mapping[str, Any] | None) -> str:
    """Format one side of a comparison."""
    if part is None:
        return "not reached"
    return f"{part['row'].split(': ', 1)[1]}: {part['cost']:.2f} forwards, error {part['error']:.3f}"


def gains_table(study: Mapping[str, Any]) -> list[str]:
    """Tabulate the comparisons of one data set."""
    batches = list(study["seconds"])
    rows = []
    for entry in study["comparisons"]:
        for way, title in MATCHES.items():
            part = entry[way]
            cells = [f"{entry['kind']} {entry['level']:g}, {title}", entry["baseline"]]
            cells += [side(entry["before"]), side(part["nested"]), ratio(part["work"])]
            cells += [ratio(part["wall"][batch]) if batch in part["wall"] else "" for batch in batches]
            rows.append(cells)
    head = ["error", "baseline", "its row", "nested bands", "gain in network work"]
    return table([*head, *(f"wall clock, batch {batch}" for batch in batches)], rows)


def percent(change: Sequence[float]) -> str:
    """Format a share with its interval."""
    return f"{100 * change[0]:+.1f}% ({100 * change[1]:+.1f} to {100 * change[2]:+.1f})"


def decibels(change: Sequence[float]) -> str:
    """Format a change in dB with its interval."""
    return f"{change[0]:+.2f} dB ({change[1]:+.2f} to {change[2]:+.2f})"


def euler_table(part: Mapping[str, Any]) -> list[str]:
    """Tabulate the runs of the paper's sampler on one network."""
    rows = []
    for name, row in part["rows"].items():
        judged = row.get("judgment")
        cells = [name, f"{row['cost']:.1f}", ratio(part["speed"][name]) if name in part["speed"] else ""]
        cells += [f"{row[kind]['median']:.3f}" if kind in row else "" for kind in UNITS]
        cells += [f"{100 * row['flips']:.0f}%" if "flips" in row else ""]
        rows.append(cells + (["reference", "", ""] if judged is None else judgment_cells(judged)))
    head = ["row", "forwards", f"speed against {NO_CACHE}", "error, data units", "error, whitened", "flips"]
    return table([*head, *JUDGED], rows)


def judgment_cells(judged: Mapping[str, Any]) -> list[str]:
    """Format both changes of a judgment and its verdict."""
    return [percent(judged["primary"]), decibels(judged["spectral"]), judged["verdict"]]


def rows_table(study: Mapping[str, Any]) -> list[str]:
    """Tabulate all short rows of a data set."""
    lines = []
    for name, row in study["rows"].items():
        cells = [name, f"{row['cost']:.2f}"]
        cells += [f"{row[kind]['median']:.4f} ({row[kind]['high']:.4f})" for kind in UNITS]
        if "predicted" in row:
            kind = "whitened" if row["method"] == "detail" else "data"
            cells += [f"{row['predicted']:.4f}", f"{row[kind]['rms']:.4f}"]
        else:
            cells += ["", ""]
        judged = row.get("judgment")
        cells += judgment_cells(judged) if judged else ["", "", ""]
        lines.append(cells)
    head = ["row", "forwards", "error, data units: median (90%)", "error, whitened: median (90%)"]
    return table([*head, "predicted RMS", "measured RMS", *JUDGED], lines)


def page(results: Mapping[str, Any]) -> str:
    """Format the whole study."""
    quick = " (quick form: not for conclusions)" if results["quick"] else ""
    lines = [
        f"# Does spectral localization pay?{quick}",
        "",
        "Written by `python -m benchmarks.localization`. Nested bands on a spectrally causal network against solvers"
        " alone (each with its best time grid and late start by a pilot on other noise) and against whole refreshes"
        " that the tables plan. Errors are medians over samples, relative to the converged solution of the row's own"
        f" network on the same noise: in {UNITS['data']}, and whitened, in {UNITS['whitened']}. A comparison is made"
        " at the level, or as close as the baseline's row really came. Network work is counted in forwards of all"
        " tokens; its interval is a bootstrap over samples. Wall clock is a ratio of runs that take turns in one"
        " process, with its range over rounds.",
    ]
    for data, study in results["data"].items():
        origin = next(iter(study["provenance"].values()))
        lines += ["", f"## {data}", ""]
        if "rows" in study:
            seeds = len(study["seeds"])
            lines += [
                f"{seeds} seed{'s' * (seeds > 1)} of {study['num']} samples, {origin['threads']} threads.",
                "",
                *gains_table(study),
            ]
        for network, part in study.get("euler", {}).items():
            attention = "causal network" if network == "causal" else "network with full attention"
            lines += ["", f"{part['steps']} Euler-Maruyama steps, {part['num']} samples, {attention}:", ""]
            lines += euler_table(part)
        if "rows" in study:
            lines += ["", f"All rows of {data} with few calls:", "", *rows_table(study)]
    return "\n".join(lines) + "\n"
