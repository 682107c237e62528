"""Results of the localization study with planted gains, for tests of its readers."""

from __future__ import annotations

import numpy as np

from benchmarks import localization_reading as reading
from e2crf_core.quality.distances import LOG_SPECTRAL_DISTANCE
from e2crf_core.quality.protocol import PRIMARY

SAMPLES = 40
LUCK = np.exp(0.2 * np.random.default_rng(0).standard_normal(SAMPLES))
"""Errors of all rows share their samples' luck, as rows on common noise do."""


def row(network: str, method: str, cost: float, error: float) -> dict:
    errors = (error * LUCK / np.median(LUCK)).tolist()
    distances = [{PRIMARY: 0.1 + error + 0.001 * seed, LOG_SPECTRAL_DISTANCE.name: 2.0} for seed in range(5)]
    plain = {"network": network, "method": method, "cost": cost, "distances": distances}
    return {**plain, "data": errors, "whitened": errors}


def table(saving: float) -> dict[str, dict]:
    """Return rows whose error is 1 / cost² alone, and the same at a `saving`-th of the cost for nested bands."""
    rows = {f"full: {c} calls": row("full", "solver", c, 0.89 / c**2) for c in range(2, 9)}
    rows |= {f"causal: {c} calls": row("causal", "solver", c, 1.0 / c**2) for c in range(2, 9)}
    fine = np.geomspace(0.2, 8, 60)
    return rows | {
        f"causal: nested {c:.3f}": row("causal", "nested", c, 0.89 / (saving * c) ** 2) for c in fine
    }


def localized(data: str = "wind", text: str = "our reading of it (paper)") -> dict:
    """Return results as the study writes them."""
    rows = reading.summary(table(3.0) | {"full: converged": row("full", "converged", 64, 0.0)})
    found = reading.with_seconds(reading.comparisons(table(3.0)), {})
    change = {"primary": [0.01, -0.02, 0.04], "spectral": [0.1, 0.0, 0.2], "verdict": "as good", "needed": 48}
    errors = {"median": 0.05, "high": 0.09}
    euler = {
        "no cache": {"cost": 1000.0},
        text: {
            "cost": 400.0,
            "data": errors,
            "whitened": errors,
            "flips": 0.0,
            "judgment": change,
        },
    }
    return {
        "quick": False,
        "data": {
            data: {
                "provenance": {"causal": {"threads": 2}},
                "machine": {"processor": text},
                "seeds": [0],
                "num": SAMPLES,
                "rows": rows,
                "comparisons": found,
                "seconds": {},
                "euler": {"full": {"steps": 1000, "num": 48, "rows": euler, "speed": {"no cache": [1, 1, 1]}}},
            }
        },
    }  # fmt: skip
