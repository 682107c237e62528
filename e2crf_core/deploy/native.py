"""Export for programs without Python: a run's table as one binary file with a C++ program, and compiled packages."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from e2crf_core.errors import LabError

SOURCE = Path(__file__).parent / "cpp" / "sampler.cpp"
MAGIC, VERSION = 0x46433245, 3
ARRAYS = (
    *("levels", "rows", "mix", "state_mix", "kept_mix", "offset", "sigma"),
    *("c_in", "u0", "c_skip", "c_out", "d0", "start_mean", "start_spread", "mask", "mean", "std"),
)
"""The arrays of run.bin, in order."""


def write_program(tables: Mapping[str, np.ndarray], length: int, folder: Path) -> None:
    """Write sampler.cpp and run.bin: nine int32 of sizes, then ARRAYS as float32, all little-endian."""
    steps, tokens, coordinates = tables["c_in"].shape
    terms, each = tables["state_mix"].shape[1], tables["offset"][0].size
    sizes = (steps, tokens, coordinates, length, tables["mix"].shape[1], terms, each)
    with (folder / "run.bin").open("wb") as file:
        file.write(np.array((MAGIC, VERSION, *sizes), "<i4").tobytes())
        for name in ARRAYS:
            file.write(tables[name].astype("<f4").tobytes())
    shutil.copyfile(SOURCE, folder / SOURCE.name)


def compile_package(program: Any, path: Path) -> None:
    """Compile an exported program into an AOTInductor package, in about a minute.

    The package runs from Python (`load_package`), and from C++ with torch's `AOTIModelPackageLoader`, on
    processors like this one.
    """
    from torch._inductor import aoti_compile_and_package
    from torch._inductor.exc import InductorError

    try:
        # Headers compiled for later would take longer than they save: an export compiles once.
        once = {"aot_inductor.precompile_headers": False}
        aoti_compile_and_package(program, package_path=str(path), inductor_configs=once)
    except (InductorError, RuntimeError, OSError) as fault:
        raise LabError(f"the network could not be compiled: {str(fault).splitlines()[0]}") from None


def load_package(path: Path) -> Any:
    """Return the function (u, log_snr) -> F of a package that `compile_package` wrote."""
    from torch._inductor import aoti_load_package

    return aoti_load_package(str(path))
