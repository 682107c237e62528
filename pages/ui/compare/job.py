"""The runs of a comparison, one after the other, so that they do not compete for processor time."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from e2crf_core.runs.run import FINISHED, RunHandle, RunSpec
from pages.ui.common.compared import config_of, name_of
from pages.ui.common.registry import RunRegistry


@dataclass
class ComparisonJob:
    """Runs of settings (see `compared`) on the same noise."""

    settings: tuple[str, ...]
    specs: tuple[RunSpec, ...]
    runs: list[RunHandle] = field(default_factory=list)

    @staticmethod
    def of(settings: Sequence[str], checkpoint: str, num: int, seed: int) -> "ComparisonJob":
        """Plan the runs. Raises LabError for a setting that cannot run."""
        specs = tuple(RunSpec(checkpoint, num, seed, config_of(s), compare=False) for s in settings)
        return ComparisonJob(tuple(settings), specs)

    @property
    def names(self) -> list[str]:
        """Names of the settings."""
        return [name_of(setting) for setting in self.settings]

    def advance(self, registry: RunRegistry, owner: str = "") -> None:
        """Start the next run when it is due; call this until `over`. Raises LabError when too many runs wait."""
        if self.runs:
            self.runs[-1].touch()
            if self.runs[-1].status != "done":
                return
        if len(self.runs) < len(self.specs):
            self.runs.append(registry.start(self.specs[len(self.runs)], owner))

    @property
    def over(self) -> bool:
        """Whether the comparison is over: all runs are done, or one failed or was stopped."""
        ended = bool(self.runs) and self.runs[-1].status in FINISHED
        return ended and (self.runs[-1].status != "done" or len(self.runs) == len(self.specs))

    @property
    def progress(self) -> float:
        """Share of all steps that are done."""
        done = sum(run.progress * run.spec.config.steps for run in self.runs)
        return min(1.0, done / sum(spec.config.steps for spec in self.specs))
