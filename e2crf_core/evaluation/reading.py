"""Summarize an evaluation in sentences. Nothing is claimed if intervals overlap."""

from __future__ import annotations

from collections.abc import Iterator

from e2crf_core.evaluation.tables import STABLE_WITHIN, Evaluation
from e2crf_core.quality.protocol import FEWEST_SEEDS, MARGIN, PRIMARY, SPECTRAL_MARGIN


def reading(evaluation: Evaluation) -> list[str]:
    """Return the evaluation in sentences, the most important ones first."""
    parts = (_reference, _anchor, _equivalent, _fastest, _slower, _certainty)
    return [line for part in parts for line in part(evaluation)]


def _primary(evaluation: Evaluation) -> str:
    """Return the name of the primary distance, for use within a sentence."""
    title = evaluation.titles[PRIMARY].removesuffix(" (time)")
    return title[:1].lower() + title[1:].replace("wasserstein", "Wasserstein")


def _reference(evaluation: Evaluation) -> Iterator[str]:
    reference = evaluation.row(evaluation.reference)
    floor, quality, name = evaluation.floors[PRIMARY], reference.quality, _primary(evaluation)
    total = len(evaluation.rows) * (len(evaluation.rows) - 1) // 2
    yield (
        f"The reference is {reference.name}: {reference.seconds.value:.3g} s for {evaluation.num} samples,"
        f" {name} {quality.value:.4f} ({quality.low:.4f} to {quality.high:.4f}). As many real training series"
        f" are {floor.value:.4f} from the held-out ones: no sampler can be expected below that floor."
    )
    yield (
        f"Of {total} pairs of rows, {len(evaluation.pairs())} can be told apart by {name}; the others must not be"
        " ranked by it."
    )


def _anchor(evaluation: Evaluation) -> Iterator[str]:
    anchor = evaluation.anchors.get("no network")
    if anchor is None:
        return
    name, quality = _primary(evaluation), evaluation.row(evaluation.reference).quality
    yield (
        f"Without a network (F = 0) the {name} is {anchor[PRIMARY]:.4f},"
        f" {100 * (anchor[PRIMARY] / quality.value - 1):+.0f}% of the reference's: a row that comes near it has"
        " learned nothing."
    )


def _equivalent(evaluation: Evaluation) -> Iterator[str]:
    """Report the rows that are certain to be as good as the reference, and those certain to be worse."""
    others = [row for row in evaluation.rows if row.name != evaluation.reference and row.against is not None]
    limits = f"{100 * MARGIN:g}%", f"{SPECTRAL_MARGIN:g} dB"
    for verdict, text in (
        ("as good", f"Certain to be within {' and '.join(limits)} of the reference"),
        ("worse", f"Certain to be worse than the reference by more than {' or '.join(limits)}"),
    ):
        names = [
            f"{row.name} ({row.against.describe()})"
            for row in others
            if row.against and row.against.verdict == verdict
        ]
        if names:
            yield f"{text}: {'; '.join(names)}."
    undecided = [row.name for row in others if row.against and row.against.verdict == "undecided"]
    if undecided:
        yield f"Too few samples to say so of {', '.join(undecided)}."


def _fastest(evaluation: Evaluation) -> Iterator[str]:
    reference = evaluation.row(evaluation.reference)
    alone = evaluation.fastest(reference, cached=False)
    cached = evaluation.fastest(reference, cached=True)
    for row, what in ((alone, "without a cache"), (cached, "with E²-CRF")):
        if row is None:
            yield f"No row {what} is as good as the reference."
            continue
        worse = [
            title.lower()
            for metric, title in evaluation.titles.items()
            if metric != PRIMARY and not evaluation.not_worse(row, reference, (metric,))
        ]
        but = f", though clearly worse in {', '.join(worse)}" if worse else ", and worse in no other distance"
        yield (
            f"The fastest row {what} that is not worse than the reference is {row.name}:"
            f" {row.speedup.value:.1f} times as fast in wall clock ({row.speedup.low:.1f} to"
            f" {row.speedup.high:.1f}), {reference.flops / row.flops:.1f} times in operations{but}."
        )
    if alone is not None and cached is not None:
        ratio = alone.seconds.value / cached.seconds.value
        word = "faster" if ratio > 1 else "slower"
        yield (
            f"At that quality the best cached row is {max(ratio, 1 / ratio):.2f} times {word} than the best solver"
            " alone." + (" Caching does not pay here: take the better solver." if ratio <= 1 else "")
        )


def _slower(evaluation: Evaluation) -> Iterator[str]:
    for row in evaluation.rows:
        if row.speedup_twin is not None and row.speedup_twin.value < 1:
            yield (
                f"{row.name} is slower than the same solver without a cache"
                f" ({row.speedup_twin.value:.2f} times its speed)."
            )


def _certainty(evaluation: Evaluation) -> Iterator[str]:
    if evaluation.interval == "bootstrap":
        yield (
            f"With {evaluation.repeats} repeat(s) the intervals are bootstrap intervals of one run: use at least"
            f" {FEWEST_SEEDS} repeats to see the spread from seed to seed."
        )
    else:
        yield (
            f"Intervals are 95% intervals of the mean over {evaluation.repeats} seeds, all against the same"
            f" {evaluation.heldout} held-out series: they say what other seeds would give, not what other data would."
        )
    if PRIMARY in evaluation.stable:
        curve, share, name = (
            evaluation.stable[PRIMARY],
            f"{100 * STABLE_WITHIN:g}%",
            _primary(evaluation),
        )
        yield (
            f"The {name} of the reference is known to within {share} from {curve.size} samples on."
            if curve.size is not None
            else f"Even all {curve.sizes[-1]} samples of the reference leave its {name} uncertain by more"
            f" than {share}: take more samples to tell rows apart that are this close."
        )
    if any(row.sessions > 1 for row in evaluation.rows):
        yield "The evaluation was interrupted: timings come from more than one process."
