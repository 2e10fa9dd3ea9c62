"""The memory of a training process: a step takes and frees the same large tensors as the one before."""

import ctypes
from typing import Final

#: Of mallopt in glibc's malloc.h: the free memory, bytes, that is kept before any goes back to the system; how many
#: blocks are mapped one by one, which go back as soon as they are freed; and how many arenas there are: those of other
#: threads give memory back whatever the threshold.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_MOST: Final = 2**31 - 1


def keep_memory() -> bool:
    """Lets the process keep what it frees; whether its C library can. To be called before threads begin.

    The system clears every page that it hands out. Without this, it does so anew for the tensors of every batch, which
    took a fifth of the time of training a small network on a CPU, and two thirds of evaluating a larger one.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(
        mallopt(option, value) for option, value in ((_TRIM_THRESHOLD, _MOST), (_MMAP_MAX, 0), (_ARENA_MAX, 1))
    )
