"""Solvers against a second library on the same denoiser and grid, and caches as the solvers they amount to."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import schedulers

from e2crf_core.caching.policy import CachePolicy
from e2crf_core.diffusion import gaussian_truth as truth
from e2crf_core.diffusion.schedules import VP, Schedule
from e2crf_core.diffusion.score_model import Profile, ScoreModel
from e2crf_core.diffusion.solvers import GRIDS, Plan, make_plan
from e2crf_core.e2crf import step
from e2crf_core.errors import LabError
from e2crf_core.sampling.sampler import Sampler

LAW = truth.Mixture(np.array([0.4, 0.6]), np.array([[-1.2], [0.9]]), np.array([[0.15], [0.3]]))
LINE = truth.Mixture(np.array([0.4, 0.6]), np.array([-1.2, 0.9]), np.array([0.15, 0.3]))
SCHEDULE = VP(t_min=0.02)
CLOCK = Profile((-2.0, 0.0, 2.0), (0.5, 2.0, 0.5)).clock


def run(plan: Plan, schedule: Schedule, z: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """The formula of the solvers' module, with the exact denoiser, from the first row to the last."""
    kept = before = z
    for i, row in enumerate(plan.rows):
        kept = z if row.keep else kept
        denoised = LAW.denoise(z, schedule.a(row.t), schedule.s(row.t))
        z = row.own * z + row.base * kept + row.now * denoised + row.before * before + row.sigma * noise[i]
        before = denoised
    return z


def start(schedule: Schedule, rows: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    z = LAW.noised(schedule.a(1.0), schedule.s(1.0)).sample(16, 1)
    return z, rng.standard_normal((rows, *z.shape))


class TestAgainstDiffusers:
    """The other library is given our times as its whole table of noise levels, and the same exact denoiser."""

    @staticmethod
    def prepared(kind: str, times: list[float], **options: object) -> object:
        kept = np.array([SCHEDULE.a(t) ** 2 for t in reversed(times)])
        betas = 1 - kept / np.concatenate([[1.0], kept[:-1]])
        scheduler = getattr(schedulers, kind)(
            num_train_timesteps=len(times), trained_betas=betas, beta_schedule="linear", **options
        )
        # It computes its table in float32, where 1 - a² has lost digits that we keep.
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
    @pytest.mark.parametrize("solver", ["ddim", "dpmpp_2m", "heun"])
    def test_a_solver_keeps_a_state_that_is_its_own_denoised_value(self, solver: str, grid: str) -> None:
        """With D fixed and no noise, z = a D solves every equation here: deterministic tables keep it exactly."""
        plan = make_plan(SCHEDULE, 41, solver, grid)
        assert not any(row.sigma for row in plan.rows)
        z = kept = before = SCHEDULE.a(1.0)
        for row in plan.rows:
            kept = z if row.keep else kept
            z, before = row.own * z + row.base * kept + row.now + row.before * before, 1.0
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


def cached_end(model: ScoreModel, predictor: str, calls: int, fine: int, solver: str = "ddim") -> np.ndarray:
    """End of a cached run whose network was called `calls` times, `fine` solver steps for each call."""
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


class TestCachesAreSolvers:
    """A held D makes a first-order solver the coarse one; an extrapolated D makes it a multistep one."""

    def test_holding_over_a_fine_grid_is_the_coarse_solver(self, model: ScoreModel) -> None:
        np.testing.assert_allclose(
            cached_end(model, "hold", 12, 7), cached_end(model, "hold", 12, 1), atol=1e-10
        )

    def test_linear_extrapolation_over_a_fine_grid_meets_dpm_solver_pp(self, model: ScoreModel) -> None:
        """Both are second order, and nearer to one another than either to the first-order solver."""
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
