"""A file that only holds space: on a full disk it is given up, because then not even a deletion can be committed."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from typing import Final

_log = logging.getLogger(__name__)
#: Twice what the log may hold: it is emptied into the file while neither may grow.
_BYTES: Final = 2 * 1024 * 1024


class Reserve:
    """Space beside the outbox.

    Args:
        path: The outbox file.
        size: Bytes to hold.
    """

    def __init__(self, path: Path, size: int = _BYTES) -> None:
        self._path = path.with_name(f"{path.name}.reserve")
        self._size = size

    def ensure(self) -> bool:
        """Hold the space; False when the disk has none to spare, which is no error."""
        if self._path.exists() and self._path.stat().st_size == self._size:
            return True
        try:
            with self._path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self._size)
        except OSError as error:
            self._path.unlink(missing_ok=True)
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                _log.warning("no reserve beside the outbox: %s", error)
            return False
        return True

    def release(self) -> bool:
        """Give the space up; False when it was given up before."""
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        return True
