"""A recorded run as tables and as one line of text."""

import numpy as np
import pandas as pd

from e2crf_core.caching.events import Reason
from e2crf_core.runs.archive import Archive
from e2crf_core.runs.layer_errors import LayerTable
from pages.ui.common.messages import plain_text

COLUMNS = (
    "step",
    "t",
    "log_snr",
    "policy_version",
    "share",
    "tokens",
    "flops",
    "seconds",
    "tau",
    "r",
    "r_mean",
)


def summary(archive: Archive) -> str:
    """Describe a run in one line of Markdown."""
    spec, result = archive.spec, archive.result
    computed = "" if result is None else f", **{result.token_share:.1%}** of the tokens computed"
    twin = result.comparison if result is not None else None
    error = "" if twin is None else f", relative L2 to the uncached twin **{twin.relative_l2:.3f}**"
    note = f" *{plain_text(archive.note)}*" if archive.note.strip() else ""
    solver = spec.config.solver.replace("_", "-")
    return (
        f"**{plain_text(spec.checkpoint)}**, {plain_text(solver)}, {archive.recorder.count} of "
        f"{spec.config.steps} steps, batch of {spec.num}, seed {spec.seed}{computed}{error}.{note}"
    )


def steps_table(archive: Archive) -> pd.DataFrame:
    """Return one row for each step: the decisions for the watched sample and the batch, and their cost."""
    recorder = archive.recorder
    frame = pd.DataFrame({name: recorder.column(name) for name in COLUMNS})
    for reason in Reason:
        frame[reason.name.lower()] = (recorder.column("reasons") == reason).sum(1)
    return frame


def layers_table(table: LayerTable) -> pd.DataFrame:
    """Return one row for each step and frequency: differences from a fresh forward, as kept and as used."""
    steps, _, n = table.kept.shape
    step, k = np.divmod(np.arange(steps * n), n)
    frame = {"step": step + 1, "k": k}
    for side in ("kept", "used"):
        rows = getattr(table, side).transpose(0, 2, 1).reshape(steps * n, -1)
        frame |= {f"{side} {name}": rows[:, i] for i, name in enumerate(table.names)}
    return pd.DataFrame(frame)
