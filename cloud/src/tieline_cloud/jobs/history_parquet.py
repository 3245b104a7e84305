"""Parquet history, read by a process of its own (:mod:`tieline_cloud.jobs.parquet_reader`) and taken over as Arrow stream."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

from tieline_cloud.jobs.history_layout import Layout, layout_of
from tieline_cloud.jobs.history_part import FileMark, HistoryPart, OpenedHistory, joined
from tieline_cloud.jobs.history_rows import long_batch, wide_batch
from tieline_cloud.jobs.parquet_reader import BATCH_CELLS, REFUSED
from tieline_cloud.jobs.pool import THREADS
from tieline_core.errors import BadInputError

_MAGIC: Final = b"PAR1"
_END_S: Final = 10.0


def file_sha256(path: Path) -> str:
    """Hash of a whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_parquet(path: Path, mark: FileMark | None, cells: int = BATCH_CELLS) -> OpenedHistory:
    """Open a parquet file, read on from a mark when it is still the same file.

    Raises:
        BadInputError: When it is none, declares unreasonable sizes or has other columns.
    """
    try:
        with path.open("rb") as file:
            head = file.read(4)
            file.seek(-4, 2)
            tail = file.read(4)
    except OSError:
        head = tail = b""
    if head != _MAGIC or tail != _MAGIC:
        raise BadInputError(str(path), "", path.name, "not a parquet file: it does not begin and end with PAR1")
    sha256 = file_sha256(path)
    resumed = mark is not None and mark.sha256 == sha256 and mark.offset > 0
    skip = mark.offset if resumed and mark else 0
    reading = _Reading(path, sha256, skip, cells)
    return OpenedHistory(reading.parts(), resumed)


class _Reading:
    """The reading process and the place reached."""

    def __init__(self, path: Path, sha256: str, skip: int, cells: int) -> None:
        self._path = path
        self._sha256 = sha256
        self._row = skip
        command = [sys.executable, "-m", "tieline_cloud.jobs.parquet_reader", str(path.absolute()), str(skip), str(cells)]
        self._process = subprocess.Popen(  # noqa: S603 (our own module, the path is one argument)
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment()
        )
        try:
            self._stream: Any = self._opened()
        except BaseException:
            self._end()
            raise

    def _opened(self) -> Any:
        import pyarrow as pa

        try:
            return pa.ipc.open_stream(self._process.stdout)
        except (pa.ArrowException, OSError) as error:
            raise self._reason() from error

    def parts(self) -> Generator[HistoryPart, None, None]:
        """Every part; the process ends with the generator."""
        import pyarrow as pa

        try:
            schema = self._stream.schema
            total = max(1, int(schema.metadata[b"rows"]))
            layout = layout_of(list(schema.names), str(self._path))
            while True:
                try:
                    rows = self._stream.read_next_batch()
                    rows.validate(full=True)
                except StopIteration:
                    break
                except (pa.ArrowException, OSError) as error:
                    raise self._reason() from error
                yield self._part(rows, layout, total)
            if self._process.wait(_END_S) != 0:
                raise self._reason()
        finally:
            self._end()

    def _part(self, rows: Any, layout: Layout, total: int) -> HistoryPart:
        import pyarrow as pa

        first, self._row = self._row + 1, self._row + rows.num_rows
        try:
            batch, bad = wide_batch(rows, layout.points, first) if layout.points else long_batch(rows, first)
        except (pa.ArrowException, OverflowError) as error:
            text = (str(error).splitlines() or [""])[0][:300]
            raise BadInputError(str(self._path), f"row {first}", self._path.name, f"cannot be read: {text}") from error
        mark = FileMark(offset=self._row, row=self._row, sha256=self._sha256)
        return HistoryPart(joined([batch]), tuple(bad), rows.num_rows, min(1.0, self._row / total), mark)

    def _reason(self) -> BadInputError:
        """What the process said of the file; when it ended without a word, that."""
        try:
            _, said = self._process.communicate(timeout=_END_S)
        except subprocess.TimeoutExpired:
            said = b""
        if self._process.returncode == REFUSED:
            word = json.loads(said.splitlines()[-1])
            return BadInputError(str(self._path), word["key"], word["value"], word["reason"])
        text = f"damaged: the process that read it ended with {self._process.returncode}"
        return BadInputError(str(self._path), f"row {self._row + 1}", self._path.name, text)

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, **THREADS, "ARROW_DEFAULT_MEMORY_POOL": "system"}
