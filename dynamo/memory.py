"""What training asks of the memory allocator."""

from __future__ import annotations

import ctypes
import sys


def keep_memory() -> None:
    """Let glibc keep freed memory instead of returning it to the system after every step.

    Large blocks are otherwise mapped afresh each time, and every fresh page costs a fault: a third of a training
    step on the CPU was spent on them. The price is that the process holds on to its peak. Nothing where there is no
    glibc.
    """
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)
