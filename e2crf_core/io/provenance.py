"""Record where measurements come from: code, data, checkpoint, versions, and the machine.

Every results file carries a `Provenance`; a reader refuses to mix or compare mismatched results.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from e2crf_core.errors import LabError
from e2crf_core.version import __version__

MUST_FIT = ("data", "checkpoint")
"""Fields that two results must share before they are compared."""


def machine() -> dict[str, Any]:
    """Return everything about this machine on which timings depend, as plain JSON values."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "system": platform.platform(terse=True),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@dataclass(frozen=True)
class Provenance:
    """The origin of a results file.

    `commit` is the code's revision, with `+` where files had changed; None outside a checkout. `data` and
    `checkpoint` are digests, `versions` those of the package, Python, NumPy and torch, `seeds` the seeds of all
    repeats, `batch` the samples run together.
    """

    commit: str | None
    data: str
    checkpoint: str
    versions: dict[str, str]
    threads: int
    seeds: tuple[int, ...]
    batch: int
    command: tuple[str, ...] = field(default_factory=tuple)

    @staticmethod
    def now(*, data: str, checkpoint: str, seeds: Sequence[int], batch: int) -> Provenance:
        """Return the provenance of a measurement made by this process."""
        return Provenance(
            commit=commit(),
            data=data,
            checkpoint=checkpoint,
            versions=versions(),
            threads=torch.get_num_threads(),
            seeds=tuple(seeds),
            batch=batch,
            command=(Path(sys.argv[0]).name, *sys.argv[1:]),
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; `from_json` restores an equal provenance."""
        return {**asdict(self), "seeds": list(self.seeds), "command": list(self.command)}

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> Provenance:
        """Invert `to_json`. Raises LabError for anything else."""
        try:
            values = {**stored, "seeds": tuple(stored["seeds"]), "command": tuple(stored.get("command", ()))}
            return Provenance(**values)
        except (KeyError, TypeError) as fault:
            raise LabError(f"not a provenance: {fault}") from None

    def require(self, other: Provenance) -> None:
        """Raise LabError unless both were measured on the same data with the same checkpoint."""
        differ = [name for name in MUST_FIT if getattr(self, name) != getattr(other, name)]
        if differ:
            raise LabError(f"the results do not fit together: another {' and another '.join(differ)}")


def versions() -> dict[str, str]:
    """Return the versions of everything that determines samples and distances."""
    return {
        "e2crf": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
    }


@lru_cache(maxsize=1)
def commit() -> str | None:
    """Return the revision of this package's checkout, with `+` if tracked files have changed."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        revision = _git(root, "rev-parse", "--short=12", "HEAD")
        return revision + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()
