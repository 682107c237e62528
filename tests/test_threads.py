"""Threads sleep while they wait, in whichever order torch and the package are imported."""

import subprocess
import sys

import pytest

BURN = """
import os, time, warnings
warnings.simplefilter("error", RuntimeWarning)
import torch

torch.set_num_threads(2)

def burnt():
    "Return the seconds of computing in 40 pauses, each after a short parallel loop."
    values, total = torch.ones(1 << 18), 0.0
    for _ in range(40):
        values.add_(1.0)
        begin = time.process_time()
        time.sleep(0.004)
        total += time.process_time() - begin
    return total

before = burnt()
import e2crf_core
print(before, burnt(), os.environ["OMP_WAIT_POLICY"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="another OpenMP library")
def test_a_program_that_imports_torch_first_does_not_spin() -> None:
    result = subprocess.run(
        [sys.executable, "-c", BURN], env={}, capture_output=True, text=True, check=True, timeout=240
    )
    before, after, policy = result.stdout.split()
    if float(before) < 0.02:
        pytest.skip("the threads of this torch do not spin")
    assert float(after) < 0.3 * float(before)
    assert policy == "PASSIVE"
