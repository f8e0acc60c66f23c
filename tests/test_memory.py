"""The allocator keeps what it is given: no page is faulted in twice."""

import ctypes
import resource
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from dynamo.memory import keep_memory
if {keep}:
    keep_memory()
step = lambda: torch.ones(32 * 2**20 // 4).sum()
step()
step()  # the second call is still given a fresh block
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc")
def test_a_block_that_comes_back_is_not_faulted_in_again() -> None:
    def faults(keep: bool) -> int:
        code = FAULTS.format(keep=keep)
        return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)

    pages = 5 * 32 * 2**20 // resource.getpagesize()
    assert faults(keep=True) < 0.05 * pages < 0.5 * faults(keep=False)
