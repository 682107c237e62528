"""Choose the device for a model."""

from __future__ import annotations

import torch

from e2crf_core.errors import LabError


def choose_device(name: str = "auto") -> torch.device:
    """Return the device `name`; `auto` is CUDA if available, else the CPU. Raises LabError if unavailable."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    remedy = "use auto, cpu or cuda"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise LabError(f"unknown device {name!r}", field="device", remedy=remedy)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise LabError(
            f"this machine has no CUDA device for {name!r}", field="device", remedy="use auto or cpu"
        )
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise LabError(f"there is no device {name!r}: this machine has {count} CUDA devices", field="device")
    return device
