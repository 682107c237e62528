"""Say how local in frequency a checkpoint's work is, and what nested bands gain from it (E5), from its error model.

Energy alone does not tell: a strong band that the Gaussian denoiser (E3) already serves needs no network. The
*influence* of a band is the squared error of finished samples if the network never runs on it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from e2crf_core.sampling.error_model import ErrorModel
from e2crf_core.sampling.schedules import PRICES

LEVELS = (0.1, 0.05, 0.025)
"""Errors of finished samples, in standard deviations of the data, at which gains are stated."""


@dataclass(frozen=True)
class NestedGain:
    """Costs in whole forwards of the best plans with predicted error at most `error`; the gain is their ratio."""

    error: float
    whole: float
    nested: float

    @property
    def ratio(self) -> float:
        """Return how many times less nested bands cost than whole refreshes; inf if they cost nothing."""
        return self.whole / self.nested if self.nested else float("inf")


@dataclass(frozen=True)
class Locality:
    """The shares of energy and influence in each band, low frequencies first, and the gains of nested bands.

    `edges` are the bands' upper edges, `cost` the costs of running the tokens below them, in whole forwards; both
    shares sum to 1.
    """

    edges: tuple[int, ...]
    cost: tuple[float, ...]
    energy: tuple[float, ...]
    influence: tuple[float, ...]
    gains: tuple[NestedGain, ...]


def localization_of(errors: ErrorModel) -> Locality:
    """Return the localization of a calibrated checkpoint and plan, with errors in units of the data."""
    tables = errors.tables()
    energy = np.array([errors.variance[low:high].sum() for low, high in errors.bands])
    never = tables.start[:, -1]
    return Locality(
        edges=errors.edges,
        cost=tuple(tables.cost.tolist()),
        energy=tuple((energy / energy.sum()).tolist()),
        influence=tuple((never / never.sum()).tolist()),
        gains=gains_of(errors),
    )


def gains_of(errors: ErrorModel) -> tuple[NestedGain, ...]:
    """Return the predicted costs of the best whole and nested plans at each of LEVELS."""
    tables = errors.tables()
    whole = [tables.whole(float(price)) for price in PRICES]
    exact = tables.cost[-1] * len(tables.candidates)
    return tuple(
        NestedGain(
            level,
            min((s.cost for s in whole if errors.corrected(s.error) <= level), default=float(exact)),
            errors.schedule(level).cost,
        )
        for level in LEVELS
    )
