"""Find the files that ship with the package: data sets, checkpoints, and the demo run.

They are in `assets/` at the top of the repository. The wheel carries them as `e2crf_core/assets`; a checkout
and an editable install, which do not copy the package, use the folder beside the package.
"""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path


def assets_dir() -> Path:
    """Return the folder of the shipped files; the environment variable E2CRF_ASSETS overrides it."""
    if chosen := os.environ.get("E2CRF_ASSETS"):
        return Path(chosen)
    package = Path(str(files("e2crf_core")))
    installed = package / "assets"
    return installed if installed.is_dir() else package.parent / "assets"
