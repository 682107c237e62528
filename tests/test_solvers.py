"""Solvers compared with a second library on one denoiser and grid, and caches with equivalent solvers."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import schedulers

from e2crf_core.caching.policy import CachePolicy
from e2crf_core.diffusion.exponential import exponential_table
from e2crf_core.diffusion.schedules import VP, Schedule
from e2crf_core.diffusion.score_model import Profile, ScoreModel, precondition
from e2crf_core.diffusion.solvers import GRIDS, ORDERS, Plan, make_plan
from e2crf_core.e2crf import step
from e2crf_core.errors import LabError
from e2crf_core.sampling.sampler import Sampler
from tests import gaussian_truth as truth

LAW = truth.Mixture(np.array([0.4, 0.6]), np.array([[-1.2], [0.9]]), np.array([[0.15], [0.3]]))
LINE = truth.Mixture(np.array([0.4, 0.6]), np.array([-1.2, 0.9]), np.array([0.15, 0.3]))
SCHEDULE = VP(t_min=0.02)
CLOCK = Profile((-2.0, 0.0, 2.0), (0.5, 2.0, 0.5)).clock


def run(plan: Plan, schedule: Schedule, z: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Apply the formula of the solvers' module with the exact denoiser, from the first row to the last."""
    kept = before = earlier = z
    for i, row in enumerate(plan.rows):
        denoised = LAW.denoise(z, schedule.a(row.t), schedule.s(row.t))
        terms = (z, kept, denoised, before, earlier)
        kept = sum(weight * term for weight, term in zip(row.kept, terms, strict=True))
        z = sum(weight * term for weight, term in zip(row.mix, terms, strict=True)) + row.sigma * noise[i]
        before, earlier = denoised, before
    return z


def start(schedule: Schedule, rows: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    z = LAW.noised(schedule.a(1.0), schedule.s(1.0)).sample(16, 1)
    return z, rng.standard_normal((rows, *z.shape))


class TestAgainstDiffusers:
    """Run the other library with our times as its whole table of noise levels and the same exact denoiser."""

    @staticmethod
    def prepared(kind: str, times: list[float], **options: object) -> object:
        kept = np.array([SCHEDULE.a(t) ** 2 for t in reversed(times)])
        betas = 1 - kept / np.concatenate([[1.0], kept[:-1]])
        scheduler = getattr(schedulers, kind)(
            num_train_timesteps=len(times), trained_betas=betas, beta_schedule="linear", **options
        )
        # It computes its table in float32, in which 1 - a² loses digits that we keep.
        scheduler.alphas_cumprod = torch.from_numpy(kept)
        return scheduler

    @pytest.mark.parametrize("grid", GRIDS)
    @pytest.mark.parametrize(
        ("solver", "algorithm"), [("dpmpp_2m", "dpmsolver++"), ("sde_dpmpp_2m", "sde-dpmsolver++")]
    )
    def test_dpm_solver_pp(self, solver: str, algorithm: str, grid: str) -> None:
        plan = make_plan(SCHEDULE, 18, solver, grid)
        z, noise = start(SCHEDULE, plan.steps)
        scheduler = self.prepared(
            "DPMSolverMultistepScheduler",
            [row.t for row in plan.rows],
            algorithm_type=algorithm,
            prediction_type="sample",
            solver_order=2,
        )
        scheduler.set_timesteps(timesteps=list(range(plan.steps))[::-1])
        theirs = torch.from_numpy(z)
        for i, index in enumerate(scheduler.timesteps):
            t = plan.rows[i].t
            denoised = torch.from_numpy(LAW.denoise(theirs.numpy(), SCHEDULE.a(t), SCHEDULE.s(t)))
            theirs = scheduler.step(
                denoised, index, theirs, variance_noise=torch.from_numpy(noise[i])
            ).prev_sample.double()
        np.testing.assert_allclose(run(plan, SCHEDULE, z, noise), theirs.numpy(), atol=1e-5)

    @pytest.mark.parametrize("grid", GRIDS)
    @pytest.mark.parametrize(
        ("solver", "kind", "options"),
        [
            ("unipc_2", "UniPCMultistepScheduler", {"solver_type": "bh2", "lower_order_final": False}),
            ("dpmpp_2m_lower_finish", "DPMSolverMultistepScheduler", {"lower_order_final": True}),
        ],
    )
    def test_multistep_with_correction_or_finish(
        self, solver: str, kind: str, options: dict[str, object], grid: str
    ) -> None:
        """The other library gets our noise levels as its own, with one step fewer than we make calls."""
        plan = make_plan(SCHEDULE, 12, solver, grid)
        z, noise = start(SCHEDULE, plan.steps)
        times = [row.t for row in plan.rows]
        scheduler = self.prepared(kind, times, prediction_type="sample", solver_order=2, **options)
        scheduler.set_timesteps(plan.steps - 1)
        scheduler.timesteps = torch.arange(plan.steps - 1)
        scheduler.sigmas = torch.tensor([SCHEDULE.s(t) / SCHEDULE.a(t) for t in times], dtype=torch.float64)
        theirs = torch.from_numpy(z)
        ours = replace(plan, rows=plan.rows[:-1])
        for i, index in enumerate(scheduler.timesteps):
            denoised = LAW.denoise(theirs.numpy(), SCHEDULE.a(times[i]), SCHEDULE.s(times[i]))
            theirs = scheduler.step(torch.from_numpy(denoised), index, theirs).prev_sample.double()
        np.testing.assert_allclose(run(ours, SCHEDULE, z, noise), theirs.numpy(), atol=1e-5)

    @pytest.mark.parametrize("grid", GRIDS)
    @pytest.mark.parametrize(("solver", "eta"), [("ddim", 0.0), ("ddim:0.4", 0.4), ("ancestral", 1.0)])
    def test_ddim(self, solver: str, eta: float, grid: str) -> None:
        plan = make_plan(SCHEDULE, 15, solver, grid)
        z, noise = start(SCHEDULE, plan.steps)
        scheduler = self.prepared(
            "DDIMScheduler",
            [row.t for row in plan.rows],
            prediction_type="sample",
            clip_sample=False,
            timestep_spacing="leading",
        )
        scheduler.set_timesteps(plan.steps)
        theirs = torch.from_numpy(z)
        for i, index in enumerate(scheduler.timesteps):
            t = plan.rows[i].t
            denoised = torch.from_numpy(LAW.denoise(theirs.numpy(), SCHEDULE.a(t), SCHEDULE.s(t)))
            theirs = scheduler.step(
                denoised, int(index), theirs, eta=eta, variance_noise=torch.from_numpy(noise[i])
            ).prev_sample
        np.testing.assert_allclose(run(plan, SCHEDULE, z, noise), theirs.numpy(), atol=1e-5)

    @pytest.mark.parametrize("grid", GRIDS)
    @pytest.mark.parametrize(("solver", "kind"), [("ddim", "Euler"), ("heun", "Heun")])
    def test_sigma_space_solvers(self, solver: str, kind: str, grid: str) -> None:
        """Euler and Heun in x = z/a against s/a, as Karras et al. write them."""
        plan = make_plan(SCHEDULE, 21, solver, grid)
        z, noise = start(SCHEDULE, plan.steps)
        times = list(dict.fromkeys(row.t for row in plan.rows))
        scheduler = self.prepared(f"{kind}DiscreteScheduler", times, prediction_type="epsilon")
        scheduler.set_timesteps(timesteps=list(range(len(times)))[::-1])
        x = torch.from_numpy(z) / SCHEDULE.a(1.0)
        assert len(scheduler.timesteps) == plan.steps
        for index in scheduler.timesteps:
            t = times[len(times) - 1 - int(index)]
            a, s = SCHEDULE.a(t), SCHEDULE.s(t)
            state = a * x.numpy()
            noise_estimate = torch.from_numpy((state - a * LAW.denoise(state, a, s)) / s)
            x = scheduler.step(noise_estimate, index, x).prev_sample.double()
        np.testing.assert_allclose(run(plan, SCHEDULE, z, noise), x.numpy(), atol=1e-5)


class TestTables:
    @pytest.mark.parametrize("grid", GRIDS)
    @pytest.mark.parametrize("solver", ["ddim", "dpmpp_2m", "dpmpp_2m_lower_finish", "heun", "unipc_2"])
    def test_a_solver_keeps_a_state_that_is_its_own_denoised_value(self, solver: str, grid: str) -> None:
        """With D fixed and no noise, z = a D solves every equation here: deterministic tables preserve it."""
        plan = make_plan(SCHEDULE, 41, solver, grid)
        assert not any(row.sigma for row in plan.rows)
        z = kept = SCHEDULE.a(1.0)
        for row in plan.rows:
            terms = (z, kept, 1.0, 1.0, 1.0)
            kept, z = (np.dot(mix, terms) for mix in (row.kept, row.mix))
        assert z == pytest.approx(1.0, abs=1e-12)

    def test_eta_runs_from_the_deterministic_to_the_ancestral_sampler(self) -> None:
        ends = {eta: make_plan(SCHEDULE, 12, f"ddim:{eta}").rows for eta in (0, 0.5, 1)}
        assert ends[0] == make_plan(SCHEDULE, 12, "ddim").rows
        assert ends[1] == make_plan(SCHEDULE, 12, "ancestral").rows
        for half, whole in zip(ends[0.5][:-1], ends[1][:-1], strict=True):
            assert half.sigma == pytest.approx(whole.sigma / 2)

    @pytest.mark.parametrize("grid", GRIDS)
    def test_grids_descend_from_one_to_the_end(self, grid: str) -> None:
        times = GRIDS[grid](SCHEDULE, 30, CLOCK)
        assert times[0] == pytest.approx(1.0)
        assert times[-1] == pytest.approx(SCHEDULE.t_min)
        assert all(a > b for a, b in pairwise(times))

    def test_the_profile_grid_is_even_on_the_models_clock_and_log_snr_without_one(self) -> None:
        levels = [SCHEDULE.log_snr(row.t) for row in make_plan(SCHEDULE, 12, "ddim", "profile", CLOCK).rows]
        gaps = np.diff(CLOCK(levels))
        np.testing.assert_allclose(gaps, gaps.mean(), rtol=1e-2)
        assert np.ptp(np.diff(levels)) > 0.3
        plain, even = (make_plan(SCHEDULE, 12, "ddim", grid).rows for grid in ("profile", "log_snr"))
        np.testing.assert_allclose([row.t for row in plain], [row.t for row in even], rtol=1e-9)

    @pytest.mark.parametrize(
        ("steps", "solver", "grid", "match"),
        [
            (1, "ddim", "linear", "steps"),
            (20, "heun", "linear", "odd"),
            (20, "rk4", "linear", "solver"),
            (20, "ddim", "cosine", "grid"),
            (20, "ddim:1.5", "linear", "from 0"),
            (20, "ddim:nan", "linear", "from 0"),
            (20, "ddim:x", "linear", "from 0"),
            (5, "euler_maruyama", "linear", "steps"),
        ],
    )
    def test_refuses_in_one_line(self, steps: int, solver: str, grid: str, match: str) -> None:
        with pytest.raises(LabError, match=match):
            make_plan(SCHEDULE, steps, solver, grid)


class ExactNetwork(torch.nn.Module):
    """A network that returns the denoised value of LINE for every coordinate: its error is the solver's alone."""

    layers, heads, prepare_flops = 1, 1, 0

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def condition(self, log_snr: torch.Tensor) -> torch.Tensor:
        return log_snr.double()

    def prepare(self, u: torch.Tensor, log_snr: torch.Tensor) -> torch.Tensor:
        return u

    def embed(self, u: torch.Tensor, index: torch.Tensor | None) -> torch.Tensor:
        return u

    def qkv(self, layer: int, h: torch.Tensor, condition: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return h, h, h

    def finish(
        self, layer: int, h: torch.Tensor, attended: torch.Tensor, condition: torch.Tensor
    ) -> torch.Tensor:
        a = float(torch.sigmoid(2 * condition)) ** 0.5
        s = float(torch.sigmoid(-2 * condition)) ** 0.5
        return torch.from_numpy(LINE.denoise(h.numpy().ravel(), a, s)).view_as(h)

    def head(self, feature: torch.Tensor) -> torch.Tensor:
        return feature


class SilentNetwork(ExactNetwork):
    """A network whose output F is 0."""

    def finish(
        self, layer: int, h: torch.Tensor, attended: torch.Tensor, condition: torch.Tensor
    ) -> torch.Tensor:
        return torch.zeros_like(h)


def cached_end(model: ScoreModel, predictor: str, calls: int, fine: int, solver: str = "ddim") -> np.ndarray:
    """Return the end of a cached run with `calls` network calls and `fine` solver steps per call."""
    exact = replace(model, network=ExactNetwork(model.mu.shape[1]), schedule=VP(t_min=0.05))
    policy = CachePolicy(trigger="fixed", refresh_every=fine, predictor=predictor)
    sampler = Sampler(exact, policy, steps=(calls - 1) * fine + 1, solver=solver, grid="log_snr")
    with torch.inference_mode():
        problem, state = sampler.begin(2, 0)
        one, nothing = torch.ones_like(problem.c_in), torch.zeros_like(problem.c_in)
        problem = replace(problem, c_in=one, u0=nothing, c_skip=nothing, c_out=one, d0=nothing)
        while state.step < sampler.plan.steps - 1:
            state, _ = step(problem, state, policy)
    return state.z.numpy()


class TestExponentialIntegrators:
    """ETD-AB2 and 3: exact for Gaussian data, right order on a mixture, equal to converged DPM-Solver++."""

    @staticmethod
    def ends(solver: str, calls: int) -> np.ndarray:
        """Return z at the last call, for LINE in E3's coordinate with the mixture's mean and variance."""
        mu = np.full((1, 1), LINE.weights @ LINE.means)
        v = np.full((1, 1), LINE.weights @ (LINE.variances + LINE.means**2) - mu[0, 0] ** 2)
        plan = make_plan(SCHEDULE, calls, solver, "log_snr")
        table = exponential_table(SCHEDULE, [row.t for row in plan.rows], plan.order, plan.clock, mu, v)
        z, outputs = LINE.noised(SCHEDULE.a(1.0), SCHEDULE.s(1.0)).sample(40, 0)[:, None, None], []
        for i, row in enumerate(plan.rows[:-1]):
            a, s = SCHEDULE.a(row.t), SCHEDULE.s(row.t)
            p = precondition(torch.from_numpy(v), a, s)
            denoised = LINE.denoise(z.ravel(), a, s).reshape(z.shape)
            output = (denoised - mu - p.c_skip.numpy() * (z - a * mu)) / p.c_out.numpy()
            outputs = [output, *outputs][: plan.order]
            z = table.own[i] * z + table.offset[i] + sum(map(np.multiply, table.weights[i], outputs))
        return z.ravel()

    @pytest.mark.parametrize("solver", ORDERS)
    def test_have_their_order_on_the_exact_flow(self, solver: str) -> None:
        start = LINE.noised(SCHEDULE.a(1.0), SCHEDULE.s(1.0)).sample(40, 0)
        scales = [(SCHEDULE.a(t), SCHEDULE.s(t)) for t in (1.0, SCHEDULE.t_min)]
        exact = truth.line_flow(start, LINE, *scales)
        calls = (41, 61, 91)
        errors = [np.sqrt(np.mean((self.ends(solver, c) - exact) ** 2)) for c in calls]
        assert -np.polyfit(np.log(calls), np.log(errors), 1)[0] == pytest.approx(ORDERS[solver], abs=0.5)

    @pytest.mark.parametrize("solver", ORDERS)
    def test_without_a_network_two_calls_follow_the_flow_of_gaussian_data(
        self, model: ScoreModel, solver: str
    ) -> None:
        """F = 0 is the exact denoiser of N(mu, diag v) (E3), so no step is too long."""
        silent = replace(model, network=SilentNetwork(model.mu.shape[1]))
        few, many = (
            Sampler(silent, steps=n, solver=solver, policy=None).sample(3, 0).tokens for n in (2, 40)
        )
        np.testing.assert_allclose(few, many, atol=1e-9)

    @pytest.mark.parametrize("solver", ORDERS)
    def test_agree_with_converged_dpm_solver_pp(self, model: ScoreModel, solver: str) -> None:
        def tokens(name: str, steps: int) -> np.ndarray:
            return Sampler(model, steps=steps, solver=name, grid="log_snr", policy=None).sample(3, 0).tokens

        best = tokens("dpmpp_2m", 1500)
        far, near = (np.sqrt(np.mean((tokens(solver, n) - best) ** 2)) for n in (20, 80))
        assert near < far / 8
        assert near < 2e-2 * best.std()


class TestGivenTimes:
    def test_levels_of_ones_own_are_used_as_they_are(self) -> None:
        plan = make_plan(SCHEDULE, 4, "dpmpp_2m", "levels:-4,-1,0.5,1.5")
        levels = [SCHEDULE.log_snr(row.t) for row in plan.rows]
        np.testing.assert_allclose(levels, [-4, -1, 0.5, 1.5], atol=1e-9)

    @pytest.mark.parametrize(
        "grid", ["levels:", "levels:1", "levels:1,1", "levels:2,1", "levels:0,x", "levels:0,nan"]
    )
    def test_levels_must_increase(self, grid: str) -> None:
        with pytest.raises(LabError, match="larger than the one before"):
            make_plan(SCHEDULE, 2, "dpmpp_2m", grid)

    @pytest.mark.parametrize(
        ("grid", "match"), [("levels:-1,0,1", "one level for each call"), ("levels:0,50", "stay within")]
    )
    def test_levels_must_fit_the_calls_and_the_schedule(self, grid: str, match: str) -> None:
        with pytest.raises(LabError, match=match):
            make_plan(SCHEDULE, 2, "dpmpp_2m", grid)


class TestCachesAreSolvers:
    """A held D makes a first-order solver the coarse one; an extrapolated D makes it a multistep one."""

    def test_holding_over_a_fine_grid_is_the_coarse_solver(self, model: ScoreModel) -> None:
        np.testing.assert_allclose(
            cached_end(model, "hold", 12, 7), cached_end(model, "hold", 12, 1), atol=1e-10
        )

    def test_linear_extrapolation_over_a_fine_grid_meets_dpm_solver_pp(self, model: ScoreModel) -> None:
        """Both are second order, and closer to each other than either is to the first-order solver."""
        calls = (11, 21, 41, 81)
        gaps, firsts = [], []
        for count in calls:
            extrapolated = cached_end(model, "linear", count, 20, solver="dpmpp_2m")
            multistep = cached_end(model, "hold", count, 1, solver="dpmpp_2m")
            gaps.append(np.abs(extrapolated - multistep).mean())
            firsts.append(np.abs(cached_end(model, "hold", count, 1) - multistep).mean())
        slope = -np.polyfit(np.log(calls), np.log(gaps), 1)[0]
        assert slope > 1.6
        assert all(gap < 0.5 * first for gap, first in zip(gaps, firsts, strict=True))

    def test_the_limit_of_extrapolation_has_the_order_of_its_polynomial(self, model: ScoreModel) -> None:
        best = cached_end(model, "hold", 1201, 1, solver="dpmpp_2m")
        calls = (21, 31, 46)
        for predictor, order in (("hold", 1), ("linear", 2), ("quadratic", 3)):
            ends = [cached_end(model, predictor, c, 40, solver="dpmpp_2m") for c in calls]
            errors = [np.sqrt(np.mean((end - best) ** 2)) for end in ends]
            slope = -np.polyfit(np.log(calls), np.log(errors), 1)[0]
            assert slope == pytest.approx(order, abs=0.5), predictor
