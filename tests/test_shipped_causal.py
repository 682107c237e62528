"""Laws of every shipped causal checkpoint: exact prefixes, presets for a tolerated error, calibrations at hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from e2crf_core import PRESETS, CachePolicy, LabError, Sampler, load_checkpoint, predict
from e2crf_core.caching.presets import preset_name, preset_of, presets_of
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.io.resources import assets_dir
from e2crf_core.models.folders import is_causal, read_card, shipped_checkpoints
from e2crf_core.network.forward import plain_forward, prefix_forward
from e2crf_core.sampling.calibrations import DEFAULT_PLANS, calibration_key, is_calibrated

CAUSAL = [name for name in shipped_checkpoints() if is_causal(name)]
NESTED = ("quality", "balanced", "fast")
PAIRS = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "causal_pairs.json"


@pytest.fixture(scope="module", params=CAUSAL)
def model(request: pytest.FixtureRequest) -> ScoreModel:
    """Provide each shipped causal checkpoint."""
    return load_checkpoint(request.param, "cpu")


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("batch", [1, 16])
def test_a_prefix_equals_the_plain_forward_on_its_tokens(
    model: ScoreModel, batch: int, dtype: torch.dtype, bound: float
) -> None:
    network = model.to(dtype=dtype).network
    noise = np.random.default_rng(batch).standard_normal((batch, *model.mask.shape))
    u, level = torch.as_tensor(noise, dtype=dtype) * model.mask.to(dtype), torch.tensor(0.4, dtype=dtype)
    with torch.inference_mode():
        prepared, condition = network.prepare(u, level), network.condition(level)
        whole = plain_forward(network, prepared, condition)
        for m in network.edges:
            prefix = prefix_forward(network, prepared, condition, m)
            assert (prefix - whole[:, :m]).norm() <= bound * whole[:, :m].norm()


def test_exact_equals_uncached_and_no_keys_and_values_are_kept(model: ScoreModel) -> None:
    plan = {"steps": 4, "solver": "dpmpp_2m", "grid": "profile"}
    *_, plain = Sampler(model, None, **plan).steps(2, 1)
    *_, exact = Sampler(model, PRESETS["exact"], **plan).steps(2, 1)
    assert (exact.after.z - plain.after.z).norm() <= 1e-6 * plain.after.z.norm()
    for policy in (PRESETS["exact"], PRESETS["paper"], CachePolicy(trigger="bands", k_low=2)):
        *_, last = Sampler(model, policy, **plan).steps(2, 1)
        assert last.after.cache is not None and last.after.cache.kv is None


def test_presets_tolerate_a_stated_error_and_cost_less_the_more_they_tolerate(
    model: ScoreModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("E2CRF_HOME", str(tmp_path))
    for config in DEFAULT_PLANS:
        assert is_calibrated(model, Sampler.of(model, config).plan)
    forecasts = [predict(model, preset_of(name, model)) for name in NESTED]
    assert [preset_of(name, model).tau for name in NESTED] == sorted(
        preset_of(name, model).tau for name in NESTED
    )
    for name, forecast in zip(NESTED, forecasts, strict=True):
        assert forecast.error <= preset_of(name, model).tau
    assert forecasts[0].cost > forecasts[1].cost > forecasts[2].cost
    assert not (tmp_path / "calibrations").exists()


def test_only_calibrations_of_shipped_networks_ship() -> None:
    known = {
        f"{calibration_key(load_checkpoint(name, 'cpu'), Sampler.of(load_checkpoint(name, 'cpu'), config).plan)}.npz"
        for name in CAUSAL
        for config in DEFAULT_PLANS
    }
    assert {path.name for path in (assets_dir() / "calibrations").iterdir()} == known


@pytest.mark.parametrize("name", CAUSAL)
def test_it_is_as_good_as_the_network_with_full_attention_trained_like_it(name: str) -> None:
    card = read_card(name)
    key = card["dataset"], card["training"]["steps_done"], card["training"]["seed"]
    pairs = {
        (p["data"], p["training_steps"], p["training_seed"]): p
        for p in json.loads(PAIRS.read_text())["pairs"]
    }
    assert pairs[key]["quality"]["verdict"] == "as good"
    assert pairs[key]["bands"][:-1] == card["network"]["bands"]


@pytest.mark.parametrize("name", CAUSAL)
def test_the_card_says_where_energy_and_influence_are_and_what_nested_bands_gain(name: str) -> None:
    stated = read_card(name)["localization"]
    assert sum(stated["energy"]) == pytest.approx(1) and sum(stated["influence"]) == pytest.approx(1)
    for gain in stated["gains"]:
        assert 0 < gain["nested"] <= gain["whole"]


def test_a_networks_attention_decides_what_a_presets_name_means() -> None:
    full, causal = load_checkpoint("wind", "cpu"), load_checkpoint("wind-causal", "cpu")
    for name in NESTED:
        assert preset_of(name, full) == PRESETS[name] == preset_of(f"{name}_clock", causal)
        assert preset_of(name, causal).trigger == "nested"
        assert preset_name(preset_of(name, causal), causal) == name
        assert preset_name(PRESETS[name], full) == name
    for name in ("exact", "multistep", "paper", "paper_literal"):
        assert presets_of(full)[name] == presets_of(causal)[name] == PRESETS[name]
    with pytest.raises(LabError, match="unknown policy 'turbo'"):
        preset_of("turbo", causal)
