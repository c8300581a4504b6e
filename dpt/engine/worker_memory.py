"""The heap of a process that loads images, one after the other."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt(3)

KEPT_BYTES = 256 << 20
"""Freed memory that stays with the process: many times what one sample takes."""

_MAPPED_FROM = 32 << 20  # the most that glibc takes


def keep_freed_memory() -> bool:
    """Let glibc keep the memory of freed images for the next ones, where it is the C library.

    Until some large block is freed, it hands each back to the system at once, and every page of the next
    image is fetched and zeroed anew: 5 to 10 % of the time of a training pipeline.

    Returns:
        Whether the C library has taken the setting.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return False
    settings = ((_M_MMAP_THRESHOLD, _MAPPED_FROM), (_M_TRIM_THRESHOLD, KEPT_BYTES))
    taken = [mallopt(parameter, value) for parameter, value in settings]
    return all(taken)
