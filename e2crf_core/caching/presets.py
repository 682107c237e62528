"""Choose presets for a network: `quality`, `balanced` and `fast` follow its bands if it is spectrally causal (E6).

On a causal network they are `nested` plans for a tolerated error of finished samples, so that they mean the same for
every data set, solver and number of steps. On a network with full attention, where nested plans gain nothing, they
refresh everything on a schedule of the noise level. Those schedules have names of their own on every network:
`quality_clock`, `balanced_clock` and `fast_clock`.
"""

from __future__ import annotations

from functools import lru_cache

from e2crf_core.caching.policy import PRESETS, CachePolicy, find_preset
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.network.forward import band_edges_of

TOLERATED = {"quality": 0.02, "balanced": 0.05, "fast": 0.1}
"""The error of finished samples that each nested preset tolerates, in standard deviations of the data."""
CLOCK = "_clock"


def presets_of(model: ScoreModel) -> dict[str, CachePolicy]:
    """Return the presets of a model by name."""
    return presets_for(bool(band_edges_of(model.network)))


@lru_cache(maxsize=2)
def presets_for(causal: bool) -> dict[str, CachePolicy]:
    """Return the presets of spectrally causal networks, or of those with full attention, by name."""
    clocks = {name + CLOCK: PRESETS[name] for name in TOLERATED}
    if not causal:
        return PRESETS | clocks
    nested = {name: CachePolicy.of("nested").replace(tau=tau) for name, tau in TOLERATED.items()}
    return PRESETS | nested | clocks


def preset_of(name: str, model: ScoreModel) -> CachePolicy:
    """Return a model's preset by name. Raises LabError for an unknown name."""
    return find_preset(name, presets_of(model))


def preset_name(policy: CachePolicy, model: ScoreModel) -> str | None:
    """Return the name of a policy among a model's presets, None if it is none of them."""
    return next((name for name, preset in presets_of(model).items() if preset == policy), None)
