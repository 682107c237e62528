"""Configuration files: what they mean, and every fault in one message."""

from __future__ import annotations

import json

import pytest

from e2crf_core.caching.policy import CachePolicy
from e2crf_core.evaluation.config import ConfigError, parse_configs
from tests.evaluations import TABLE, configs


class TestConfigurations:
    def test_every_fault_is_listed(self) -> None:
        table = [
            {**TABLE[0], "solver": "rk4", "stepz": 3},
            {**TABLE[0], "policy": {"trigger": "log_snr", "tau": -1, "color": "red"}},
            {**TABLE[0], "name": "a", "steps": 12.5},
            {**TABLE[0], "name": "b", "policy": "quick"},
            {"name": "c", "solver": "heun", "grid": "linear", "steps": 10, "policy": None},
            {"name": "", "solver": ["x"], "grid": "linear", "steps": 10},
            7,
            TABLE[3],
            TABLE[3],
        ]
        with pytest.raises(ConfigError) as caught:
            parse_configs(json.dumps(table), "table.json")
        text = "\n".join(caught.value.faults)
        for expected in (
            "entry 1: stepz: extra inputs are not permitted (known: name",
            "entry 1: solver: unknown solver 'rk4'",
            "entry 2: policy: ",
            "tau",
            "unknown field 'color'",
            "entry 3: steps: input should be a valid integer",
            "entry 4: policy: 'quick' is not a preset",
            "entry 5: steps 10: heun",
            "entry 6: policy: field required",
            "entry 6: name: string should have at least 1 character",
            "entry 7: input should be a valid dictionary",
            "entry 9: the name 'DPM++' is used twice",
        ):
            assert expected in text
        assert "table.json" in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("text", ["", "{}", "[]", "[" * 100000, '{"name": 1}'])
    def test_what_is_no_table_is_refused(self, text: str) -> None:
        with pytest.raises(ConfigError):
            parse_configs(text)

    def test_presets_objects_and_null_are_policies(self) -> None:
        plain, exact, fixed, _ = configs().values()
        assert plain.policy is None
        assert exact.policy == CachePolicy.preset("exact")
        assert fixed.policy == CachePolicy(trigger="fixed", refresh_every=4)
