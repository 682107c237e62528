"""Readable axes: time in the unit that fits a window, channels with their units."""

from typing import Any

from e2crf_core.data.datasets import Dataset

STEPS_AXIS: dict[str, Any] = {"title": "time (steps of the window)", "step": 1.0}
_UNITS = (("s", 1.0, 120), ("min", 60.0, 120), ("h", 3600.0, 72), ("days", 86400.0, float("inf")))


def time_axis(data: Dataset) -> dict[str, Any]:
    """Return the title of the time axis and the length of one step, in the unit that fits a window."""
    seconds = data.card.get("sampling", {}).get("seconds")
    if not seconds:
        return dict(STEPS_AXIS)
    span = seconds * data.length
    unit, size = next((name, size) for name, size, most in _UNITS if span <= most * size)
    return {"title": f"time ({unit})", "step": seconds / size}


def channel_title(data: Dataset, channel: int) -> str:
    """Return a channel's name with its unit."""
    unit = data.units[channel]
    return f"{data.channels[channel]} ({unit})" if unit else data.channels[channel]
