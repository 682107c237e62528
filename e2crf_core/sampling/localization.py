"""Say how local in frequency a checkpoint's work is, and what nested bands gain from it (E5), from its error model.

Energy alone does not tell: what counts is how much a finished sample suffers when a band's output is reused. That is
the *influence* of a band: the squared errors of skipping each single call, summed over the run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from e2crf_core.sampling.error_model import ErrorModel
from e2crf_core.sampling.schedules import PRICES, ErrorTables

LEVELS = (0.1, 0.05, 0.025)
"""Errors of finished samples, in standard deviations of the data, at which gains are stated."""


@dataclass(frozen=True)
class Gain:
    """Costs in whole forwards of the best plans with predicted error at most `error`; the gain is their ratio."""

    error: float
    whole: float
    nested: float

    @property
    def ratio(self) -> float:
        """Return how many times less nested bands cost than whole refreshes; inf if they cost nothing."""
        return self.whole / self.nested if self.nested else float("inf")


@dataclass(frozen=True)
class Localization:
    """The shares of energy and influence in each band, low frequencies first, and the gains of nested bands.

    `edges` are the bands' upper edges; both shares sum to 1.
    """

    edges: tuple[int, ...]
    energy: tuple[float, ...]
    influence: tuple[float, ...]
    gains: tuple[Gain, ...]


def localization_of(errors: ErrorModel) -> Localization:
    """Return the localization of a calibrated checkpoint and plan, with errors in units of the data."""
    tables = errors.tables()
    energy = np.array([errors.variance[low:high].sum() for low, high in errors.bands])
    end = len(errors.candidates)
    # Computed at call a, skipped at a + 1, computed at a + 2.
    skipped = np.array([tables.error[:, end, a, min(a + 2, end)] for a in range(end)]).sum(0)
    return Localization(
        edges=errors.edges,
        energy=tuple((energy / energy.sum()).tolist()),
        influence=tuple((skipped / skipped.sum()).tolist()),
        gains=gains_of(tables),
    )


def gains_of(tables: ErrorTables) -> tuple[Gain, ...]:
    """Return the predicted costs of the best whole and nested plans at each of LEVELS."""
    whole = [tables.whole(float(price)) for price in PRICES]
    exact = tables.cost[-1] * len(tables.candidates)
    nested = tables.frontier()
    return tuple(
        Gain(
            level,
            min((s.cost for s in whole if s.error <= level), default=float(exact)),
            min(s.cost for s in nested if s.error <= level),
        )
        for level in LEVELS
    )
