"""How long does importing a large CSV take, and how much memory?

    python -m benchmarks.import_size [--megabytes 300] [--repeats 3] [--out FILE.json]

Writes a CSV of minutes (a time stamp and eight channels of four decimals, a thousandth of the cells empty) and
imports it as a user would, in a process of its own, with gaps of up to three rows filled. Bars for 300 MB: under
15 s of wall clock and 2 GB of memory. Values are medians over repeats with their range.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from e2crf_core.io.files import replace_file
from e2crf_core.io.provenance import Provenance

CHANNELS = 8
BLOCK = 50_000
SEED = 30_000


def write_csv(path: Path, megabytes: float) -> int:
    """Write the file; returns its number of rows."""
    rng = np.random.default_rng(SEED)
    start, rows = np.datetime64("2000-01-01T00:00", "m"), 0
    level = np.zeros(CHANNELS)
    with path.open("w", encoding="ascii") as file:
        file.write("time," + ",".join(f"c{i + 1}" for i in range(CHANNELS)) + "\n")
        while file.tell() < megabytes * 1e6:
            values = level + rng.standard_normal((BLOCK, CHANNELS)).cumsum(0)
            level = 0.5 * values[-1]
            stamps = np.datetime_as_string(start + np.arange(rows, rows + BLOCK)).tolist()
            cells = np.char.mod("%.4f", values)
            cells[rng.random(cells.shape) < 1e-3] = ""
            file.write(
                "".join(f"{t},{','.join(row)}\n" for t, row in zip(stamps, cells.tolist(), strict=True))
            )
            rows += BLOCK
    return rows


def import_once(path: Path, out: Path) -> dict[str, Any]:
    """Import the file in a process; returns its wall clock and CPU seconds, its peak memory, and its windows."""
    command = [sys.executable, "-m", "e2crf_core", "data", "import", str(path), "--window", "256"]
    command += ["--gaps", "interpolate", "--out", str(out)]
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the import ended with {process.returncode}")
    return {
        "seconds": time.perf_counter() - begin,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_gb": usage.ru_maxrss * 1024 / 1e9,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=float, default=300)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.csv"
        rows = write_csv(path, arguments.megabytes)
        runs = [import_once(path, Path(folder) / str(i)) for i in range(arguments.repeats)]
        size = path.stat().st_size / 1e6
    result: dict[str, Any] = {"megabytes": size, "rows": rows, "repeats": len(runs)}
    for key in runs[0]:
        values = [run[key] for run in runs]
        result[key] = {"value": float(np.median(values)), "low": min(values), "high": max(values)}
    result["provenance"] = Provenance.now(
        data=f"{arguments.megabytes:g} MB, seed {SEED}", checkpoint="", seeds=[SEED], batch=1
    ).to_json()
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.out:
        replace_file(arguments.out, lambda target: target.write_text(text + "\n"))


if __name__ == "__main__":
    main()
