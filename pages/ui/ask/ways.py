"""The choice of a cache for a question: none, a preset, a policy of the visitor's own, or what was tuned for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import streamlit as st

from e2crf_core.caching.policy import PRESETS, CachePolicy
from e2crf_core.deploy.card import KIND, PolicyCard
from e2crf_core.errors import LabError
from e2crf_core.io.json_files import parse_json
from e2crf_core.sampling.config import SamplerConfig
from pages.ui.common.query_params import note, recall

WAY = "way"
NONE, TUNED, FILE = "none", "tuned", "file"
NAMES = {
    NONE: "No cache",
    **{name: f"Preset {name}" for name in PRESETS if name != "exact"},
    TUNED: "Chosen for this question",
    FILE: "A policy of mine",
}
MOST_BYTES = 1_000_000


def way_form(plan: SamplerConfig, tuned: SamplerConfig | None) -> SamplerConfig:
    """Draw the choice of a cache for an uncached plan; returns the sampler. Raises LabError."""
    names = [name for name in NAMES if name != TUNED or tuned is not None]
    recall(WAY, names, NONE)
    left, right = st.columns([1, 2])
    way = left.selectbox(
        "Cache",
        names,
        key=WAY,
        format_func=NAMES.__getitem__,
        help="A cache calls the network at fewer steps. What it costs in quality depends on the question: compare "
        "ways to answer below.",
    )
    note(WAY, way if way in PRESETS else None, NONE)
    if way == TUNED and tuned is not None:
        right.caption(f"{tuned.describe()}. The number of network calls above does not apply.")
        return tuned
    if way == FILE:
        upload = right.file_uploader(
            "Policy",
            type=["json"],
            key="ask.policy",
            help="A policy, or a policy card of the page Tune, as JSON.",
        )
        if upload is None:
            raise LabError("no policy is chosen yet", field="policy", remedy="give its file")
        return replace(plan, policy=read_policy(upload))
    return replace(plan, policy=PRESETS.get(way, plan.policy))


def read_policy(upload: Any) -> CachePolicy:
    """Read a policy or a policy card. Raises LabError."""
    if upload.size > MOST_BYTES:
        raise LabError(f"{upload.name} has {upload.size / 1e6:.0f} MB: it is not a policy", field="policy")
    text = upload.getvalue()
    stored = parse_json(text, upload.name, limit=MOST_BYTES)
    if isinstance(stored, dict) and stored.get("kind") == KIND:
        return PolicyCard.from_json(text).policy
    return CachePolicy.from_json(text)
