"""Measure a card again and decide whether it still holds."""

from __future__ import annotations

from dataclasses import dataclass

from e2crf_core.deploy.card import CheckpointChanged, Measured, PolicyCard
from e2crf_core.deploy.measure import measure_policy
from e2crf_core.progress import Cancel, Progress, never, silent


@dataclass(frozen=True)
class Verdict:
    """The outcome of a check: `reasons` for a failure, and `notes` on what was not compared."""

    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    measured: Measured | None

    @property
    def passed(self) -> bool:
        """Return whether the card still holds."""
        return not self.reasons


def check_card(
    card: PolicyCard, device: str = "auto", progress: Progress = silent, cancelled: Cancel = never
) -> Verdict:
    """Measure a card again on its own seed. Raises LabError if it cannot be run at all."""
    try:
        model = card.model(device)
    except CheckpointChanged as fault:
        return Verdict((str(fault),), (), None)
    measured = measure_policy(
        model,
        card.config,
        num=card.measured.num,
        seed=card.measured.seed,
        progress=progress,
        cancelled=cancelled,
    )
    return judge(card, measured, model.device.type)


def judge(card: PolicyCard, measured: Measured, device: str) -> Verdict:
    """Compare a remeasurement with a card's range. Speed counts only on the card's kind of device.

    Each comparison is written so that NaN fails it.
    """
    valid, reasons, notes = card.valid, [], []
    error = measured.relative_l2.value
    if not error <= valid.relative_l2_max:
        reasons.append(
            f"quality: relative L2 to the uncached twin is {error:.4g}, at most {valid.relative_l2_max:.4g} is stated"
        )
    change, limit = measured.sliced_wasserstein_change, valid.sliced_wasserstein_change_max
    if change is None or limit is None:
        notes.append(f"data set {card.dataset!r} is not here: distances were not compared")
    elif not change.value <= limit:
        reasons.append(
            f"quality: sliced Wasserstein changed by {change.value:+.4g}, at most {limit:+.4g} is stated"
        )
    if not measured.speedup_flops >= valid.speedup_flops_min:
        reasons.append(
            f"speed: {measured.speedup_flops:.3g} times fewer operations than uncached, at least"
            f" {valid.speedup_flops_min:.3g} is stated"
        )
    if device != card.device:
        notes.append(f"wall clock is stated for {card.device}, this is {device}: not compared")
    elif not measured.speedup_wall.value >= valid.speedup_wall_min:
        reasons.append(
            f"speed: {measured.speedup_wall.value:.3g} times as fast as uncached, at least"
            f" {valid.speedup_wall_min:.3g} is stated"
        )
    return Verdict(tuple(reasons), tuple(notes), measured)
