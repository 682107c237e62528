"""The whole network is one graph: for torch.compile, torch.export, and ONNX, with any batch size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from e2crf_core.network.graphs import FeatureGraph, ScoreGraph, for_graphs, traced
from e2crf_core.network.transformer import ScoreTransformer
from tests.conftest import make_model
from tests.shape_checks import unchecked

MODEL = make_model(length=21, dtype=torch.float32)
LEVEL = torch.tensor(0.3)


def network(bands: tuple[int, ...]) -> ScoreTransformer:
    """Return the small network of the tests, spectrally causal if it has bands."""
    full = MODEL.network
    twin = ScoreTransformer(replace(full.config, layers=2, bands=bands), MODEL.mu, MODEL.v)
    twin.load_state_dict(full.state_dict(), strict=False)
    return twin.eval().requires_grad_(False)


def inputs(batch: int) -> Tensor:
    """Return network inputs (batch, n, 2M)."""
    return torch.randn(batch, *MODEL.mu.shape, generator=torch.Generator().manual_seed(batch))


@pytest.fixture(params=[(), (3, 6)], ids=["full", "causal"])
def graph(request: pytest.FixtureRequest) -> ScoreGraph:
    """Provide the graph of a network with full attention, and of a causal one."""
    return ScoreGraph(network(request.param), MODEL.n)


def test_one_graph_is_compiled_for_all_batches(graph: ScoreGraph) -> None:
    seen: list[torch.fx.GraphModule] = []

    def backend(captured: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        seen.append(captured)
        return captured

    torch._dynamo.reset()
    compiled = torch.compile(graph, fullgraph=True, dynamic=True, backend=backend)
    with torch.inference_mode(), unchecked():
        for batch in (2, 5, 7):
            torch.testing.assert_close(compiled(inputs(batch), LEVEL), graph(inputs(batch), LEVEL))
    assert len(seen) == 1


def test_an_exported_program_runs_any_batch(graph: ScoreGraph) -> None:
    exported = traced(graph, inputs(2)).module()
    for batch in (1, 2, 5):
        torch.testing.assert_close(exported(inputs(batch), LEVEL), graph(inputs(batch), LEVEL))


@pytest.mark.parametrize("length", [20, 21])
def test_a_network_to_run_elsewhere_has_no_complex_numbers_and_the_same_output(length: int) -> None:
    model = make_model(length=length)
    u = torch.randn(3, *model.mu.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    graph = ScoreGraph(for_graphs(model.network), model.n)
    torch.testing.assert_close(graph(u, LEVEL), ScoreGraph(model.network, model.n)(u, LEVEL))
    assert "fft" not in str(traced(graph, u).graph), "compilers and other runtimes get real matrices"


def test_a_graph_of_a_prefix_gives_the_first_features_of_the_whole() -> None:
    causal = network((3, 6))
    whole, prefix = FeatureGraph(causal, MODEL.n), FeatureGraph(causal, 6)
    torch.testing.assert_close(prefix(inputs(3), LEVEL), whole(inputs(3), LEVEL)[:, :6])


def test_onnx_runs_any_batch_of_a_causal_network(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    from e2crf_core.network.onnx import write_onnx

    graph = ScoreGraph(network((3, 6)), MODEL.n)
    write_onnx(traced(graph, inputs(2)), tmp_path / "network.onnx")
    session = runtime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
    for batch in (1, 5):
        output = session.run(None, {"u": inputs(batch).numpy(), "log_snr": LEVEL.numpy()})[0]
        np.testing.assert_allclose(output, graph(inputs(batch), LEVEL).numpy(), atol=1e-4)


def test_the_stem_transforms_exactly_in_every_precision() -> None:
    double = make_model(length=21)
    assert double.network.stem.scale.dtype == torch.float64
    back = double.to(dtype=torch.float32).network.stem.scale
    assert torch.equal(back, double.network.stem.scale.float())
    assert float(double.network.stem.scale[1]) == 2**0.5
