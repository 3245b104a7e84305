"""glibc's allocator for processes that serve for months in little memory; elsewhere nothing happens."""

from __future__ import annotations

import ctypes
from typing import Final

#: Parameters of mallopt(3).
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8


def _glibc() -> ctypes.CDLL | None:
    """The C library, None where it is not glibc and has no such calls."""
    try:
        found = ctypes.CDLL(None)
        _ = found.mallopt, found.malloc_trim
    except (OSError, AttributeError):
        return None
    return found


_LIBC: Final = _glibc()


def tune(*, arenas: int, mmap_bytes: int, trim_bytes: int) -> None:
    """Set the allocator up; to be called before threads begin and before anything large is imported.

    Args:
        arenas: Heaps at most: each thread that works on large things would otherwise keep the peak of its own for ever.
        mmap_bytes: Blocks of this size are taken from the system, and given back to it, one by one.
        trim_bytes: So much may lie free at the end of a heap before it is given back.
    """
    if _LIBC is not None:
        _LIBC.mallopt(_ARENA_MAX, arenas)
        _LIBC.mallopt(_MMAP_THRESHOLD, mmap_bytes)
        _LIBC.mallopt(_TRIM_THRESHOLD, trim_bytes)


def give_back() -> None:
    """Return what is free to the system: what lies free between blocks in use stays with the process otherwise."""
    if _LIBC is not None:
        _LIBC.malloc_trim(0)
