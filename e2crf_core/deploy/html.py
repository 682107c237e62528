"""Render a policy card as a readable page, and write the three files that deploy it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from e2crf_core.deploy.card import PolicyCard, usage
from e2crf_core.deploy.measure import cautions
from e2crf_core.io.extras import require
from e2crf_core.io.files import text_writer
from e2crf_core.io.sets import write_set
from e2crf_core.network.backends import BACKENDS
from e2crf_core.quality.interval import Interval
from e2crf_core.quality.protocol import TwinError


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
    """Write card.html, policy.json and card.json into `folder`, as one set."""
    texts = {
        "card.html": to_html(card),
        "policy.json": card.policy.to_json() + "\n",
        "card.json": card.to_json() + "\n",
    }
    write_set(folder, {name: text_writer(text) for name, text in texts.items()})


def _sections(card: PolicyCard) -> dict[str, Mapping[str, Any]]:
    """Return headings with the rows of their tables."""
    m, valid, config = card.measured, card.valid, card.config
    floor = "" if m.floor is None else f"; real series score {m.floor:.4g}"
    return {
        "Deployment": {
            "Checkpoint": f"{card.checkpoint}, digest {card.digest[:16]}",
            "Data set": card.dataset,
            "Solver": f"{config.solver}, {config.grid} grid, {config.steps} steps",
            "Batch": config.batch,
            "Device": card.device,
            "Backend": f"{config.backend} ({BACKENDS[config.backend]})",
        },
        "Policy": _policy_rows(card),
        f"Measured on {m.num} samples, seed {m.seed}": {
            f"Time of a sample, in batches of {config.batch}": _range(m.seconds, 1e3, " ms"),
            "Time of a sample alone": _range(m.seconds_alone, 1e3, " ms"),
            "The same without a cache": _range(m.seconds_uncached, 1e3, " ms"),
            "Speed-up, wall clock": _range(m.speedup_wall),
            "Speed-up, operations": f"{m.speedup_flops:.4g}",
            "Tokens recomputed": f"{100 * m.token_share:.3g}%",
            "Relative L2 to the uncached twin, pooled": _range(m.relative_l2),
            **_twin_rows(m.twin),
            "Marginal Wasserstein to held-out data, in std": _range(m.distance) + floor,
            "Change of it by the cache": _range(m.change, 100, "%"),
            "Change of the log-spectral distance": _range(m.spectral_change, 1, " dB"),
            "Verdict, compared with no cache": "not judged" if m.judgment is None else m.judgment.verdict,
        },
        "Range in which this card holds": {
            "Relative L2 at most": f"{valid.relative_l2_max:.4g}",
            "Relative L2 of the median sample at most": _limit(valid.median_l2_max),
            "Change of marginal Wasserstein at most": _limit(valid.change_max, 100, "%"),
            "Change of the log-spectral distance at most": _limit(valid.spectral_change_max, 1, " dB"),
            "Speed-up, wall clock, at least": f"{valid.speedup_wall_min:.4g} (on {card.device})",
            "Speed-up, operations, at least": f"{valid.speedup_flops_min:.4g}",
        },
        "Machine": {name: value for name, value in card.machine.items() if value is not None},
        "Versions": card.versions,
    }


def _twin_rows(twin: TwinError | None) -> dict[str, str]:
    """Return what the pooled error hides: typical and bad samples, flips, and the error of each band."""
    if twin is None:
        return {}
    bands = {
        f"Error of frequencies {first} to {last - 1}, in their own std": _range(value)
        for first, last, value in twin.bands
    }
    return {
        "Relative L2 of the median sample": _range(twin.median),
        "Relative L2 of the 90% quantile": _range(twin.q90),
        "Samples that ended elsewhere (flips)": _range(twin.flips, 100, "%"),
        **bands,
    }


def _limit(value: float | None, scale: float = 1.0, unit: str = "") -> str:
    return "not stated" if value is None else f"{scale * value:.4g}{unit}"


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
        return "not measured"
    value, low, high = (scale * x for x in (interval.value, interval.low, interval.high))
    return f"{value:.4g}{unit} ({low:.4g} to {high:.4g})"
