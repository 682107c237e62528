"""Stop a run when non-finite values appear, naming their step, tokens, and likely cause."""

from __future__ import annotations

import torch
from torch import Tensor

from e2crf_core.caching.policy import CachePolicy
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError

SHOWN_TOKENS = 6


class NotFinite(LabError):
    """The samples became NaN or infinite at `step`, at frequencies `tokens`; `samples` are those of the batch."""

    def __init__(self, step: int, tokens: list[int], samples: list[int], cause: str, remedy: str) -> None:
        self.step, self.tokens, self.samples = step, tokens, samples
        shown = ", ".join(map(str, tokens[:SHOWN_TOKENS])) + (", ..." if len(tokens) > SHOWN_TOKENS else "")
        super().__init__(
            f"samples are not finite from step {step} on (tokens {shown}): {cause}", remedy=remedy
        )


def check_finite(z: Tensor, step: int, model: ScoreModel, policy: CachePolicy | None) -> None:
    """Raise NotFinite unless all tokens z (B, n, 2M) after `step` are finite numbers."""
    # A sum is several times cheaper than a test of every number, and non-finite if any number is.
    if bool(torch.isfinite(z.sum())):
        return
    broken = ~torch.isfinite(z).all(-1)
    if bool(broken.any()):
        samples, tokens = (broken.any(dim).nonzero()[:, 0].tolist() for dim in (1, 0))
        raise NotFinite(step, tokens, samples, *_cause(model, policy))


def _cause(model: ScoreModel, policy: CachePolicy | None) -> tuple[str, str]:
    """Return the likely cause and a remedy."""
    parameters = getattr(model.network, "parameters", None)
    weights = parameters() if callable(parameters) else ()
    if not all(bool(torch.isfinite(p).all()) for p in weights):
        return "weights of the checkpoint are not finite", "train or import it again"
    if model.dtype == torch.float16:
        return "float16 overflows", "use float32 or bfloat16"
    if policy is not None and policy.predicts:
        return "the predictor probably continues outputs too far", "hold outputs, or refresh more often"
    return "the solver probably diverges", "use more steps, another solver or another grid"
