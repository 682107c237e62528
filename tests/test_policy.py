"""CachePolicy makes round trips, names every fault of an invalid policy, and describes itself."""

import json
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2crf_core import LabError
from e2crf_core.caching.policy import PRESETS, CachePolicy, PolicyError
from e2crf_core.caching.triggers import TRIGGERS


@st.composite
def policies(draw: st.DrawFn) -> CachePolicy:
    values = {}
    for f in fields(CachePolicy):
        m = f.metadata
        if f.name == "bands":
            edges = sorted(draw(st.sets(st.integers(1, 200), min_size=1, max_size=4)))
            values["bands"] = tuple((e, draw(st.floats(m["low"], m["high"]))) for e in edges)
        elif f.type == "bool":
            values[f.name] = draw(st.booleans())
        elif f.type == "str":
            values[f.name] = draw(st.sampled_from(m["choices"]))
        elif f.type == "int":
            values[f.name] = draw(st.integers(m["low"], m["high"]))
        else:
            values[f.name] = draw(st.floats(m["low"], m["high"]))
    values["refresh_every"] = max(1, values["refresh_every"])
    if 0 < values["tau_warn"] <= values["tau_safe"]:
        values["tau_safe"] = 0.0
    return CachePolicy(**values)


@given(policies())
def test_json_round_trips(policy: CachePolicy) -> None:
    assert CachePolicy.from_json(policy.to_json()) == policy


def test_presets_round_trip_and_unknown_ones_are_refused() -> None:
    assert set(PRESETS) == {"exact", "quality", "balanced", "fast", "multistep", "paper", "paper_literal"}
    for policy in PRESETS.values():
        assert CachePolicy.from_json(policy.to_json()) == policy
    with pytest.raises(LabError, match="balanced"):
        CachePolicy.preset("turbo")


def test_all_faults_are_listed_at_once() -> None:
    text = json.dumps(
        {"schema": 1, "trigger": "magic", "tau": -3, "k_low": 1.5, "color": "red", "alpha": "x"}
    )
    with pytest.raises(PolicyError) as caught:
        CachePolicy.from_json(text)
    assert len(caught.value.faults) == 5
    for word in ("magic", "tau", "k_low", "color", "alpha"):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "nonsense",
        '{"schema": 99}',
        "{}",
        '{"schema": 1, "tau": NaN}',
        '{"schema": 1, "tau": true}',
        '{"schema": 1, "bands": [[3, 0.1], [2, 0.1]]}',
        '{"schema": 1, "bands": [[3]]}',
        '{"schema": 1, "bands": []}',
        '{"schema": 1, "trigger": "fixed"}',
        '{"schema": 1, "tau_safe": 0.6, "tau_warn": 0.5}',
        '{"schema": 1, "trigger": ["fixed"]}',
        "[" * 100_000,
    ],
)
def test_bad_policies_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(PolicyError) as caught:
        CachePolicy.from_json(text)
    assert "\n" not in str(caught.value)


def test_replace_refuses_unknown_fields() -> None:
    with pytest.raises(PolicyError, match="color"):
        PRESETS["fast"].replace(color="red")


def test_every_field_describes_itself() -> None:
    for f in fields(CachePolicy):
        m = f.metadata
        assert m["label"] and m["help"], f.name
        assert set(m["triggers"]) <= set(TRIGGERS) and m["triggers"], f.name
        assert m["choices"] or f.type == "bool" or m["low"] < m["high"], f.name
