"""Measure what a network change costs in quality: two models of one data set, paired on common noise."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from e2crf_core.data.datasets import Dataset, require_heldout
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.models.heldout import heldout_blocks
from e2crf_core.models.loss import heldout_loss
from e2crf_core.models.quality_card import SOLVER
from e2crf_core.progress import Cancel, Progress, never, silent
from e2crf_core.quality.intervals import real_floor
from e2crf_core.quality.protocol import Judgment, judge, protocol_metrics
from e2crf_core.sampling.sampler import Sampler

NUM = 512
"""Series drawn from each model unless stated otherwise."""


@dataclass(frozen=True)
class QualityChange:
    """What a network costs against another: the protocol's judgment, and all that stands beside it.

    `judgment` compares `num` uncached samples of each on common noise with all held-out series. `loss` maps
    "before" and "after" to the held-out loss with its interval, `distances` each metric's name to its values
    before and after and to the floor of real data.
    """

    num: int
    seed: int
    judgment: Judgment
    loss: dict[str, Any]
    distances: dict[str, dict[str, float]]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values for cards and results files."""
        changes = {"primary": self.judgment.primary, "spectral": self.judgment.spectral}
        return {
            "num": self.num,
            "seed": self.seed,
            "sampler": dict(SOLVER),
            "verdict": self.judgment.verdict,
            "change": {name: asdict(part.change) for name, part in changes.items() if part is not None},
            "loss": self.loss,
            "distances": self.distances,
        }


def quality_change(
    before: ScoreModel,
    after: ScoreModel,
    dataset: Dataset,
    *,
    num: int = NUM,
    seed: int = 0,
    progress: Progress = silent,
    cancelled: Cancel = never,
) -> QualityChange:
    """Compare two models of a data set by the protocol, with `num` samples of each from the same noise.

    Samples are uncached, so that the result describes only the networks. Raises Cancelled when `cancelled`
    returns True, and LabError if too few series are held out.
    """
    require_heldout(dataset)
    held, train = (dataset.standardize(dataset.x[part]) for part in (dataset.heldout, dataset.train))
    made = []
    for part, model in enumerate((before, after)):

        def report(done: int, total: int, part: int = part) -> None:
            progress(part * total + done, 2 * total)

        sampler = Sampler(model, policy=None, **SOLVER)  # type: ignore[arg-type]
        series = sampler.sample(num, seed, progress=report, cancelled=cancelled).series
        made.append(dataset.standardize(series))
    distances = {
        metric.name: {
            "before": float(metric(made[0], held)),
            "after": float(metric(made[1], held)),
            "floor": real_floor(held, num, metric, train=train).value,
        }
        for metric in protocol_metrics(len(dataset.channels))
    }
    return QualityChange(
        num,
        seed,
        judge(made[1], made[0], held, blocks=heldout_blocks(dataset), seed=seed),
        {
            name: heldout_loss(model, held, seed=seed)
            for name, model in (("before", before), ("after", after))
        },
        distances,
    )
