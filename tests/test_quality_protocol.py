"""Laws of the quality protocol: what it must detect, with what certainty, and what it may claim."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.power import gaussian_of
from e2crf_core.data.datasets import load_dataset
from e2crf_core.diffusion.spectral import detokenize, tokenize
from e2crf_core.errors import LabError
from e2crf_core.models.heldout import heldout_blocks
from e2crf_core.quality.interval import Interval
from e2crf_core.quality.protocol import (
    MARGIN,
    PRIMARY,
    SPECTRAL_MARGIN,
    Equivalence,
    Judgment,
    equivalence_over_seeds,
    judge,
    judgment_over_seeds,
    log_interval,
    protocol_metrics,
    samples_needed,
    twin_error,
    whitened_errors,
)
from e2crf_core.quality.tails import EXTREMES_DIFFERENCE, KURTOSIS_DIFFERENCE, kurtosis
from e2crf_core.tuning.measure import StudySpec


def heavy(seed: int, count: int, length: int = 32, channels: int = 2) -> np.ndarray:
    """Return series with a decaying spectrum, heavy tails and a different distribution at each time."""
    rng = np.random.default_rng(seed)
    steps = rng.standard_t(5, (count, length, channels)).cumsum(1)
    return (steps - steps.mean()) / steps.std() + np.sin(np.arange(length) / 3)[:, None]


def verdict(samples: np.ndarray, reference: np.ndarray) -> str:
    return judge(samples, reference, heavy(9, 200), resamples=100).verdict


def without_upper(x: np.ndarray, kept: float) -> np.ndarray:
    """Return series with only the lowest share `kept` of their frequencies."""
    tokens = tokenize(x)
    tokens[:, int(kept * tokens.shape[1]) :] = 0
    return detokenize(tokens, x.shape[1])


class TestJudgment:
    def test_the_reference_is_as_good_as_itself(self) -> None:
        x = heavy(1, 40)
        same = judge(x, x, heavy(9, 100), resamples=50)
        assert same.verdict == "as good" and same.needed == 40 and same.excess == 0
        assert all(part.change == Interval(0.0, 0.0, 0.0) for part in same.parts)

    def test_damage_is_never_as_good(self) -> None:
        x = heavy(1, 60)
        for damaged in (1.5 * x, 0.4 * x, x + 1.0, 0.5 * without_upper(x, 0.25)):
            assert verdict(damaged, x) == "worse"

    @pytest.mark.parametrize("name", ["ecg", "household", "stocks", "wind"])
    def test_no_network_and_a_deleted_spectrum_are_worse_on_all_shipped_data(self, name: str) -> None:
        """Real series stand for a perfect sampler, at the default number of samples of a study."""
        data = load_dataset(name)
        train, held = (data.standardize(data.x[i]).astype(float) for i in (data.train, data.heldout))
        rng = np.random.default_rng(0)
        x = train[rng.permutation(len(train))[: StudySpec().num]]
        for damaged in (gaussian_of(train)(x, rng), without_upper(x, 0.25)):
            judgment = judge(damaged, x, held, blocks=heldout_blocks(data), resamples=60)
            assert judgment.verdict == "worse", judgment.describe()

    def test_weak_high_frequencies_count_although_the_primary_distance_hardly_sees_them(self) -> None:
        data = load_dataset("wind")
        train, held = (data.standardize(data.x[i]).astype(float) for i in (data.train, data.heldout))
        x = train[:: len(train) // 64]
        rough = judge(without_upper(x, 0.5), x, held, blocks=heldout_blocks(data), resamples=60)
        assert rough.primary.verdict != "worse" and rough.primary.change.value < 0.1
        assert rough.verdict == "worse"

    def test_a_small_change_on_common_noise_is_as_good(self) -> None:
        x = heavy(1, 60)
        assert verdict(x + 0.01 * heavy(2, 60), x) == "as good"

    def test_twins_must_be_pairs(self) -> None:
        with pytest.raises(LabError, match="one to one"):
            judge(heavy(1, 5), heavy(2, 6), heavy(3, 9))

    def test_as_good_needs_both_and_worse_needs_one(self) -> None:
        parts = {
            "as good": Interval(0.0, -0.01, 0.01),
            "undecided": Interval(0.0, -9.0, 9.0),
            "worse": Interval(8.0, 7.0, 9.0),
        }
        for one, first in parts.items():
            for other, second in parts.items():
                joint = Judgment(Equivalence(first, 64), Equivalence(second, 64, SPECTRAL_MARGIN, "dB"))
                assert joint.verdict == next(
                    v for v in ("worse", "undecided", "as good") if v in (one, other)
                )
                assert (joint.verdict == "as good") == (joint.excess <= 1)
        assert Judgment(Equivalence(parts["worse"], 64)).verdict == "worse"

    def test_a_larger_budget_widens_both_margins(self) -> None:
        close, rough = Interval(0.0, -0.01, 0.01), Interval(0.5, 0.4, 0.8)
        joint = Judgment(Equivalence(close, 64), Equivalence(rough, 64, SPECTRAL_MARGIN, "dB"))
        assert joint.verdict == "undecided" and joint.within(2 * MARGIN).verdict == "as good"
        assert joint.within(2 * MARGIN).excess == pytest.approx(joint.excess / 2)

    def test_both_readings_of_both_distances_are_stated(self) -> None:
        primary = Equivalence(Interval(-0.02, -0.08, 0.04), 64)
        spectral = Equivalence(Interval(0.1, 0.0, 0.25), 64, SPECTRAL_MARGIN, "dB")
        text = "measured -2.0%, certain to be below +4.0%"
        assert Judgment(primary).describe() == primary.describe() == text
        assert Judgment(primary, spectral).describe() == (
            f"{text}; spectrum measured +0.10 dB, certain to be below +0.25 dB"
        )

    def test_what_rounds_to_nothing_has_no_minus(self) -> None:
        none = Equivalence(Interval(-0.001, -0.004, -0.0001), 64, SPECTRAL_MARGIN, "dB")
        assert none.describe() == "measured +0.00 dB, certain to be below +0.00 dB"


class TestEquivalence:
    @given(
        st.floats(-0.2, 0.2),
        st.floats(0.001, 0.3),
        st.integers(8, 500),
        st.floats(0.01, 0.2),
    )
    def test_the_number_of_samples_needed_brings_the_upper_end_to_the_margin(
        self, value: float, half: float, num: int, margin: float
    ) -> None:
        needed = samples_needed(Interval(value, value - half, value + half), num, margin)
        if needed is None:
            assert value >= margin
        elif needed == num:
            assert value + half <= margin + 1e-9
        else:
            assert value + half * np.sqrt(num / needed) <= margin + 1e-9
            assert value + half * np.sqrt(num / (needed - 1)) > margin - 1e-9

    def test_undecided_is_an_answer_of_its_own(self) -> None:
        assert Equivalence(Interval(0.0, -0.1, 0.1), 64).verdict == "undecided"
        assert Equivalence(Interval(0.2, 0.1, 0.3), 64).verdict == "worse"
        assert Equivalence(Interval(0.03, 0.01, 0.045), 64).verdict == "as good"

    def test_seeds_together_say_more_than_one(self) -> None:
        each = [Equivalence(Interval(v, v - 0.1, v + 0.1), 50) for v in (0.01, 0.02, 0.03, 0.02)]
        together = equivalence_over_seeds(each)
        assert together.num == 200 and together.verdict == "as good"
        two = equivalence_over_seeds(each[:2])
        assert two.change.high - two.change.low == pytest.approx(0.2 / np.sqrt(2))
        joint = judgment_over_seeds([Judgment(e, replace(e, unit="dB")) for e in each])
        assert joint.primary == together and joint.spectral == replace(together, unit="dB")


class TestTwinError:
    def test_of_equal_sets_is_zero_and_of_scaled_ones_the_scale(self) -> None:
        x, real = heavy(1, 30), heavy(2, 60)
        none = twin_error(x, x, real, resamples=20)
        assert none.pooled == none.median == none.q90 == none.flips == Interval(0.0, 0.0, 0.0)
        tenth = twin_error(1.1 * x, x, real, resamples=20)
        assert tenth.median.value == pytest.approx(0.1) and tenth.pooled.high == pytest.approx(0.1)

    def test_one_flipped_sample_moves_the_pooled_error_but_not_the_median(self) -> None:
        x = heavy(1, 20)
        changed = 1.01 * x
        changed[3] = -x[3]
        error = twin_error(changed, x, heavy(2, 60), resamples=20)
        assert error.median.value == pytest.approx(0.01) and error.flips.value == pytest.approx(0.05)
        assert error.pooled.value > 0.2

    def test_whitening_counts_weak_bands_like_strong_ones(self) -> None:
        """The same share of each token's own spread counts as the same error in every band."""
        real = heavy(2, 400)
        spread = tokenize(real).std(0)
        rng = np.random.default_rng(0)
        x = heavy(1, 50)
        noise = detokenize(0.1 * spread * rng.standard_normal((50, *spread.shape)), x.shape[1])
        error = twin_error(x + noise, x, real, resamples=20)
        assert [band[0] for band in error.bands] == sorted({band[0] for band in error.bands})
        assert error.bands[0][0] == 0 and error.bands[-1][1] == whitened_errors(x, x, real).shape[1]
        for _, _, value in error.bands:
            assert value.value == pytest.approx(0.1, rel=0.2)


def test_kurtosis_tells_a_gaussian_from_heavy_tails() -> None:
    rng = np.random.default_rng(0)
    gaussian, tailed = rng.standard_normal((200, 50, 1)), rng.standard_t(5, (200, 50, 1))
    assert kurtosis(gaussian) == pytest.approx(3, abs=0.15)
    assert kurtosis(3 * gaussian + 7) == pytest.approx(kurtosis(gaussian))
    assert KURTOSIS_DIFFERENCE(gaussian, tailed) > 0.4
    assert KURTOSIS_DIFFERENCE(gaussian[:100], gaussian[100:]) < 0.1
    assert EXTREMES_DIFFERENCE(gaussian + 1, gaussian) == pytest.approx(1)
    assert KURTOSIS_DIFFERENCE(0 * gaussian, 0 * gaussian) == 0


def test_the_primary_distance_is_one_of_the_protocol() -> None:
    names = [metric.name for metric in protocol_metrics(2)]
    assert PRIMARY in names and len(set(names)) == len(names)


def test_a_log_interval_is_that_of_the_logarithms() -> None:
    interval = log_interval([0.1, 0.2, 0.4])
    assert interval.value == pytest.approx(0.2)
    assert interval.low * interval.high == pytest.approx(0.04) and interval.low > 0
    with pytest.raises(LabError, match="above 0"):
        log_interval([0.1, 0.0])
