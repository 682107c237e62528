"""Calibration of E5: influence, predicted errors and amplification, on networks whose outputs are known."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from e2crf_core.caching.state import Problem, SamplerState
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.e2crf import advance
from e2crf_core.network.transformer import ScoreTransformer
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.error_measurement import TRIAL_ERRORS, TRIAL_SEED, measure_error_model
from e2crf_core.sampling.error_model import ErrorModel, error_weights, sample_errors
from e2crf_core.sampling.influence import amplification, influence, network_output, run_pilot
from e2crf_core.sampling.sampler import Sampler
from tests.conftest import make_model

EDGES = (3, 6, 13)
PLANS = [
    ("dpmpp_2m", "log_snr", 12),
    ("euler_maruyama", "linear", 16),
    ("heun", "karras", 11),
    ("ddim", "log_snr", 10),
]


@dataclass
class KnownOutput:
    """A network in closed form: F_k = sin(log(a/s) + k) for every state."""

    tokens: int
    coordinates: int
    edges: tuple[int, ...] = EDGES
    visible: Tensor | None = None
    layers: int = 0
    heads: int = 1
    width: int = 1
    prepare_flops: int = 0

    def condition(self, log_snr: Tensor) -> Tensor:
        return log_snr

    def prepare(self, u: Tensor, log_snr: Tensor) -> Tensor:
        wave = torch.sin(log_snr + torch.arange(self.tokens, dtype=torch.float64))
        return wave[:, None].repeat(len(u), 1, u.shape[-1]).to(u)

    def embed(self, prepared: Tensor, index: Tensor | None) -> Tensor:
        return prepared

    def qkv(self, layer: int, h: Tensor, condition: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        raise AssertionError("a network without layers has no attention")

    def finish(self, layer: int, h: Tensor, attended: Tensor, condition: Tensor) -> Tensor:
        raise AssertionError("a network without layers has no attention")

    def head(self, feature: Tensor) -> Tensor:
        return feature

    def named_parameters(self) -> list[tuple[str, Tensor]]:
        return [("weight", torch.ones(8, 8))]

    def state_dict(self) -> dict[str, Tensor]:
        return {}


def known_model() -> ScoreModel:
    model = make_model()
    network = KnownOutput(model.n, 2 * len(model.channels))
    network.visible = torch.ones(model.n, model.n, dtype=torch.bool)
    return replace(model, network=network)


def causal_model() -> ScoreModel:
    """Return a small random network with bands; its outputs depend on the state, so they amplify errors."""
    model = make_model()
    network = ScoreTransformer(replace(model.network.config, bands=EDGES[:-1])).double()
    network.load_state_dict(model.network.state_dict())
    return replace(model, network=network.eval().requires_grad_(False))


def run_with_prefixes(
    problem: Problem, state: SamplerState, prefixes: tuple[int, ...], linear: bool
) -> Tensor:
    """Return the final tokens of a plainly written run that computes only the lowest tokens at each call."""
    ticks, n = problem.clocks["profile"], problem.model.n
    output, slope = torch.zeros_like(state.z), torch.zeros_like(state.z)
    at = torch.full((n,), -1)
    for i, m in enumerate(prefixes):
        fresh = network_output(problem, state)
        for k in range(m):
            if at[k] >= 0 and linear:
                way = ticks[i] - ticks[at[k]]
                slope[:, k] = (fresh[:, k] - output[:, k]) / way if way > 0 else 0.0
            output[:, k], at[k] = fresh[:, k], i
        way = torch.where(at >= 0, ticks[i] - ticks[at], 0.0)
        state, _ = advance(problem, state, output + slope * way[:, None], None)
    return state.z


def measured_error(
    model: ScoreModel,
    config: SamplerConfig,
    errors: ErrorModel,
    prefixes: tuple[int, ...],
    linear: bool,
    detail: float,
) -> float:
    sampler = Sampler.of(model, config)
    twin = run_pilot(*sampler.begin(4, 7), set()).finished
    finished = run_with_prefixes(*sampler.begin(4, 7), prefixes, linear)
    each = sample_errors(finished.numpy(), twin.numpy(), errors.variance, detail)
    return float(np.sqrt(np.square(each).mean()))


@pytest.mark.parametrize(("solver", "grid", "steps"), PLANS)
@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("detail", [0.0, 1.0])
def test_predicted_error_equals_the_measured_one_where_the_output_is_known(
    solver: str, grid: str, steps: int, linear: bool, detail: float
) -> None:
    """If the network does not respond to the state, W is exact and stretches add up with their signs."""
    model, config = known_model(), SamplerConfig(None, steps, solver, grid)
    errors = measure_error_model(model, config, num=2, trials=0)
    rng = np.random.default_rng(0)
    for _ in range(3):
        prefixes = tuple(rng.choice([0, 0, *EDGES], size=steps).tolist())
        measured = measured_error(model, config, errors, prefixes, linear, detail)
        computed = np.arange(EDGES[-1]) < np.array(prefixes)[:, None]
        predicted = errors.predicted(computed, detail, linear, signed=True)
        assert predicted == pytest.approx(measured, rel=1e-6)


@pytest.mark.parametrize("linear", [False, True])
def test_tables_equal_the_measured_error_of_a_single_stretch(linear: bool) -> None:
    """Everything is computed at every call except in one stretch, so there is nothing to add up."""
    model, steps = known_model(), 14
    config = SamplerConfig(None, steps, "dpmpp_2m", "log_snr")
    errors = measure_error_model(model, config, num=2, trials=0)
    tables = errors.tables(0.0, linear)
    for first, last in ((3, 7), (0, 5), (10, 14)):
        prefixes = tuple(0 if first < i < last else EDGES[-1] for i in range(steps))
        measured = measured_error(model, config, errors, prefixes, linear, 0.0)
        assert tables.predicted(prefixes) == pytest.approx(measured, rel=1e-6)
        computed = np.arange(EDGES[-1]) < np.array(prefixes)[:, None]
        assert errors.predicted(computed, 0.0, linear) == pytest.approx(tables.predicted(prefixes))
        known = (errors.variance > 0).sum(1)
        white = errors.by_token(computed, linear) @ known / known.sum()
        assert white**0.5 == pytest.approx(measured_error(model, config, errors, prefixes, linear, 1.0))
    late = tuple(EDGES[-1] if i >= 5 else 0 for i in range(steps))
    assert tables.predicted(late) == pytest.approx(
        measured_error(model, config, errors, late, linear, 0.0), rel=1e-6
    )


@pytest.mark.parametrize(("solver", "grid", "steps"), PLANS)
def test_influence_is_the_response_of_finished_tokens(solver: str, grid: str, steps: int) -> None:
    model = known_model()
    sampler = Sampler.of(model, SamplerConfig(None, steps, solver, grid))
    weights = influence(*sampler.begin(1, 3))
    call, token = steps // 2, 4
    finished = []
    for bump in (0.0, 1.0):
        problem, state = sampler.begin(1, 3)
        for i in range(steps):
            output = network_output(problem, state).clone()
            output[:, token] += bump * (i == call)
            state, _ = advance(problem, state, output, None)
        finished.append(state.z)
    moved = (finished[1] - finished[0])[0]
    torch.testing.assert_close(moved[token], weights[call, token])
    assert float(moved[[k for k in range(model.n) if k != token]].abs().max()) < 1e-12


def test_a_network_that_does_not_answer_amplifies_nothing() -> None:
    model = known_model()
    sampler = Sampler.of(model, SamplerConfig(None, 20, "dpmpp_2m", "log_snr"))
    pilot = run_pilot(*sampler.begin(2, 3), {2, 8})
    weights = influence(*sampler.begin(1, 3))
    variance = (model.v * model.mask).double().numpy()
    norms = np.stack([error_weights(variance, detail) for detail in (0.0, 1.0)])
    np.testing.assert_allclose(amplification(pilot, weights, [(0, 3), (3, 13)], norms), 1.0, rtol=1e-6)


def test_full_attention_is_one_band_and_a_causal_network_has_its_own() -> None:
    config = SamplerConfig(None, 10, "dpmpp_2m", "log_snr")
    for model, edges in ((make_model(), (13,)), (causal_model(), EDGES)):
        errors = measure_error_model(model, config, num=2, trials=0)
        assert errors.edges == edges and errors.cost[-1] == pytest.approx(1.0)
        assert (np.diff(errors.cost) > 0).all()


def test_a_schedule_keeps_to_the_error_asked_for_and_costs_less_the_more_it_may_err() -> None:
    errors = measure_error_model(
        causal_model(), SamplerConfig(None, 12, "dpmpp_2m", "log_snr"), num=2, trials=0
    )
    frontier = errors.frontier()
    assert frontier[-1].error < 1e-9
    costs = []
    for tau in (1e-8, 0.01, 0.05, 0.3):
        schedule = errors.schedule(tau)
        assert schedule.error <= max(tau, frontier[-1].error)
        costs.append(schedule.cost)
    assert costs == sorted(costs, reverse=True)


def test_a_long_plan_refreshes_at_calls_spread_over_the_clock() -> None:
    errors = measure_error_model(
        causal_model(), SamplerConfig(None, 70, "euler_maruyama", "linear"), num=1, trials=0
    )
    assert errors.candidates[0] == 0 and len(errors.candidates) <= 50
    ticks = errors.ticks[1]
    even = (ticks[-1] - ticks[0]) / len(ticks)
    # Calls are whole, so where the plan itself is coarse on the clock a gap is one of its steps.
    assert np.median(np.diff(ticks)) < 2 * even


def test_predictions_are_corrected_by_what_trials_measured() -> None:
    config = SamplerConfig(None, 12, "dpmpp_2m", "log_snr")
    raw = measure_error_model(causal_model(), config, num=2, trials=0)
    assert raw.corrected(0.1) == 0.1
    trials = np.array([[[0.02, 0.01], [0.2, 0.4]], [[0.1, 0.3], [0.5, 1.5]]])
    errors = replace(raw, trials=trials)
    for which, detail in enumerate((0.0, 1.0)):
        for predicted, measured in trials[which]:
            assert errors.corrected(predicted, detail) == pytest.approx(measured)
        corrected = [errors.corrected(error, detail) for error in np.geomspace(1e-4, 10, 40)]
        assert corrected == sorted(corrected)
    assert errors.corrected(0.3, 1.0) == pytest.approx(0.9) and errors.corrected(0.0) == 0.0
    assert errors.corrected(0.002) == pytest.approx(0.001)  # beyond the trials, their last ratio holds
    assert errors.schedule(0.015).error <= 0.015 and errors.schedule(0.015).cost <= raw.schedule(0.015).cost


def test_a_calibration_tries_its_own_plans() -> None:
    """In a trial, the tolerated error of a plan is compared with that of samples on other noise."""
    config = SamplerConfig(None, 12, "dpmpp_2m", "log_snr")
    errors = measure_error_model(causal_model(), config, num=2, trials=3)
    raw = replace(errors, trials=np.zeros((2, 0, 2)))
    twin = Sampler.of(causal_model(), config).sample(3, TRIAL_SEED).tokens
    tau = TRIAL_ERRORS[0]
    prefixes = raw.schedule(tau).prefixes
    begun = Sampler.of(causal_model(), config).begin(3, TRIAL_SEED)
    finished = run_with_prefixes(*begun, prefixes, True).numpy()
    measured = np.sqrt(np.square(sample_errors(finished, twin, errors.variance)).mean())
    assert raw.schedule(tau).error in errors.trials[0, :, 0]
    assert np.isclose(errors.trials[0, :, 1], measured, rtol=1e-6).any()
