"""Let the threads of torch's math library sleep while they wait, whether torch is imported before the package or after.

By default they spin for some milliseconds after every parallel loop, and starve one another as soon as anything
else needs a core (a browser, a second run): steps of 2 ms were measured to take 400 ms. OMP_WAIT_POLICY=PASSIVE
prevents it, but is read only once, when the library is loaded. Later, there is one other way: GNU's library stops
spinning while it manages more threads than there are cores, so a team of that many, asleep for good, is enough.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import warnings
from pathlib import Path

MOST_CORES = 64
"""The number of cores up to which a sleeping team is made."""


def wait_passively() -> None:
    """Set how threads wait, unless the environment states it; warn if torch was imported first and it cannot be set."""
    if "OMP_WAIT_POLICY" in os.environ or "GOMP_SPINCOUNT" in os.environ:
        return
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    if "torch" in sys.modules and not all([_hold_team(path) for path in _loaded_libraries()] or [False]):
        warnings.warn(
            "torch was imported before e2crf_core, so its threads spin while they wait, which makes runs several times"
            " slower on a busy machine: import e2crf_core first, or set OMP_WAIT_POLICY=PASSIVE in the environment",
            RuntimeWarning,
            stacklevel=3,
        )


def _loaded_libraries() -> list[str]:
    """Return the paths of GNU's OpenMP libraries in this process; none except on Linux."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return []
    return sorted({line.split(maxsplit=5)[-1] for line in lines if "/libgomp" in line})


def _hold_team(path: str) -> bool:
    """Make a team of one thread more than there are cores, and let it sleep until the process ends."""
    try:
        library = ctypes.CDLL(path)
        size, parallel = library.omp_get_num_procs() + 1, library.GOMP_parallel
        nothing = ctypes.cast(ctypes.CDLL(None).free, ctypes.c_void_p)  # free(NULL) does nothing
    except (OSError, AttributeError):
        return False
    if size > MOST_CORES + 1:
        return False
    made = threading.Event()

    def hold() -> None:
        # The team belongs to the thread that made it, and is dissolved when that ends.
        parallel(nothing, None, ctypes.c_uint(size), ctypes.c_uint(0))
        made.set()
        threading.Event().wait()

    threading.Thread(target=hold, name="sleeping-team", daemon=True).start()
    return made.wait(10)
