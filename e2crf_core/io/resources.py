"""Find the files that ship with the package: data sets, checkpoints, the demo run, and the canvases' scripts.

They are in `assets/` and `pages/ui/front` of the repository. The wheel carries them as `e2crf_core/assets` and
`e2crf_core/front`; a checkout and an editable install, which do not copy the package, use the folders beside the
package.
"""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path


def assets_dir() -> Path:
    """Return the folder of the shipped files; the environment variable E2CRF_ASSETS overrides it."""
    if chosen := os.environ.get("E2CRF_ASSETS"):
        return Path(chosen)
    return _shipped("assets", "assets")


def front_dir() -> Path:
    """Return the folder of the canvases' scripts and styles, which pages and exported files share."""
    return _shipped("front", "pages/ui/front")


def _shipped(inside: str, beside: str) -> Path:
    """Return a folder inside the installed package or, in a checkout, beside it."""
    package = Path(str(files("e2crf_core")))
    installed = package / inside
    return installed if installed.is_dir() else package.parent / beside
