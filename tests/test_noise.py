"""Laws of noise: published vectors, equal to the last bit in NumPy and torch, and a stream that never changes."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from e2crf_core import CachePolicy, LabError, Sampler, SamplerConfig
from e2crf_core.cuda import Captured
from e2crf_core.diffusion.noise import NOISES, noise_stream, transitions
from e2crf_core.diffusion.philox import normals, philox
from e2crf_core.runs.manifest import SpecPart
from e2crf_core.runs.run import RunSpec
from e2crf_core.runs.twin import twin_key
from tests.pretend_device import replayed

ONES = 0xFFFFFFFF
PUBLISHED = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
"""Counter, key, and result of philox4x32-10 in Random123's known-answer tests."""
MASK = torch.ones(5, 6)
COUNTER = {"steps": 12, "policy": CachePolicy(trigger="fixed", refresh_every=4), "noise": "counter"}


def stream(seed: int = 3, batch: int = 2, first: int = 0, name: str = "counter", mask: torch.Tensor = MASK):
    return noise_stream(name, seed, batch, mask, dtype=torch.float32, first=first)


@pytest.mark.parametrize(("counter", "key", "expected"), PUBLISHED)
@pytest.mark.parametrize("array", [np.array, torch.tensor])
def test_philox_gives_the_published_vectors(counter, key, expected, array) -> None:
    words = philox(tuple(array([word]) for word in counter), key)
    assert tuple(int(word[0]) for word in words) == expected


def test_numbers_are_equal_to_the_last_bit_in_numpy_and_torch() -> None:
    place = np.arange(20_000)
    ours = philox((place, 1, place, 3), (5, 7))
    other = philox((torch.from_numpy(place), 1, torch.from_numpy(place), 3), (5, 7))
    extremes = np.array(list(itertools.product([0, 1, ONES >> 1, ONES], repeat=2))).T
    for one, two in zip(
        (*ours, *normals(ours[0], ours[1]), *normals(*extremes)),
        (*other, *normals(other[0], other[1]), *normals(*torch.from_numpy(extremes))),
        strict=True,
    ):
        np.testing.assert_array_equal(one, two.numpy())


def test_box_muller_is_exact_to_a_billionth_and_normal() -> None:
    words = philox((np.arange(50_000), 0, 0, 0), (1, 0))
    made = normals(words[0], words[1])
    radius = np.sqrt(-2 * np.log((words[0] + 0.5) / 2**32))
    # The lower bits of the angle lie around the middle of its quarter.
    turn = (words[1] >> 30) * np.pi / 2 + ((words[1] & (1 << 30) - 1) - (1 << 29)) * np.pi / 2**31
    np.testing.assert_allclose(made, [radius * np.cos(turn), radius * np.sin(turn)], atol=1e-9)
    assert stats.kstest(np.concatenate(made), "norm").pvalue > 0.01
    assert abs(np.corrcoef(*made)[0, 1]) < 0.02


def test_the_stream_is_what_its_documentation_says_and_never_changes() -> None:
    """(g, step, sample, purpose) by NumPy alone; the numbers were written down when the stream was made."""
    place = np.arange(8)
    words = philox((place, 17, 4, 1), (3, 0))
    pairs = [*normals(words[0], words[1]), *normals(words[2], words[3])]
    expected = np.stack(pairs, axis=-1).ravel()[:30].astype(np.float32)
    np.testing.assert_array_equal(stream(first=4).at(17)[0].ravel().numpy(), expected)
    np.testing.assert_allclose(expected[:4], FROZEN, rtol=1e-6)


FROZEN = (-1.458018760765794, 0.6253773862182799, 1.7201271367224449, 0.13423136810565334)


@pytest.mark.parametrize("name", NOISES)
def test_a_draw_depends_on_seed_sample_and_step_alone(name: str) -> None:
    together, alone = stream(batch=3, name=name), stream(batch=1, first=2, name=name)
    for step in (40, 3, 15, 16):
        np.testing.assert_array_equal(together.at(step)[2], alone.at(step)[0])
    np.testing.assert_array_equal(together.initial()[2], alone.initial()[0])
    np.testing.assert_array_equal(together.uniform(9)[2], alone.uniform(9)[0])
    draws = [together.at(1), together.at(2), together.initial(), stream(4, 3, name=name).at(1)]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(draws, 2))
    assert (together.uniform(9) > 0).all() and (together.uniform(9) < 1).all()


@pytest.mark.parametrize("name", NOISES)
def test_weighted_steps_are_the_sum_of_their_draws(name: str) -> None:
    weights = torch.rand(1, 21, *MASK.shape)
    expected = sum(weights[:, i, None] * stream(name=name).at(7 + i) for i in range(21))
    torch.testing.assert_close(stream(name=name).mixed(7, weights), expected)


def test_coordinates_that_do_not_exist_get_no_noise_and_wide_tokens_are_no_exception() -> None:
    mask = torch.ones(200, 400)
    mask[3] = 0
    drawn = stream(batch=1, mask=mask).at(5)
    assert (drawn[0, 3] == 0).all() and (drawn[0, 4] != 0).all()
    torch.testing.assert_close(drawn, stream(batch=2, mask=mask).at(5)[:1], rtol=0, atol=0)


def test_a_run_on_counters_is_one_noise_in_every_batch_and_another_than_numpy_s(model) -> None:
    together = Sampler(model, **COUNTER).sample(3, 1).tokens
    np.testing.assert_allclose(Sampler(model, **COUNTER, batch=1).sample(3, 1).tokens, together, atol=1e-9)
    other = Sampler(model, **{**COUNTER, "noise": "numpy"}).sample(3, 1).tokens
    assert np.abs(other - together).max() > 0.1


def test_every_record_of_a_run_keeps_its_noise_and_old_ones_mean_the_first_stream(model) -> None:
    config = SamplerConfig(**COUNTER)
    assert SamplerConfig.from_json(config.to_json()) == config
    spec = RunSpec("ecg", 1, 0, config)
    stored = SpecPart.of(spec)
    assert SpecPart.model_validate_json(stored.model_dump_json()).spec() == spec
    old = stored.model_dump(exclude={"noise", "backend"})
    assert SpecPart.model_validate(old).spec().config.noise == "numpy"
    first = SamplerConfig(**{**COUNTER, "noise": "numpy"})
    assert "noise" not in first.to_json() and SamplerConfig.from_json(first.to_json()) == first
    assert twin_key(model, config, 1, 0) != twin_key(model, first, 1, 0)
    assert "noise counter" in config.describe()


def test_a_backend_is_kept_with_a_run() -> None:
    spec = RunSpec("ecg", 1, 0, SamplerConfig(steps=12, backend="eager-bf16"))
    assert SpecPart.of(spec).spec() == spec


def test_an_unknown_stream_is_refused_by_name() -> None:
    with pytest.raises(LabError, match="unknown noise 'dice'") as fault:
        SamplerConfig(noise="dice")
    assert fault.value.field == "noise"


def test_numbers_that_are_captured_as_one_launch_are_those_of_the_stream() -> None:
    """A GPU gets seed, samples and steps as tensors, whose places a captured graph reads."""
    seed, first = (5 << 32) + 3, 7
    expected = stream(seed, batch=2, first=first)
    low, high = torch.tensor([seed & 0xFFFFFFFF, seed >> 32])
    samples = torch.arange(first, first + 2)
    made = Captured(transitions, replayed)(torch.arange(20), samples, low, high, MASK)
    assert torch.equal(made, torch.stack([expected.at(step) for step in range(20)]))
