"""Laws of intervals, floors and spreads, and of the learned scores."""

import dataclasses

import numpy as np
import ot
import pytest
import torch

from e2crf_core.errors import Cancelled, LabError
from e2crf_core.quality import intervals as st
from e2crf_core.quality import learned as learned
from e2crf_core.quality.distances import (
    AUTOCORRELATION_DIFFERENCE,
    LOG_SPECTRAL_DISTANCE,
    marginal_wasserstein_metric,
    sliced_wasserstein_metric,
)

SLICED = sliced_wasserstein_metric(directions=40)
FAST = {"resamples": 40, "floor_repeats": 5}


def gaussian(seed, count, length=12, channels=2, shift=0.0, scale=1.0):
    return shift + scale * np.random.default_rng(seed).standard_normal((count, length, channels))


def smooth(seed, count, length=48, period=12.0):
    """Return sines of random phase with a little noise: a distribution that networks learn within seconds."""
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 2 * np.pi, (count, 1, 1))
    wave = np.sqrt(2) * np.sin(2 * np.pi * np.arange(length)[:, None] / period + phase)
    return wave + 0.1 * rng.standard_normal((count, length, 1))


class TestInterval:
    @pytest.mark.parametrize("metric", [SLICED, marginal_wasserstein_metric()], ids=lambda d: d.name)
    @pytest.mark.parametrize("shift", [0.0, 0.3], ids=["same law", "other law"])
    def test_covers_the_mean_figure_of_sets_of_these_sizes(self, metric, shift):
        trials = [(gaussian(k, 40, shift=shift), gaussian(1000 + k, 90)) for k in range(80)]
        figures = [
            st.measure(a, b, metric, resamples=60, floor_repeats=1, seed=k) for k, (a, b) in enumerate(trials)
        ]
        truth = np.mean([f.value for f in figures])
        assert np.mean([f.low <= truth <= f.high for f in figures]) >= 0.85

    def test_plain_percentiles_would_miss_it(self):
        """The reason for centering: resampling adds noise, and noise increases distances."""
        a, b = gaussian(1, 40), gaussian(2, 90)
        replicates = SLICED.values(a, b, st.resample_picks(40, 90, resamples=60, seed=0))
        value = SLICED(a, b)
        low, high = st.centered_interval(value, replicates)
        assert np.quantile(replicates, 0.025) > value
        assert low < value < high

    def test_shrinks_with_the_number_of_series(self):
        width = []
        for n in (20, 320):
            figure = st.measure(gaussian(1, n, shift=0.5), gaussian(2, n), SLICED, **FAST)
            width.append(figure.high - figure.low)
        assert width[1] < width[0] / 2

    def test_is_wider_where_the_held_out_series_come_in_copies(self):
        """Ten windows of one event are one observation; labeled as blocks, they widen the interval."""
        once = gaussian(2, 12, shift=0.5)
        b = np.repeat(once, 10, axis=0) + 0.01 * gaussian(3, 120)
        blocks = np.repeat(np.arange(12), 10)
        naive, honest = (st.measure(gaussian(1, 200), b, SLICED, blocks=x, **FAST) for x in (None, blocks))
        assert honest.high - honest.low > 1.5 * (naive.high - naive.low)
        with pytest.raises(LabError, match="labels 12 series"):
            st.measure(gaussian(1, 20), b, SLICED, blocks=blocks[::10])

    def test_is_the_same_again_and_other_with_another_seed(self):
        a, b = gaussian(1, 20), gaussian(2, 30)
        first, again, other = (st.measure(a, b, SLICED, seed=s, **FAST) for s in (3, 3, 4))
        assert first == again
        assert first.value == other.value
        assert first.low != other.low

    def test_only_overlapping_figures_may_not_be_ranked(self):
        figure = st.Measurement(1.0, 0.8, 1.2, "x", "std", 10, 10)
        touching = dataclasses.replace(figure, value=1.4, low=1.2, high=1.6)
        apart = dataclasses.replace(figure, value=1.4, low=1.3, high=1.6)
        assert figure.overlaps(touching) and touching.overlaps(figure)
        assert not figure.overlaps(apart) and not apart.overlaps(figure)


class TestBlocks:
    def test_chains_of_overlaps_are_one_block_and_groups_are_apart(self):
        group = np.array(["a", "a", "b", "a", "a"])
        start = np.array([0, 8, 8, 16, 26])
        labels = st.overlap_blocks(group, start, span=10)
        assert labels[0] == labels[1] == labels[3]
        assert len({labels[0], labels[2], labels[4]}) == 3

    def test_dates_share_a_calendar(self):
        start = np.array(["2020-01-01", "2020-01-01", "2020-01-03", "2020-01-02"])
        labels = st.overlap_blocks(np.array(["a", "b", "a", "a"]), start, span=1)
        assert labels[0] == labels[1]
        assert len(set(labels)) == 3


class TestFloor:
    def test_shrinks_with_the_number_of_series(self):
        real = gaussian(1, 1200)
        floors = [st.real_floor(real, n, SLICED, repeats=5).value for n in (20, 80, 320)]
        assert floors[0] > 1.4 * floors[1] > 1.4 * 1.4 * floors[2]

    def test_is_what_a_perfect_generator_would_score(self):
        heldout = gaussian(1, 150)
        floor = st.real_floor(heldout, 50, SLICED, train=gaussian(2, 2000), repeats=40)
        perfect = [SLICED(gaussian(100 + k, 50), heldout) for k in range(40)]
        assert floor.value == pytest.approx(np.mean(perfect), rel=0.06)
        assert floor.sizes == (50, 150)
        assert floor.low < floor.value < floor.high

    def test_says_which_sizes_it_used(self):
        assert st.real_floor(gaussian(1, 100), 30, SLICED).sizes == (30, 70)
        assert st.real_floor(gaussian(1, 100), 64, SLICED).sizes == (50, 50)
        assert st.real_floor(gaussian(1, 101), 64, SLICED).sizes == (50, 50)
        assert st.real_floor(gaussian(1, 60), 64, SLICED, train=gaussian(2, 40)).sizes == (40, 60)

    def test_never_compares_a_series_with_itself(self):
        """All series are far apart, so a series shared by both sets would give a distance of zero."""
        real = 10.0 ** np.arange(8)[:, None, None] * np.ones((1, 4, 1))
        seen = []
        nosy = dataclasses.replace(
            SLICED, over=lambda a, b, picks: np.array([seen.append(p) or 1.0 for p in picks])
        )
        st.real_floor(real, 4, nosy)
        assert len(seen) == 20
        assert all(not set(i) & set(j) and len(set(i)) == len(set(j)) == 4 for i, j in seen)

    def test_refuses_what_cannot_be_cut(self):
        for wrong in ((gaussian(1, 1), 1), (gaussian(1, 9), 0)):
            with pytest.raises(LabError):
                st.real_floor(*wrong, SLICED)


class TestSpread:
    def test_covers_the_mean_of_normal_figures_95_times_in_100(self):
        rng = np.random.default_rng(0)
        spreads = [st.seed_spread(rng.normal(3.0, 0.2, 4).tolist()) for _ in range(1000)]
        assert np.mean([s.low <= 3.0 <= s.high for s in spreads]) == pytest.approx(0.95, abs=0.02)
        assert np.mean([s.std**2 for s in spreads]) == pytest.approx(0.04, rel=0.1)

    def test_needs_two_finite_figures(self):
        for wrong in ([1.0], [1.0, float("nan")], []):
            with pytest.raises(LabError, match="at least 2"):
                st.seed_spread(wrong)


class TestStableSize:
    def test_is_the_first_size_whose_interval_is_narrow_enough(self):
        a, b = gaussian(1, 400, shift=0.4), gaussian(2, 200)
        answer = st.stable_size(a, b, SLICED, within=0.15, resamples=40)
        narrow = [
            (h - l) / 2 <= 0.15 * v for v, l, h in zip(answer.values, answer.low, answer.high, strict=True)
        ]
        assert answer.sizes == (8, 16, 32, 64, 128, 256, 400)
        assert answer.size == answer.sizes[narrow.index(True)] > 8
        assert answer.values[0] > answer.values[-1]

    def test_says_none_where_the_samples_are_too_few(self):
        assert st.stable_size(gaussian(1, 20, shift=0.4), gaussian(2, 50), SLICED, within=0.01).size is None
        with pytest.raises(LabError, match="within"):
            st.stable_size(gaussian(1, 20), gaussian(2, 50), SLICED, within=5)


class TestChange:
    def test_between_twins_is_known_far_better_than_either_distance(self):
        a, b = gaussian(1, 60), gaussian(2, 90)
        twins = a + 0.05 * gaussian(3, 60)
        change = st.measure_change(a, twins, b, SLICED, resamples=60)
        alone = st.measure(a, b, SLICED, **FAST)
        assert change.high - change.low < 0.3 * (alone.high - alone.low)
        worse = st.measure_change(1.3 * a, a, b, SLICED, resamples=60)
        assert worse.low > 0
        with pytest.raises(LabError, match="twins"):
            st.measure_change(a, a[:9], b, SLICED)

    def test_refuses_an_empty_held_out_set_in_words(self):
        a = gaussian(1, 9)
        with pytest.raises(LabError, match="second set has no series"):
            st.measure_change(a, a, gaussian(2, 9)[:0], SLICED)


class TestLearnedScores:
    def test_discriminative_score_is_near_0_for_one_law_and_near_half_for_two(self):
        real = smooth(1, 96)
        same = learned.discriminative_score(smooth(2, 96), real, steps=60)
        other = learned.discriminative_score(smooth(4, 96, period=9), real, steps=60)
        assert abs(same.value) < 0.12 and same.low < 0.05
        assert other.value > 0.4 and other.low > same.high

    def test_discriminative_score_does_not_count_the_larger_set(self):
        """Always answering 'real' is right 9 times out of 10 here, and worthless."""
        score = learned.discriminative_score(smooth(1, 20), smooth(2, 180), steps=30)
        assert score.value < 0.2

    def test_predictive_score_reaches_its_floor_for_the_right_law_only(self):
        real, train = smooth(1, 60), smooth(3, 120)
        right, floor = (learned.predictive_score(x, real, steps=120) for x in (smooth(2, 120), train))
        noise = learned.predictive_score(gaussian(2, 120, length=48, channels=1), real, steps=120)
        assert right.value == pytest.approx(floor.value, rel=0.15)
        assert noise.value > 1.5 * right.value
        # No forecast beats the noise of the present step: E|N(0, 0.1)| = 0.08.
        assert right.low > 0.07

    def test_context_fid_sees_a_wrong_period_and_damaged_texture(self):
        real, train = smooth(1, 80), smooth(3, 200)
        metric = learned.context_fid_metric(train, steps=80)
        same, wrong, rough = (
            st.measure(x, real, metric, train=train, **FAST)
            for x in (smooth(2, 80), smooth(2, 80, period=9), smooth(2, 80) + 0.3 * gaussian(5, 80, 48, 1))
        )
        assert same.value <= 1.5 * same.floor_high
        assert wrong.low > same.high and rough.low > same.high
        assert metric(real, real) == pytest.approx(0, abs=1e-6)

    def test_frechet_distance_agrees_with_pot_and_with_one_dimension(self):
        rng = np.random.default_rng(0)
        a, b = rng.standard_normal((50, 4)), 1.5 * rng.standard_normal((70, 4)) + 1
        moments = (a.mean(0), b.mean(0), np.cov(a.T, bias=True), np.cov(b.T, bias=True))
        assert learned.frechet_distance(a, b) == pytest.approx(
            ot.gaussian.bures_wasserstein_distance(*moments) ** 2
        )
        line = (a[:, 0].mean() - b[:, 0].mean()) ** 2 + (a[:, 0].std() - b[:, 0].std()) ** 2
        assert learned.frechet_distance(a[:, :1], b[:, :1]) == pytest.approx(line)

    def test_are_the_same_again_and_leave_global_randomness_alone(self):
        a, b = smooth(1, 16), smooth(2, 16)
        state = torch.random.get_rng_state()
        runs = [
            (
                learned.discriminative_score(a, b, steps=3),
                learned.predictive_score(a, b, steps=3),
                learned.context_fid_metric(a, steps=3)(a, b),
            )
            for _ in range(2)
        ]
        assert runs[0] == runs[1]
        assert torch.equal(state, torch.random.get_rng_state())
        assert learned.predictive_score(a, b, steps=3, seed=1) != runs[0][1]

    @pytest.mark.parametrize("score", [learned.discriminative_score, learned.predictive_score])
    def test_report_progress_and_stop_when_told(self, score):
        a, b = smooth(1, 16), smooth(2, 16)
        reports = []
        score(a, b, steps=25, progress=lambda done, total: reports.append((done, total)))
        assert reports == sorted(reports) and len({total for _, total in reports}) == 1
        assert reports[-1][0] == reports[-1][1] and len(reports) >= 3
        calls = iter([False, False, True])
        with pytest.raises(Cancelled):
            score(a, b, steps=12, cancelled=lambda: next(calls))

    def test_say_when_there_is_too_little(self):
        with pytest.raises(LabError, match="at least 8 series of each kind, got 5 and 16"):
            learned.discriminative_score(smooth(1, 5), smooth(2, 16))
        with pytest.raises(LabError, match="at least 2 steps"):
            learned.predictive_score(smooth(1, 9, length=1), smooth(2, 9, length=1))

    def test_work_on_odd_lengths_and_several_channels(self):
        a = gaussian(1, 12, length=9, channels=3)
        assert np.isfinite(learned.context_fid_metric(a, steps=2)(a, gaussian(2, 12, length=9, channels=3)))


def test_measurements_over_resamples_survive_silence():
    zero = np.zeros((6, 8, 2))
    for metric in (LOG_SPECTRAL_DISTANCE, AUTOCORRELATION_DIFFERENCE):
        figure = st.measure(zero, zero, metric, **FAST)
        assert (figure.value, figure.low, figure.high, figure.floor) == (0, 0, 0, 0)
