"""Memory of the serving process: what is set once at its start, because it holds for the whole process."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Final

from tieline_core.allocator import tune

#: Few: several threads decode, fold and commit at once.
_ARENAS: Final = 2
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
    tune(arenas=_ARENAS, mmap_bytes=_MMAP_BYTES, trim_bytes=_TRIM_BYTES)
    absent = _NoPandas()
    sys.meta_path.insert(0, absent)
    try:
        import pyarrow as pa

        pa.array([0])
    finally:
        sys.meta_path.remove(absent)
