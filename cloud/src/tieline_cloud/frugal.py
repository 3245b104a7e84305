"""Memory of the serving process: what is set once at its start, because it holds for the whole process."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Final

#: Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8
#: Above the columns of a commit, whose pages would else be taken from the system and given back all the time.
_MMAP_BYTES: Final = 16 * 1024 * 1024
_TRIM_BYTES: Final = 16 * 1024 * 1024


class _NoPandas(MetaPathFinder):
    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        del path, target
        if fullname == "pandas":
            raise ModuleNotFoundError("the hub's process does without pandas", name=fullname)
        return None


def be_frugal() -> None:
    """Set the process up for long service in little memory; to be called before anything is imported that is large.

    pyarrow looks for pandas the first time it is handed a sequence, and imports it where it is installed: 60 MB for
    nothing, since nothing here hands it a frame. It remembers the answer, so the question is asked once, with pandas away.
    """
    _tune_malloc()
    absent = _NoPandas()
    sys.meta_path.insert(0, absent)
    try:
        import pyarrow as pa

        pa.array([0])
    finally:
        sys.meta_path.remove(absent)


def give_back() -> None:
    """Return what is free to the system: what lies free between blocks in use stays with the process otherwise."""
    if _LIBC is not None:
        _LIBC.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The C library, None where it is not glibc and has no such calls."""
    try:
        found = ctypes.CDLL(None)
        _ = found.mallopt, found.malloc_trim
    except (OSError, AttributeError):
        return None
    return found


_LIBC: Final = _glibc()


def _tune_malloc() -> None:
    """Few arenas: each thread that decodes, folds or commits would otherwise keep the peak of its own for ever."""
    if _LIBC is not None:
        _LIBC.mallopt(_ARENA_MAX, 2)
        _LIBC.mallopt(_MMAP_THRESHOLD, _MMAP_BYTES)
        _LIBC.mallopt(_TRIM_THRESHOLD, _TRIM_BYTES)
