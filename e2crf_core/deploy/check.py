"""Measure a card again and decide whether it still holds."""

from __future__ import annotations

from dataclasses import dataclass

from e2crf_core.deploy.card import CheckpointChanged, Measured, PolicyCard, Validity
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


def _distances(measured: Measured, valid: Validity) -> list[str]:
    """Return the distances to held-out data that changed by more than is stated."""
    return [
        f"quality: the {name} changed by {scale * change.value:+.3g}{unit}, at most"
        f" {scale * limit:+.3g}{unit} is stated"
        for name, change, limit, scale, unit in (
            ("marginal Wasserstein distance", measured.change, valid.change_max, 100, "%"),
            ("log-spectral distance", measured.spectral_change, valid.spectral_change_max, 1, " dB"),
        )
        if change is not None and limit is not None and not change.value <= limit
    ]


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
    twin, median = measured.twin, valid.median_l2_max
    if twin is not None and median is not None and not twin.median.value <= median:
        reasons.append(
            f"quality: the median sample's relative L2 is {twin.median.value:.4g}, at most {median:.4g} is stated"
        )
    reasons += _distances(measured, valid)
    if measured.change is None:
        notes.append(f"data set {card.dataset!r} is not here: distances were not compared")
    elif valid.change_max is None:
        notes.append("the card states no distances: they were not compared")
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
