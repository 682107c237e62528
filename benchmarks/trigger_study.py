"""Compare all triggers with all predictors, and experimental rules, by work against cache error.

Every checkpoint gets one evaluation (200 Euler-Maruyama steps, 100 with `--quick`) whose shards are kept, so
that a stopped study can resume. The sharpest axis is the relative L2 to the uncached twin on the same noise;
the protocol's verdict stands beside it. Families are compared at equal work, counted in recomputed tokens and
in operations. Their time is not compared: `benchmarks.localization` times plans in turns.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.trigger_experiments import register_experiments
from e2crf_core.caching.policy import CLOCKS, PREDICTORS, CachePolicy
from e2crf_core.commands.terminal import ProgressLine
from e2crf_core.data.datasets import load_dataset
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.evaluation.shards import Task, run_shards, stored_config
from e2crf_core.evaluation.summary import summarize
from e2crf_core.evaluation.tables import Evaluation, TableRow
from e2crf_core.io.files import replace_file
from e2crf_core.models.checkpoints import load_checkpoint
from e2crf_core.models.folders import shipped_checkpoints
from e2crf_core.models.training_data import training_data
from e2crf_core.network.forward import band_edges_of
from e2crf_core.quality.pareto import pareto_front
from e2crf_core.quality.protocol import PRIMARY
from e2crf_core.report.charts import Curve, as_html, curves_chart, plotly_script
from e2crf_core.sampling.calibration import calibrate
from e2crf_core.sampling.config import SamplerConfig

HERE = Path(__file__).resolve().parent
ENDS = ("value", "low", "high")
SHARES = (0.03, 0.05, 0.08, 0.12, 0.2)


def core_policies(tokens: int, steps: int) -> dict[str, list[CachePolicy]]:
    """Return settings of every core trigger, from much work to little."""
    low, r = max(1, tokens // 8), max(1, steps // 300)
    taus = (0.15, 0.4, 1.0)
    found: dict[str, list[CachePolicy]] = {}
    for clock in CLOCKS:
        at = "" if clock == CLOCKS[0] else f" on {clock}"
        found[f"log_snr{at}"] = [CachePolicy(trigger="log_snr", tau=tau, clock=clock) for tau in taus]
        found[f"bands{at}"] = [
            CachePolicy(trigger="bands", bands=((low, tau / 2), (100_000, 2 * tau)), clock=clock)
            for tau in taus
        ]
        # The stretched clock moves where the plain one hardly does: equal work needs larger thresholds there.
        rates = (0.06, 0.1, 0.2) if clock == CLOCKS[0] else (0.12, 0.25, 0.5)
        found[f"rate{at}"] = [CachePolicy(trigger="rate", tau=tau, clock=clock) for tau in rates]
    paper = CachePolicy(
        trigger="paper", k_low=1, refresh_every=max(2, steps // 7), probe_share=0.01, correct=True
    )
    return found | {
        "nested": [CachePolicy.of("nested").replace(tau=tau) for tau in (0.03, 0.06, 0.12, 0.25, 0.5)],
        "fixed": [CachePolicy(trigger="fixed", refresh_every=k * r) for k in (5, 12, 36)],
        "gain": [CachePolicy(trigger="gain", tau=tau) for tau in (1e-4, 3e-3, 1e-1)],
        "paper": [paper.replace(tau=tau) for tau in (1.0, 10.0, 300.0)],
    }


# How reused outputs continue: all tokens alike, or low and high frequencies separately.
WHOLE: dict[str, dict[str, Any]] = {name: {"predictor": name} for name in PREDICTORS}


def split_predictors(tokens: int) -> dict[str, dict[str, Any]]:
    """Return one predictor for the lowest eighth of the tokens and another for the rest."""
    at = max(1, tokens // 8)
    return {
        f"{low} below, {high} above": {"predictor": low, "predictor_split": at, "predictor_above": high}
        for low, high in (("linear", "hold"), ("hold", "linear"))
    }


EXPERIMENTS: tuple[tuple[str, str, tuple[float, ...]], ...] = (
    ("pilot", "hold", (0.2, 0.5, 1.1)),
    ("pilot", "linear", (0.2, 0.5, 1.1)),
    ("pilot bands", "linear", (0.2, 0.5, 1.1)),
    ("closed form", "hold", (0.2, 0.5, 1.1)),
    ("closed form", "linear", (0.2, 0.5, 1.1)),
    ("online", "linear", (0.15, 0.3, 0.5)),
    ("online bands", "linear", (0.15, 0.3, 0.5)),
    ("subset", "linear", (0.15, 0.3, 0.6)),
    ("top share", "linear", (0.1, 0.2, 0.4)),
    ("top share, coupled", "linear", (0.1, 0.2, 0.4)),
    ("drift", "hold", (0.01, 0.03, 0.1)),
    ("drift, coupled", "hold", (0.03, 0.1, 0.3)),
)
"""Triggers of `trigger_experiments`, with the predictor and the thresholds to try."""


def study_configs(model: ScoreModel, steps: int, quick: bool) -> dict[str, SamplerConfig]:
    """Return the uncached twin, every core setting with every predictor, and every experiment."""
    register_experiments()
    base = SamplerConfig(None, steps)
    rows = {"no cache": base}
    every = slice(None, None, 2) if quick else slice(None)
    for trigger, policies in core_policies(model.n, steps).items():
        split = split_predictors(model.n) if trigger.startswith("log_snr") else {}
        # Plans are made for the predictor of their policy.
        ways = {policies[0].predictor: {}} if trigger == "nested" else {**WHOLE, **split}
        for predictor, how in ways.items():
            for place, policy in list(enumerate(policies))[every]:
                name = f"{trigger}, {predictor} {place + 1}"
                rows[name] = replace(base, policy=policy.replace(**how))
    for trigger, predictor, taus in EXPERIMENTS:
        for place, tau in list(enumerate(taus))[every]:
            policy = CachePolicy(trigger=trigger, tau=tau, predictor=predictor)
            rows[f"({trigger}), {predictor} {place + 1}"] = replace(base, policy=policy)
    return rows


def families(e: Evaluation) -> dict[str, list[TableRow]]:
    """Group rows by trigger and predictor, from little work to much."""
    found: dict[str, list[TableRow]] = {}
    for row in e.rows:
        if row.config.policy is not None:
            found.setdefault(row.name.rsplit(" ", 1)[0], []).append(row)
    return {name: sorted(rows, key=lambda row: row.token_share) for name, rows in found.items()}


def at_shares(rows: list[TableRow], plain: TableRow, work: str) -> list[float | None]:
    """Return the relative L2 at `SHARES` of the uncached work, between settings on the family's front (log-log).

    A setting that costs more than another without a smaller error is left out, so that the curve falls. None
    outside the settings measured.
    """
    points = {
        row.name: (
            row.token_share if work == "tokens" else row.flops / plain.flops,
            max(row.relative_l2.value, 1e-9),
        )
        for row in rows
        if row.relative_l2 is not None
    }
    x, y = np.log(sorted(points[name] for name in pareto_front(points))).T
    return [
        float(np.exp(np.interp(np.log(share), x, y))) if x[0] <= np.log(share) <= x[-1] else None
        for share in SHARES
    ]


def localization(dataset: str) -> dict[str, float]:
    """Return the share of tokens that holds 90% of the energy, and the energy share of the lowest tenth."""
    share = load_dataset(dataset).localization
    n = len(share)
    return {
        "tokens_for_90": float((np.argmax(share >= 0.9, axis=0) + 1).mean() / n),
        "energy_in_tenth": float(share[max(0, n // 10 - 1)].mean()),
    }


def table(e: Evaluation, work: str) -> str:
    """Tabulate families at equal work, ordered by how close they are to the best at all shares."""
    plain = e.row("no cache")
    found = {family: at_shares(rows, plain, work) for family, rows in families(e).items()}
    best = [min((v[i] for v in found.values() if v[i] is not None), default=None) for i in range(len(SHARES))]
    order = sorted(
        found,
        key=lambda f: np.mean([v / b for v, b in zip(found[f], best, strict=True) if v and b] or [99]),
    )
    lines = [
        "| trigger, predictor | "
        + " | ".join(f"{100 * s:g}%" for s in SHARES)
        + " | the cheapest setting by the protocol |",
        "|" + " --- |" * (len(SHARES) + 2),
    ]
    for family in order:
        cells = [
            "" if v is None else f"**{v:.3f}**" if v == b else f"{v:.3f}"
            for v, b in zip(found[family], best, strict=True)
        ]
        cheap = families(e)[family][0]
        judged = "" if cheap.against is None else f"{cheap.against.verdict}: {cheap.against.describe()}, "
        cells.append(f"{judged}{100 * cheap.token_share:.1f}% of tokens")
        lines.append("| " + " | ".join([family, *cells]) + " |")
    return "\n".join(lines)


def page(evaluations: dict[str, Evaluation], quick: bool) -> str:
    """Format the study as a Markdown page."""
    parts = [
        f"# Trigger study{' (quick form: not for conclusions)' if quick else ''}\n",
        "Relative L2 to the uncached twin on the same noise, at equal shares of the uncached work, interpolated"
        " (log-log) between the settings on each family's front; an empty cell lies outside the settings measured."
        " Rules in brackets are experiments of `benchmarks/trigger_experiments.py`, all others are the core's. Lower"
        " is better; bold is the best of the column.\n",
    ]
    for name, e in evaluations.items():
        steps = e.row("no cache").config.steps
        where = localization(e.dataset)
        floor, plain, title = e.floors[PRIMARY], e.row("no cache").quality, e.titles[PRIMARY]
        parts.append(
            f"## {name}\n\n{steps} Euler-Maruyama steps, {e.repeats} repeats of {e.num} samples. 90% of the energy"
            f" lies in {100 * where['tokens_for_90']:.0f}% of the tokens; the lowest tenth holds"
            f" {100 * where['energy_in_tenth']:.0f}%. {title} without a cache {plain.value:.4f}"
            f" ({plain.low:.4f} to {plain.high:.4f}), real data {floor.value:.4f}.\n"
        )
        for work, title in (
            ("tokens", "share of tokens"),
            ("operations", "share of the uncached operations"),
        ):
            parts.append(f"At an equal {title}:\n\n{table(e, work)}\n")
    parts.append(
        "As good: at most 5% and 0.5 dB farther from real data than without a cache, by the upper ends.\n"
    )
    return "\n".join(parts)


def figures(evaluations: dict[str, Evaluation]) -> str:
    """Draw the curves in one self-contained HTML page: tokens and operations against relative L2."""
    parts = []
    axes = (
        ("share of tokens recomputed", lambda row: row.token_share),
        ("operations of one sample, GFLOP", lambda row: row.flops / 1e9),
    )
    for name, e in evaluations.items():
        parts.append(f"<h2>{name}</h2>")
        for title, cost in axes:
            curves = [
                Curve(
                    family,
                    tuple(cost(row) for row in rows),
                    tuple(row.relative_l2.value for row in rows if row.relative_l2 is not None),
                    tuple(row.name for row in rows),
                )
                for family, rows in families(e).items()
            ]
            parts.append(
                as_html(curves_chart(curves, x_title=title, y_title="relative L2 to the uncached twin"))
            )
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Trigger study</title>"
        "<style>body{font:15px system-ui,sans-serif;max-width:1180px;margin:2em auto}</style>"
        f"<script>{plotly_script()}</script></head><body><h1>Trigger study</h1>{''.join(parts)}</body></html>\n"
    )


def compact(e: Evaluation, causal: bool) -> dict[str, Any]:
    """Return what pages need of a study: one record for each setting."""
    return {
        "dataset": e.dataset,
        "causal": causal,
        "num": e.num,
        "repeats": e.repeats,
        "steps": e.row("no cache").config.steps,
        "machine": e.machine,
        "provenance": None if e.provenance is None else e.provenance.to_json(),
        "floor": [getattr(e.floors[PRIMARY], end) for end in ENDS],
        "localization": localization(e.dataset),
        "rows": [
            {
                "name": row.name,
                "family": row.name.rsplit(" ", 1)[0],
                "token_share": row.token_share,
                "flops": row.flops,
                "relative_l2": None if row.relative_l2 is None else row.relative_l2.value,
                # Keep values per seed, so that pages can compare families on common noise.
                "relative_l2_values": None if row.relative_l2 is None else list(row.relative_l2.values),
                "distance": [getattr(row.quality, end) for end in ENDS],
                "verdict": None if row.against is None else row.against.verdict,
                "config": stored_config(row.name, row.config),
            }
            for row in e.rows
        ],
    }


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoints", nargs="*", help="names or folders; by default all shipped")
    parser.add_argument(
        "--quick", action="store_true", help="100 steps, 8 samples, half of the settings, one repeat"
    )
    parser.add_argument("--num", type=int, help="samples of each run (16; quick: 8)")
    parser.add_argument("--repeats", type=int, help="3; quick: 1")
    parser.add_argument("--steps", type=int, help="Euler-Maruyama steps (200; quick: 100)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--work", type=Path, default=Path("artifacts/trigger_study"), help="where shards are kept"
    )
    parser.add_argument("--results", type=Path, default=HERE / "results")
    arguments = parser.parse_args()
    quick = arguments.quick
    evaluations: dict[str, Evaluation] = {}
    causal: dict[str, bool] = {}
    try:
        for name in arguments.checkpoints or shipped_checkpoints():
            model = load_checkpoint(name, arguments.device)
            if not model.profile.levels:
                model = replace(model, profile=calibrate(model))
            steps = arguments.steps or (100 if quick else 200)
            task = Task(
                model=model,
                dataset=training_data(model),
                configs=study_configs(model, steps, quick),
                num=arguments.num or (8 if quick else 16),
                repeats=arguments.repeats or (1 if quick else 3),
                directions=300,
            )
            folder = arguments.work / f"{model.name}-{'quick' if quick else 'full'}"
            run_shards(task, folder, ProgressLine(f"{model.name}, steps"))
            causal[model.name] = bool(band_edges_of(model.network))
            evaluations[model.name] = summarize(task, folder, ProgressLine("measuring"))
    except LabError as fault:
        raise SystemExit(f"error: {fault}") from None
    if not evaluations:
        raise SystemExit("error: no checkpoint is shipped: name one with --checkpoints")
    stem = arguments.results / f"trigger_study{'_quick' if quick else ''}"
    stored = {name: compact(e, causal[name]) for name, e in evaluations.items()}
    replace_file(stem.with_suffix(".json"), lambda p: p.write_text(json.dumps(stored, indent=1) + "\n"))
    replace_file(stem.with_suffix(".md"), lambda p: p.write_text(page(evaluations, quick)))
    # The page with curves weighs megabytes, mostly the plotting library, so it stays with the shards.
    replace_file(arguments.work / f"{stem.name}.html", lambda p: p.write_text(figures(evaluations)))
    print(f"written: {stem}.md, .json and {arguments.work / stem.name}.html")


if __name__ == "__main__":
    main()
