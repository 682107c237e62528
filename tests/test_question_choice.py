"""Ways to answer are chosen on the question's own metric, and judged on windows that did not choose them."""

from dataclasses import replace

import numpy as np
import pytest

from e2crf_core import CachePolicy, LabError, load_checkpoint, load_dataset
from e2crf_core.errors import Cancelled
from e2crf_core.quality.interval import Interval
from e2crf_core.questions.answers import ASKING
from e2crf_core.questions.choosing import ChosenWay, MeasuredWay, Way, cache_way, choose, usual_ways
from tests.tiny import tiny_assets

PLAN = replace(ASKING, steps=6)


@pytest.fixture(scope="module", autouse=True)
def assets(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("E2CRF_ASSETS", str(tiny_assets(tmp_path_factory.mktemp("assets"), ("wind",))))
        yield


def asked():
    model = load_checkpoint("wind")
    known = np.ones((model.length, len(model.channels)), dtype=bool)
    known[54:90] = False
    return model, load_dataset("wind"), known


def way(name, forwards, low, high, *, cached=True):
    policy = CachePolicy(trigger="log_snr") if cached else None
    mid = Interval((low + high) / 2, low, high)
    return MeasuredWay(Way(name, replace(PLAN, policy=policy)), mid, mid, forwards)


def test_recomputing_everything_is_judged_equal_to_no_cache_at_its_cost():
    everything = Way("all", replace(PLAN, policy=CachePolicy.preset("exact")))
    seen = []
    choice = choose(
        *asked(), reference=PLAN, ways=[everything], windows=4, draws=2,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert choice.windows[0] == 4 and choice.windows[1] >= 4
    for rows in (choice.tried, choice.judged):
        assert [m.forwards for m in rows] == pytest.approx([6, 6])
        assert rows[1].ratio == Interval(1, 1, 1) and rows[1].as_good
    assert choice.proposal is None, "what saves nothing is not proposed"
    done = [part[0] for part in seen]
    assert done == sorted(done) and seen[-1][0] == seen[-1][1]


def test_the_cheapest_that_is_certain_is_proposed():
    whole = way("whole", 40, 1, 1, cached=False)
    good, cheaper, unsure = way("a", 14, 0.99, 1.01), way("b", 12, 0.99, 1.019), way("c", 8, 0.9, 1.03)
    assert ChosenWay((whole,), (whole, good, cheaper, unsure), (4, 8), 2).proposal is cheaper
    assert ChosenWay((whole,), (whole, unsure), (4, 8), 2).proposal is None


def test_other_ways_use_less_of_the_network_than_the_reference():
    names = [candidate.name for candidate in usual_ways(ASKING)]
    assert len(set(names)) == len(names)
    assert {candidate.cached for candidate in usual_ways(ASKING)} == {True, False}
    ways = [usual_ways(PLAN)[0], cache_way(PLAN, "log_snr", "hermite", 4.0)]
    choice = choose(*asked(), reference=PLAN, ways=ways, windows=4, draws=2)
    assert all(m.forwards < 6 for m in choice.tried[1:])


def test_too_few_windows_and_a_stop_end_it():
    model, data, known = asked()
    few = replace(data, split=np.where(np.arange(len(data.x)) < 5, 1, 0).astype(np.uint8))
    with pytest.raises(LabError, match="held-out windows"):
        choose(model, few, known, reference=PLAN)
    with pytest.raises(Cancelled):
        choose(model, data, known, reference=PLAN, windows=4, draws=2, cancelled=lambda: True)
