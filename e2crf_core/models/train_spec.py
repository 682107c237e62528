"""State what to train and how long, and reject settings that cannot train."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from e2crf_core.errors import LabError, make_whole, whole_number


@dataclass(frozen=True)
class TrainSpec:
    """What to train and how long. `steps` fixes the schedule; 0 derives it from `minutes` and keeps it.

    `bands` are the inner edges of the bands of a spectrally causal network (E6), () for full attention.
    `truncation` is the share of batches that train only on a random number of the lowest tokens. `start` is
    the digest of the checkpoint whose weights a fine-tuning starts from, "" if there is none.
    """

    data: str
    width: int = 96
    layers: int = 4
    heads: int = 4
    hidden: int = 320
    steps: int = 0
    minutes: float = 20.0
    batch: int = 64
    learning_rate: float = 2e-3
    warmup: float = 0.05
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.999
    seed: int = 0
    patience: int = 0
    evaluate_every: int = 200
    bf16: bool = False
    truncation: float = 0.0
    bands: tuple[int, ...] = ()
    start: str = ""

    def __post_init__(self) -> None:
        """Reject settings that cannot train. Raises LabError that lists all faults."""
        object.__setattr__(self, "bands", tuple(whole_number("bands", edge) for edge in self.bands))
        make_whole(
            self, "width", "layers", "heads", "hidden", "steps", "batch", "seed", "patience", "evaluate_every"
        )
        faults = []
        if self.steps < 0 or (self.steps == 0 and not 0 < self.minutes < math.inf):
            faults.append(
                f"steps {self.steps} / minutes {self.minutes}: give a positive number of one of them"
            )
        if self.batch < 1:
            faults.append(f"batch {self.batch}: must be at least 1")
        if not 0 < self.learning_rate < 1:
            faults.append(f"learning_rate {self.learning_rate}: must lie in (0, 1)")
        if not 0 <= self.truncation <= 1:
            faults.append(f"truncation {self.truncation}: a probability in [0, 1]")
        if faults:
            raise LabError("; ".join(faults))


TRAIN_PRESETS: dict[str, dict[str, Any]] = {
    "compact": {},
    "paper": {"width": 72, "layers": 10, "heads": 12, "hidden": 2048, "learning_rate": 1e-3},
}
