"""A killed writer loses nothing that it reported; a flipped bit is refused (`make kill` in a small form)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kill.__main__ import FLIPPED, flips, kills
from tests.kill.stores import KINDS, Store

SEED = 1


@pytest.fixture(scope="module", params=KINDS, ids=[kind.name for kind in KINDS])
def store(request: pytest.FixtureRequest) -> Store:
    return request.param()


def test_a_killed_writer_leaves_a_whole_store_and_nothing_else(store: Store, tmp_path: Path) -> None:
    assert kills(store, tmp_path / "store", 2, SEED) == []


def test_a_flipped_bit_is_refused_or_changes_nothing(store: Store, tmp_path: Path) -> None:
    outcomes = flips(store, tmp_path / "store", 12, SEED)
    assert outcomes["refused"] and not outcomes.keys() - set(FLIPPED), outcomes
