"""The file of refused rows beside an import: bounded, and cut back to where a resumed import goes on."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tieline_cloud.jobs.history_part import BadRow
from tieline_core.errors import TransientError

MAX_BYTES: Final = 32 * 1024 * 1024
HEADER: Final = ("file", "row", "key", "value", "reason")


def reject_path(folder: Path, path: Path) -> Path:
    """Where the refused rows of a file go: files of one name from two folders are kept apart."""
    return folder / f"{path.name}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}.rejects.csv"


class RejectFile:
    """Writes refused rows as csv: file, row, key, value, reason.

    Args:
        path: Where to; its folder is made.
        size: Length to cut an earlier run's file to; 0 begins anew.

    Attributes:
        size: Bytes written.
        left_out: Rows that no longer fitted.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        self.path = path
        self.left_out = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("r+b" if size and path.is_file() else "wb")
            self._file.truncate(min(size, path.stat().st_size))
            self.size = self._file.seek(0, io.SEEK_END)
        except OSError as error:
            raise TransientError(f"{path}: refused rows cannot be written there: {error.strerror}") from error
        if not self.size:
            self._write([HEADER])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def add(self, name: str, rows: Sequence[BadRow]) -> None:
        """Keep rows while there is room."""
        room = max(0, (MAX_BYTES - self.size) // 400)
        kept = rows[:room]
        self.left_out += len(rows) - len(kept)
        self._write([(name, str(row.row), row.key, row.value, row.reason) for row in kept])

    def _write(self, rows: Sequence[Sequence[str]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        data = text.getvalue().encode("utf-8", "replace")
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise TransientError(f"{self.path}: refused rows cannot be written: {error.strerror}") from error
        self.size += len(data)
