"""Laws of the distances between sets of series: no golden numbers."""

import numpy as np
import ot
import pytest
from scipy.stats import wasserstein_distance, wasserstein_distance_nd

from e2crf_core.errors import LabError
from e2crf_core.quality import distances as m

DISTANCES = [
    m.sliced_wasserstein_metric(directions=50),
    m.sliced_wasserstein_metric(directions=50, domain="frequency"),
    m.sliced_wasserstein_metric(directions=50, p=1),
    m.marginal_wasserstein_metric(),
    m.marginal_wasserstein_metric(domain="frequency"),
    m.LOG_SPECTRAL_DISTANCE,
    m.AUTOCORRELATION_DIFFERENCE,
    m.CROSS_CORRELATION_DIFFERENCE,
]
WASSERSTEIN = DISTANCES[:5]


def series(seed, count=30, length=21, channels=3, scale=1.0):
    """Return smooth correlated series, so that no distance is trivially equal between two distributions."""
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.standard_normal((count, length, channels)), axis=1) / np.sqrt(length)
    return scale * (walk @ rng.standard_normal((channels, channels)))


@pytest.mark.parametrize("metric", DISTANCES, ids=lambda d: d.name)
class TestEveryDistance:
    def test_is_zero_between_a_set_and_itself_in_any_order(self, metric):
        a = series(1)
        assert metric(a, a) == pytest.approx(0, abs=1e-9)
        assert metric(a, a[::-1]) == pytest.approx(0, abs=1e-9)

    def test_is_symmetric_and_positive_between_laws(self, metric):
        a, b = series(1, count=30), series(2, count=41)
        assert metric(a, b) == pytest.approx(metric(b, a), rel=1e-10)
        assert metric(a, b) > 1e-3

    def test_does_not_change_when_every_series_is_there_twice(self, metric):
        a, b = series(1, count=8), series(2, count=12)
        assert metric(np.repeat(a, 2, axis=0), np.repeat(b, 3, axis=0)) == pytest.approx(
            metric(a, b), rel=1e-9
        )

    def test_resamples_equal_the_distance_of_the_sets_they_name(self, metric):
        a, b = series(1), series(2, count=17)
        rng = np.random.default_rng(0)
        picks = [(rng.integers(0, 30, k), rng.integers(0, 17, 11)) for k in (5, 11, 30)]
        expected = [metric(a[i], b[j]) for i, j in picks]
        np.testing.assert_allclose(metric.values(a, b, picks), expected, rtol=1e-9)

    def test_refuses_what_cannot_be_compared(self, metric):
        a = series(1)
        with pytest.raises(LabError, match="cannot be compared"):
            metric(a, series(2, length=20))
        with pytest.raises(LabError, match="samples, steps, channels"):
            metric(a, a[0])
        broken = a.copy()
        broken[4, 2, 1] = np.nan
        with pytest.raises(LabError, match=r"second set has NaN or infinity in 1 of 30 series \(first: 4\)"):
            metric(a, broken)


@pytest.mark.parametrize("metric", WASSERSTEIN, ids=lambda d: d.name)
def test_wasserstein_scales_with_the_data(metric):
    a, b = series(1), series(2, count=20)
    assert metric(-2.5 * a, -2.5 * b) == pytest.approx(2.5 * metric(a, b), rel=1e-9)


@pytest.mark.parametrize("metric", WASSERSTEIN, ids=lambda d: d.name)
def test_wasserstein_ignores_a_common_translation(metric):
    a, b = series(1), series(2, count=20)
    shift = series(3, count=1)
    assert metric(a + shift, b + shift) == pytest.approx(metric(a, b), rel=1e-9)


@pytest.mark.parametrize("domain", ["time", "frequency"])
def test_marginal_wasserstein_of_a_translated_set_is_the_mean_absolute_shift(domain):
    a = series(1)
    shift = series(3, count=1)
    coordinates = m.flat_points(shift, domain)
    assert m.marginal_wasserstein(a + shift, a, domain=domain) == pytest.approx(np.abs(coordinates).mean())


def test_sliced_wasserstein_of_a_translated_set_is_the_root_mean_square_projection_of_the_shift():
    a = series(1)
    shift = np.full((1, 21, 3), 0.7)
    # A uniform direction has mean square component 1/d along any axis: the value tends to |shift| / sqrt(d).
    assert m.sliced_wasserstein(a + shift, a, directions=4000) == pytest.approx(0.7, rel=0.05)


def test_wasserstein_triangle():
    a, b, c = series(1), series(2, count=20), series(3, count=45)
    for metric in WASSERSTEIN:
        assert metric(a, c) <= metric(a, b) + metric(b, c) + 1e-12


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("sizes", [(12, 12), (12, 18), (7, 31)])
def test_sliced_wasserstein_agrees_with_pot(p, sizes):
    a, b = series(1, count=sizes[0]), series(2, count=sizes[1])
    theta = m.unit_directions(63, 80, 5)
    flat = a.reshape(len(a), -1), b.reshape(len(b), -1)
    expected = ot.sliced_wasserstein_distance(*flat, projections=theta.T, p=p)
    assert m.sliced_wasserstein(a, b, p=p, directions=80, seed=5) == pytest.approx(expected, rel=1e-9)


def test_one_dimension_agrees_with_scipy():
    rng = np.random.default_rng(0)
    u, v = rng.standard_normal((4, 9)), rng.exponential(size=(4, 14))
    expected = [wasserstein_distance(x, y) for x, y in zip(u, v, strict=True)]
    np.testing.assert_allclose(m.wasserstein_1d(u, v, 1), expected, rtol=1e-12)


def test_sliced_wasserstein_bounds_the_true_distance_from_below():
    a, b = series(1, count=10, length=6, channels=1), series(2, count=10, length=6, channels=1)
    exact = wasserstein_distance_nd(a[:, :, 0], b[:, :, 0])
    assert 0 < m.sliced_wasserstein(a, b, p=1) <= exact


@pytest.mark.parametrize("length", [20, 21])
def test_tokens_are_a_rotation_so_both_domains_agree_on_rotated_directions(length):
    """Parseval: projecting tokens on a direction equals projecting series on the corresponding direction."""
    a, b = series(1, length=length), series(2, length=length, count=44)
    theta = m.unit_directions(3 * length, 60, 0)
    tokens = m.flat_points(theta.reshape(60, length, 3), "frequency")
    in_time = m.wasserstein_1d(theta @ m.flat_points(a, "time").T, theta @ m.flat_points(b, "time").T)
    in_frequency = m.wasserstein_1d(
        tokens @ m.flat_points(a, "frequency").T, tokens @ m.flat_points(b, "frequency").T
    )
    np.testing.assert_allclose(in_time, in_frequency, rtol=1e-9)


def test_both_domains_converge_to_one_sliced_distance():
    a, b = series(1), series(2)
    gaps = [
        np.mean(
            [
                abs(
                    m.sliced_wasserstein(a, b, directions=count, seed=seed)
                    - m.sliced_wasserstein(a, b, directions=count, seed=seed, domain="frequency")
                )
                for seed in range(8)
            ]
        )
        for count in (20, 2000)
    ]
    assert gaps[1] < gaps[0] / 4


def test_directions_are_common_nested_unit_and_not_the_callers_own_draws():
    theta = m.unit_directions(7, 40, 3)
    np.testing.assert_array_equal(theta[:10], m.unit_directions(7, 10, 3))
    np.testing.assert_allclose(np.linalg.norm(theta, axis=1), 1)
    own = np.random.default_rng(3).standard_normal((40, 7))
    assert np.abs(own / np.linalg.norm(own, axis=1, keepdims=True) - theta).max() > 0.1
    with pytest.raises(ValueError, match="read-only"):
        theta[0] = 0


def test_blocks_of_projections_do_not_change_the_figure(monkeypatch):
    a, b = series(1), series(2, count=25)
    whole = m.sliced_wasserstein(a, b, directions=100)
    monkeypatch.setattr(m, "_BLOCK", 7 * 55)
    assert m.sliced_wasserstein(a, b, directions=100) == pytest.approx(whole, rel=1e-12)


def test_sliced_wasserstein_refuses_nonsense():
    a = series(1)
    for wrong in ({"p": 0.5}, {"directions": 0}, {"domain": "wavelet"}):
        with pytest.raises(LabError):
            m.sliced_wasserstein(a, a, **wrong)


def test_log_spectral_distance_of_a_louder_copy_is_its_gain_in_decibel():
    a = series(1)
    assert m.log_spectral_distance(10 * a, a) == pytest.approx(20)


def test_log_spectral_distance_sees_a_weak_band_that_wasserstein_misses():
    rng = np.random.default_rng(0)
    spectrum = np.fft.rfft(series(1, count=200, length=64, channels=1), axis=1)
    quiet, lost = spectrum.copy(), spectrum.copy()
    quiet[:, 24:] *= 0.1
    lost[:, 24:] = 0
    a, b = (np.fft.irfft(s, n=64, axis=1) + 1e-5 * rng.standard_normal((200, 64, 1)) for s in (quiet, lost))
    assert m.sliced_wasserstein(a, b) < 0.01
    assert m.log_spectral_distance(a, b) > 5


def test_silence_gives_finite_figures():
    zero = np.zeros((5, 8, 2))
    noise = series(1, count=6, length=8, channels=2)
    for metric in DISTANCES:
        assert metric(zero, zero) == 0
        assert np.isfinite(metric(zero, noise))


def test_correlations_ignore_gain_and_offset_of_a_channel():
    a, b = series(1), series(2)
    changed = a * [2.0, 0.3, 5.0] + [10.0, -3.0, 1.0]
    assert m.autocorrelation_difference(changed, b) == pytest.approx(
        m.autocorrelation_difference(a, b), rel=1e-6
    )
    assert m.cross_correlation_difference(changed, b) == pytest.approx(
        m.cross_correlation_difference(a, b), rel=1e-6
    )


def test_autocorrelation_equals_its_definition():
    a, b = series(1, length=10), series(2, length=10, count=19)

    def by_definition(x):
        centered = x - x.mean((0, 1))
        c = np.array([(centered[:, : 10 - k] * centered[:, k:]).sum((0, 1)) for k in range(6)])
        return c / c[0]

    expected = np.sqrt(np.mean((by_definition(a) - by_definition(b))[1:] ** 2))
    assert m.autocorrelation_difference(a, b) == pytest.approx(expected)


def test_cross_correlation_equals_numpy_and_is_none_for_one_channel():
    a, b = series(1), series(2)
    ca, cb = (np.corrcoef(x.reshape(-1, 3).T)[np.triu_indices(3, 1)] for x in (a, b))
    assert m.cross_correlation_difference(a, b) == pytest.approx(np.abs(ca - cb).mean())
    assert m.cross_correlation_difference(a[..., :1], b[..., :1]) is None
    names = [[d.name for d in m.standard_metrics(channels)] for channels in (1, 2)]
    assert set(names[1]) - set(names[0]) == {"cross_correlation_difference"}


def test_relative_l2_of_a_scaled_copy_is_the_change_of_scale():
    a = series(1)
    assert m.relative_l2(1.1 * a, a) == pytest.approx(0.1)
    np.testing.assert_allclose(m.relative_l2_per_sample(1.1 * a, a), 0.1)


def test_relative_l2_pools_energies_and_names_impossible_cases():
    b = np.stack([np.full((4, 1), 3.0), np.full((4, 1), 4.0), np.zeros((4, 1))])
    a = b + np.array([[[3.0]], [[0.0]], [[0.0]]])
    assert m.relative_l2(a, b) == pytest.approx(3 / 5)
    np.testing.assert_allclose(m.relative_l2_per_sample(a, b), [1, 0, 0])
    assert m.relative_l2_per_sample(a, 0 * b)[0] == np.inf
    with pytest.raises(LabError, match="every series of the second set is zero"):
        m.relative_l2(a, 0 * b)
    with pytest.raises(LabError, match="one to one"):
        m.relative_l2(a, b[:2])


def test_unrelated_series_are_root_two_apart():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 400, 20, 1))
    assert m.relative_l2(a, b) == pytest.approx(np.sqrt(2), rel=0.03)
