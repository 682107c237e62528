"""Where what people make is kept: runs, imported data, trained networks. Shipped assets are elsewhere."""

from __future__ import annotations

import os
from pathlib import Path


def home_dir() -> Path:
    """The folder of this user's own things; the variable E2CRF_HOME overrides `~/.e2crf-lab`."""
    return Path(os.environ.get("E2CRF_HOME") or Path.home() / ".e2crf-lab")
