"""Exports: a run without decisions equals the eager one, and policies that need decisions are rejected."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from e2crf_core import LabError, Sampler
from e2crf_core.caching.policy import PRESETS, CachePolicy
from e2crf_core.cli import main
from e2crf_core.deploy.export import ExportedSampler, check_exportable, export_config, mixing_table
from e2crf_core.models.checkpoints import save_checkpoint
from e2crf_core.network.transformer import ScoreTransformer
from e2crf_core.sampling.config import SamplerConfig
from tests.conftest import make_model
from tests.test_error_model import EDGES, causal_model

MODEL = make_model(dtype=torch.float32)


@pytest.mark.parametrize(
    ("policy", "plan"),
    [
        (CachePolicy(trigger="log_snr", tau=0.6, predictor="quadratic", correct=True), {"steps": 24}),
        (
            CachePolicy(trigger="fixed", refresh_every=3, predictor="linear"),
            {"steps": 21, "solver": "heun", "grid": "log_snr"},
        ),
        (
            CachePolicy(trigger="log_snr", tau=0.9, refresh_every=7, start=1.5),
            {"steps": 30, "solver": "sde_dpmpp_2m"},
        ),
        (
            CachePolicy(trigger="log_snr", tau=0.6, predictor="linear"),
            {"steps": 20, "solver": "etd_ab3", "grid": "profile"},
        ),
    ],
)
def test_an_exported_run_equals_the_eager_one(
    tmp_path: Path, policy: CachePolicy, plan: dict[str, Any]
) -> None:
    report = export_config(MODEL, SamplerConfig(policy, **plan), tmp_path)
    assert report["calls"] < plan["steps"] and report["differences"]["torch"]["network"] < 1e-5
    sampler = Sampler(MODEL, policy, **plan)
    for num in (1, 4):
        np.testing.assert_allclose(
            ExportedSampler(tmp_path).sample(num, 5), sampler.sample(num, 5).series, atol=2e-4
        )


@pytest.mark.parametrize(
    "policy",
    [
        CachePolicy.of("nested").replace(tau=0.2),
        CachePolicy(trigger="bands", bands=((EDGES[0], 1.5), (100, 4.0)), predictor="quadratic"),
        CachePolicy(trigger="log_snr", tau=3.0, k_low=2, predictor="linear", predictor_split=4),
    ],
)
def test_a_causal_networks_export_computes_the_lowest_bands_alone(
    tmp_path: Path, policy: CachePolicy
) -> None:
    model = causal_model().to(dtype=torch.float32)
    config = SamplerConfig(policy, 14, "dpmpp_2m", "log_snr")
    report = export_config(model, config, tmp_path)
    made = Sampler.of(model, config).sample(3, 5)
    assert report["token_share"] == pytest.approx(made.token_share) and 0 < report["token_share"] < 1
    exported = ExportedSampler(tmp_path)
    assert len(exported.networks) > 1 and set(exported.networks) <= {0, *EDGES}
    np.testing.assert_allclose(exported.sample(3, 5), made.series, atol=2e-4)
    # The next export into the folder leaves no graph of this one behind, and the user's own file alone.
    (tmp_path / "network-notes.txt").touch()
    export_config(MODEL, SamplerConfig(PRESETS["fast"], 12), tmp_path)
    assert {path.name for path in tmp_path.glob("network*")} == {"network.pt2", "network-notes.txt"}


def test_an_export_of_the_last_schema_is_read(tmp_path: Path) -> None:
    config = SamplerConfig(CachePolicy(trigger="log_snr", tau=0.6, predictor="linear"), 12)
    export_config(MODEL, config, tmp_path)
    now = ExportedSampler(tmp_path).sample(2, 5)
    tables = dict(np.load(tmp_path / "run.npz"))
    tables |= {"called": tables.pop("rows") > 0, "mix": tables["mix"][:, :, 0]}
    np.savez(tmp_path / "run.npz", **tables)
    about = json.loads((tmp_path / "export.json").read_text())
    (tmp_path / "export.json").write_text(json.dumps(about | {"schema": 2}))
    np.testing.assert_array_equal(ExportedSampler(tmp_path).sample(2, 5), now)


def test_the_table_says_when_the_network_is_called_and_how_outputs_are_mixed() -> None:
    held = Sampler(MODEL, CachePolicy(trigger="fixed", refresh_every=4), steps=10)
    rows, mix = mixing_table(held)
    assert rows.tolist() == [MODEL.n * (i % 4 == 0) for i in range(10)]
    np.testing.assert_array_equal(mix, np.tile([[1.0], [0.0], [0.0]], (10, 1, MODEL.n)))
    linear = Sampler(MODEL, CachePolicy(trigger="fixed", refresh_every=4, predictor="linear"), steps=10)
    _, mix = mixing_table(linear)
    np.testing.assert_allclose(mix.sum(1), 1.0)
    assert (mix[5, 0] > 1).all() and (mix[5, 1] < 0).all()
    every, _ = mixing_table(Sampler(MODEL, PRESETS["exact"], steps=10))
    assert every.all()


@pytest.mark.parametrize(
    "policy",
    [
        PRESETS["paper"],
        CachePolicy(trigger="gain"),
        CachePolicy(trigger="bands"),
        CachePolicy(adapt=True),
        CachePolicy(probe_share=0.1),
        CachePolicy(k_low=3),
        CachePolicy(tau_warn=0.5),
    ],
)
def test_a_policy_that_decides_on_the_data_is_refused(policy: CachePolicy) -> None:
    with pytest.raises(LabError, match="cannot be exported"):
        check_exportable(policy, causal=False)


def test_what_no_graph_can_hold_is_refused_in_one_line_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="bands recomputes some tokens alone") as caught:
        check_exportable(CachePolicy.of("bands"), causal=False)
    assert "log_snr" in str(caught.value)

    class Deciding(ScoreTransformer):
        """A network that looks at its numbers, which a graph cannot."""

        def prepare(self, u: torch.Tensor, log_snr: torch.Tensor) -> torch.Tensor:
            return super().prepare(u if float(u.sum()) > 0 else -u, log_snr)

    network = Deciding(MODEL.network.config, MODEL.mu, MODEL.v).eval().requires_grad_(False)
    with pytest.raises(LabError, match="cannot be exported") as caught:
        export_config(replace(MODEL, network=network), SamplerConfig(PRESETS["fast"], 12), tmp_path / "x")
    assert "\n" not in str(caught.value) and caught.value.field == "checkpoint"
    assert not list(tmp_path.iterdir())


def test_wrong_requests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="format"):
        export_config(MODEL, SamplerConfig(PRESETS["fast"], 12), tmp_path, formats=("tflite",))
    with pytest.raises(LabError, match="no export"):
        ExportedSampler(tmp_path / "nothing")


def test_the_command_exports_and_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(MODEL, tmp_path / "model")
    command = [
        "export",
        "--checkpoint",
        str(tmp_path / "model"),
        "--steps",
        "12",
        "--out",
        str(tmp_path / "x"),
    ]
    assert main([*command, "--policy", "fast"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["steps"] == 12 and (tmp_path / "x" / "network.pt2").is_file()
    with pytest.raises(LabError, match=r"network\.onnx"):
        ExportedSampler(tmp_path / "x", "onnx")
    assert main([*command, "--policy", "paper"]) == 2
    assert "cannot be exported" in capsys.readouterr().err
