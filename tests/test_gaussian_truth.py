"""Closed forms are checked against calculus, against each other and against simulation."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad, solve_ivp
from scipy.stats import kstest, norm

from e2crf_core.diffusion.schedules import VE, VP
from e2crf_core.diffusion.score_model import precondition
from e2crf_core.diffusion.solvers import ORDERS, SOLVERS, make_plan
from e2crf_core.errors import LabError
from tests import gaussian_truth as truth

MIXTURE = truth.Mixture(
    np.array([0.3, 0.5, 0.2]),
    np.array([[[-1.0, 0.5], [0.2, 1.0]], [[1.0, 0.0], [0.4, -2.0]], [[0.0, 2.0], [0.0, 0.0]]]),
    np.array([[[0.2, 0.1], [0.5, 0.3]], [[0.1, 0.4], [0.2, 0.2]], [[1.0, 0.1], [0.3, 0.6]]]),
)
LINE = truth.Mixture(np.array([0.4, 0.6]), np.array([-1.2, 0.9]), np.array([0.15, 0.3]))
MEAN, VARIANCE = np.array([0.5, -1.0, 0.0]), np.array([2.0, 0.3, 0.01])


def run(plan, schedule, law, z, rng=None):
    """Apply a plan's formula with an exact denoiser; return the state before the last row."""
    kept = before = earlier = np.zeros_like(z)
    for row in plan.rows[:-1]:
        denoised = law.denoise(z, schedule.a(row.t), schedule.s(row.t))
        terms = (z, kept, denoised, before, earlier)
        kept = sum(weight * term for weight, term in zip(row.kept, terms, strict=True))
        z = sum(weight * term for weight, term in zip(row.mix, terms, strict=True))
        z = z + (row.sigma * rng.standard_normal(z.shape) if row.sigma else 0.0)
        before, earlier = denoised, before
    return z


def scales(schedule, t):
    return schedule.a(t), schedule.s(t)


def order(errors, steps):
    """Return the negative slope of log error against log steps."""
    return -np.polyfit(np.log(steps), np.log(errors), 1)[0]


class TestMixture:
    def test_score_is_the_gradient_of_the_noised_log_density(self):
        a, s, h = 0.8, 0.6, 1e-5
        z = MIXTURE.noised(a, s).sample(5, 0)
        law, score = MIXTURE.noised(a, s), MIXTURE.score(z, a, s)
        for index in np.ndindex(2, 2):
            step = np.zeros((2, 2))
            step[index] = h
            slope = (law.log_density(z + step) - law.log_density(z - step)) / (2 * h)
            np.testing.assert_allclose(score[(slice(None), *index)], slope, rtol=1e-6, atol=1e-7)

    def test_density_sums_to_one(self):
        total, _ = quad(lambda x: float(np.exp(LINE.log_density(np.array([x]))[0])), -8, 8)
        assert total == pytest.approx(1, abs=1e-8)

    def test_denoiser_is_the_conditional_mean(self):
        """Its error is orthogonal to every function of z, which holds for no other estimate."""
        a, s = 0.7, 0.5
        clean = MIXTURE.sample(40000, 1)
        z = a * clean + s * np.random.default_rng(2).standard_normal(clean.shape)
        error = (MIXTURE.denoise(z, a, s) - clean).reshape(len(z), -1)
        for probe in (np.ones_like(error), z.reshape(len(z), -1), np.cos(2 * z).reshape(len(z), -1)):
            products = error * probe
            assert np.all(np.abs(products.mean(0)) < 4.5 * products.std(0) / np.sqrt(len(z)))

    def test_denoiser_ends_at_the_mean_and_at_the_data(self):
        z = MIXTURE.sample(4, 3)
        center = np.einsum("j,j...->...", MIXTURE.weights, MIXTURE.means)
        np.testing.assert_allclose(MIXTURE.denoise(z, 1e-9, 1.0), np.broadcast_to(center, z.shape), atol=1e-6)
        np.testing.assert_allclose(MIXTURE.denoise(z, 1.0, 1e-6), z, atol=1e-5)

    def test_far_away_it_stays_finite(self):
        z = np.full((1, 2, 2), 1e4)
        assert np.isfinite(MIXTURE.denoise(z, 0.9, 0.1)).all()

    def test_of_one_part_is_the_preconditioned_model_with_a_silent_network(self):
        a, s = 0.6, 0.8
        z = np.random.default_rng(0).standard_normal((4, 3))
        c = precondition(torch.from_numpy(VARIANCE), a, s)
        expected = MEAN + c.c_skip.numpy() * (z - a * MEAN)
        np.testing.assert_allclose(truth.gaussian(MEAN, VARIANCE).denoise(z, a, s), expected, rtol=1e-12)

    def test_samples_follow_the_law(self):
        draws = LINE.sample(4000, 0)

        def below(x):
            return norm.cdf(x[:, None], LINE.means, LINE.variances**0.5) @ LINE.weights

        assert kstest(draws, below).pvalue > 0.01
        np.testing.assert_array_equal(draws, LINE.sample(4000, 0))

    def test_refuses_what_is_no_mixture(self):
        for weights, shape in (([0.5, 0.6], (2, 3)), ([0.5, 0.5], (3, 3)), ([1.5, -0.5], (2, 3))):
            with pytest.raises(LabError, match="mixture"):
                truth.Mixture(np.array(weights), np.zeros(shape), np.ones(shape))


class TestFlow:
    @pytest.mark.parametrize("schedule", [VP(), VE()], ids=["vp", "ve"])
    def test_solves_the_probability_flow_equation(self, schedule):
        """dz/dt = f z - g²/2 score, integrated by a library."""
        z0, t0, t1 = np.array([-1.5, 0.3, 1.1]), 0.6, 0.2

        def slope(t, z):
            return schedule.f(t) * z - 0.5 * schedule.g2(t) * LINE.score(z, *scales(schedule, t))

        solved = solve_ivp(slope, (t0, t1), z0, rtol=1e-10, atol=1e-12).y[:, -1]
        flowed = truth.line_flow(z0, LINE, scales(schedule, t0), scales(schedule, t1))
        np.testing.assert_allclose(flowed, solved, atol=1e-7)

    def test_of_one_gaussian_is_the_flow_of_a_mixture_of_one(self):
        z = np.linspace(-2, 2, 7)
        ends = (0.3, 0.9), (0.9, 0.3)
        one = truth.Mixture(np.ones(1), MEAN[:1], VARIANCE[:1])
        np.testing.assert_allclose(
            truth.line_flow(z, one, *ends), truth.gaussian_flow(z, MEAN[0], VARIANCE[0], *ends), atol=1e-10
        )


DETERMINISTIC = {"ddim": 1, "dpmpp_2m": 2, "dpmpp_2m_lower_finish": 2, "heun": 2, "unipc_2": 3}
TABLED = [solver for solver in SOLVERS if solver not in ORDERS]
STOCHASTIC = {"euler_maruyama": 1, "ancestral": 1, "ddim:0.5": 1, "sde_dpmpp_2m": 2}
SCHEDULES = (VP(t_min=0.05), VE(sigma_min=0.02, sigma_max=20.0, t_min=0.1))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=["vp", "ve"])
class TestSolversAgainstTheTruth:
    def test_none_is_left_out(self, schedule):
        assert {*DETERMINISTIC, *STOCHASTIC} >= set(TABLED)

    @pytest.mark.parametrize("solver", DETERMINISTIC)
    @pytest.mark.parametrize("data", ["gaussian", "mixture"])
    def test_deterministic_solvers_have_their_order(self, solver, data, schedule):
        """Path by path against the exact flow."""
        law = LINE if data == "mixture" else truth.Mixture(np.ones(1), MEAN[:1], VARIANCE[:1])
        z = law.noised(*scales(schedule, 1.0)).sample(40, 0)
        exact = truth.line_flow(z, law, scales(schedule, 1.0), scales(schedule, schedule.t_min))
        steps = [81, 161, 321]
        errors = [
            np.sqrt(np.mean((run(make_plan(schedule, k, solver, "log_snr"), schedule, law, z) - exact) ** 2))
            for k in steps
        ]
        assert order(errors, steps) == pytest.approx(DETERMINISTIC[solver], abs=0.3)

    @pytest.mark.parametrize("grid", ["linear", "log_snr"])
    @pytest.mark.parametrize("solver", STOCHASTIC)
    def test_stochastic_solvers_have_their_weak_order(self, solver, grid, schedule):
        """In distribution, against the variance of exact Gaussian posteriors; no run is drawn."""
        steps = [100, 200, 400]
        a, s = scales(schedule, schedule.t_min)
        exact = (a * VARIANCE) ** 2 / (a * a * VARIANCE + s * s)
        errors = []
        for k in steps:
            mean, variance = truth.plan_law(make_plan(schedule, k, solver, grid), schedule, MEAN, VARIANCE)
            errors.append(np.abs(variance / exact - 1).max())
            np.testing.assert_allclose(mean, MEAN, atol=0.02)
        assert order(errors, steps) == pytest.approx(STOCHASTIC[solver], abs=0.3)
        assert errors[-1] < 0.06


class TestPlanLaw:
    @pytest.mark.parametrize("solver", TABLED)
    def test_is_the_law_of_a_simulated_run(self, solver):
        """Exact for deterministic runs: a linear map is determined by its values at two points."""
        schedule = VP()
        plan = make_plan(schedule, 21, solver, "log_snr")
        law = truth.gaussian(MEAN, VARIANCE)
        a, s = scales(schedule, 1.0)
        mean, variance = truth.plan_law(plan, schedule, MEAN, VARIANCE)
        final = scales(schedule, plan.rows[-1].t)
        if all(row.sigma == 0 for row in plan.rows):
            deviation = np.sqrt(a * a * VARIANCE + s * s)
            ends = [
                law.denoise(run(plan, schedule, law, (a * MEAN + k * deviation)[None]), *final)[0]
                for k in (0, 1)
            ]
            np.testing.assert_allclose(mean, ends[0], rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(variance, (ends[1] - ends[0]) ** 2, rtol=1e-9)
        else:
            rng = np.random.default_rng(0)
            z = law.noised(a, s).sample(20000, 1)
            ends = law.denoise(run(plan, schedule, law, z, rng), *final)
            np.testing.assert_allclose(ends.mean(0), mean, atol=4.5 * np.sqrt(variance.max() / 20000))
            np.testing.assert_allclose(ends.var(0), variance, rtol=4.5 * np.sqrt(2 / 20000))

    def test_a_wrong_start_is_forgotten_by_the_stochastic_sampler_only(self):
        """Injected noise makes a sampler forget past errors; a deterministic flow carries them to the end."""
        schedule = VP()
        kept = {}
        for solver in ("euler_maruyama", "dpmpp_2m"):
            plan = make_plan(schedule, 500, solver, "linear" if solver == "euler_maruyama" else "log_snr")
            right = truth.plan_law(plan, schedule, MEAN, VARIANCE)[1]
            wrong = truth.plan_law(plan, schedule, MEAN, VARIANCE, start=np.full(3, 4.0))[1]
            kept[solver] = np.abs(wrong / right - 1).max()
        assert kept["euler_maruyama"] < 0.01
        assert kept["dpmpp_2m"] > 1
