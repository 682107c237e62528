"""Wait for other threads and processes, however busy the machine is."""

import time

PATIENCE_S = 300


def until(condition, seconds=PATIENCE_S):
    """Wait until a condition holds; returns its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)
    return value
