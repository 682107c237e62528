"""Render a policy card as a readable page, and write the three files that deploy it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from e2crf_core.deploy.card import PolicyCard, usage
from e2crf_core.deploy.measure import cautions
from e2crf_core.io.extras import require
from e2crf_core.io.files import replace_file
from e2crf_core.quality.interval import Interval


def to_html(card: PolicyCard, path: str = "card.json") -> str:
    """Render the card as one page without scripts. Raises LabError if jinja2 is not installed."""
    require("tune", "the HTML page of a card", "jinja2")
    from e2crf_core.report.html import render

    return render(
        "policy_card.html",
        title=f"Policy card: {card.policy.trigger} on {Path(card.checkpoint).name}",
        cautions=cautions(card),
        sections=_sections(card),
        usage=usage(path),
        check=f"python -m e2crf_core check --card {shlex.quote(path)}",
    )


def save_card(card: PolicyCard, folder: Path) -> None:
    """Write card.html, policy.json and, last, card.json into `folder`."""
    texts = {
        "card.html": to_html(card),
        "policy.json": card.policy.to_json() + "\n",
        "card.json": card.to_json() + "\n",
    }
    for name, text in texts.items():
        replace_file(folder / name, partial(_write, text))


def _write(text: str, path: Path) -> None:
    path.write_text(text, encoding="utf-8")


def _sections(card: PolicyCard) -> dict[str, Mapping[str, Any]]:
    """Return headings with the rows of their tables."""
    m, valid, config = card.measured, card.valid, card.config
    floor = (
        "" if m.sliced_wasserstein_floor is None else f"; real series score {m.sliced_wasserstein_floor:.4g}"
    )
    limit = valid.sliced_wasserstein_change_max
    return {
        "Deployment": {
            "Checkpoint": f"{card.checkpoint}, digest {card.digest[:16]}",
            "Data set": card.dataset,
            "Solver": f"{config.solver}, {config.grid} grid, {config.steps} steps",
            "Batch": config.batch,
            "Device": card.device,
        },
        "Policy": _policy_rows(card),
        f"Measured on {m.num} samples, seed {m.seed}": {
            "Time of a sample": _range(m.seconds, 1e3, " ms"),
            "The same without a cache": _range(m.seconds_uncached, 1e3, " ms"),
            "Speed-up, wall clock": _range(m.speedup_wall),
            "Speed-up, operations": f"{m.speedup_flops:.4g}",
            "Tokens recomputed": f"{100 * m.token_share:.3g}%",
            "Relative L2 to the uncached twin": _range(m.relative_l2),
            "Sliced Wasserstein to held-out data": _range(m.sliced_wasserstein) + floor,
            "Change of it by the cache": _range(m.sliced_wasserstein_change),
        },
        "Range in which this card holds": {
            "Relative L2 at most": f"{valid.relative_l2_max:.4g}",
            "Change of sliced Wasserstein at most": "not compared" if limit is None else f"{limit:+.4g}",
            "Speed-up, wall clock, at least": f"{valid.speedup_wall_min:.4g} (on {card.device})",
            "Speed-up, operations, at least": f"{valid.speedup_flops_min:.4g}",
        },
        "Machine": {name: value for name, value in card.machine.items() if value is not None},
        "Versions": card.versions,
    }


def _policy_rows(card: PolicyCard) -> dict[str, Any]:
    """Return the fields that matter for the card's trigger."""
    policy = card.policy
    return {
        f.name: getattr(policy, f.name)
        for f in fields(policy)
        if f.name == "trigger" or policy.trigger in f.metadata["triggers"]
    }


def _range(interval: Interval | None, scale: float = 1.0, unit: str = "") -> str:
    if interval is None:
        return "not measured: the data set was not at hand"
    value, low, high = (scale * x for x in (interval.value, interval.low, interval.high))
    return f"{value:.4g}{unit} ({low:.4g} to {high:.4g})"
