"""``import``: history files into the ledger, part by part, resumable at any point.

After each part is stored, the place reached and the hash of what was read up to it are kept in the ledger. An import that
was killed goes on there when the file still begins with the same bytes; a part that was stored just before is offered
again, and the ledger takes each point and instant once. A finished import leaves no place: the next one reads all again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tieline_cloud.jobs.history_files import identity_of, kind_of, open_history
from tieline_cloud.jobs.history_part import BadRow, FileMark, HistoryPart, OpenedHistory
from tieline_cloud.jobs.model import JobFailedError, JobKind, JobParams, JobProgress
from tieline_cloud.jobs.ports import HistoryWriter
from tieline_cloud.jobs.reject_file import RejectFile, reject_path

#: Bad rows named in the result; the others are in the reject file, and all are counted.
_NAMED: Final = 100
REJECTS: Final = "rejects"


class ImportParams(JobParams):
    """Files on the hub's machine."""

    files: tuple[Path, ...] = Field(min_length=1, max_length=1000)
    dry_run: bool = Field(default=False, description="read and judge every row, store nothing")
    max_errors: int | None = Field(default=None, ge=0, description="stop when more rows than this cannot be used")


class Place(BaseModel):
    """How far an import of one file has come."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mark: FileMark
    rows: int = Field(ge=0)
    new: int = Field(ge=0)
    bad: int = Field(ge=0)
    reject_bytes: int = Field(ge=0)
    done: bool = False


def import_kind(writer: HistoryWriter, folder: Path) -> JobKind[ImportParams]:
    """The row of the table; ``folder`` is where reject files go."""

    async def run(params: ImportParams, progress: JobProgress) -> dict[str, Any]:
        return await import_files(params, writer, progress, folder)

    text = "import history from parquet or csv: point, measured_at, value[, quality], or one column a point"
    return JobKind("import", text, ImportParams, run)


async def import_files(params: ImportParams, writer: HistoryWriter, progress: JobProgress, folder: Path) -> dict[str, Any]:
    """Import every usable row; the result counts rows read, new and bad, and names the first bad ones.

    Raises:
        BadInputError: A file cannot be read (on).
        JobFailedError: More rows than ``max_errors`` cannot be used.
    """
    for path in params.files:
        kind_of(path)  # a missing file is named before anything is stored
    total = _Total(len(params.files), progress)
    for number, path in enumerate(params.files):
        total.number = number
        await _FileImport(path, params, writer, folder, total).run()
    return total.result(params)


@dataclass(slots=True)
class _Total:
    """Counts over all files, and what is told of them."""

    files: int
    progress: JobProgress
    number: int = 0
    rows: int = 0
    new: int = 0
    bad: int = 0
    resumed: int = 0
    counted: int = 0
    """Rows read by this run, without those of an earlier one."""
    named: list[dict[str, Any]] = field(default_factory=list)
    rejects: list[str] = field(default_factory=list)
    began_s: float = field(default_factory=time.monotonic)

    def count(self, path: Path, part: HistoryPart, new: int) -> None:
        self.rows += part.rows
        self.counted += part.rows
        self.new += new
        self.bad += len({row.row for row in part.bad})
        room = _NAMED - len(self.named)
        self.named += [{"file": path.name, "row": row.row, "reason": _sentence(row)} for row in part.bad[:room]]
        self.tell(path, part.done)

    def tell(self, path: Path, done: float) -> None:
        share = (self.number + done) / self.files
        seconds = max(1e-6, time.monotonic() - self.began_s)
        left_s = seconds / share * (1 - share) if share > 0 else 0.0
        text = f"{path.name}: {self.rows:,} rows, {self.counted / seconds:,.0f} rows/s, {self.new:,} new, {self.bad:,} bad"
        self.progress.tell(share, f"{text}, {_span(left_s)} left")

    def result(self, params: ImportParams) -> dict[str, Any]:
        extra: dict[str, Any] = {"reject_files": self.rejects} if self.rejects else {}
        if self.resumed:
            extra["resumed_at_row"] = self.resumed
        if params.dry_run:
            extra["dry_run"] = True
        return {"rows": self.rows, "new": self.new, "bad": self.bad, "bad_rows": self.named, **extra}


def _sentence(row: BadRow) -> str:
    return f"{row.key} = {row.value!r}: {row.reason}" if row.value else row.reason


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


class _FileImport:
    """One file."""

    def __init__(self, path: Path, params: ImportParams, writer: HistoryWriter, folder: Path, total: _Total) -> None:
        self._path = path
        self._params = params
        self._writer = writer
        self._rejects_path = reject_path(folder, path)
        self._total = total
        self._rejects: RejectFile | None = None

    async def run(self) -> None:
        """Import it, from where an earlier import was ended."""
        key = f"{self._path.name}:{await asyncio.to_thread(identity_of, self._path)}"
        place = None if self._params.dry_run else await self._recall(key)
        opened: OpenedHistory = await asyncio.to_thread(open_history, self._path, place.mark if place else None)
        if not opened.resumed:
            place = None
        total = self._total
        before = (total.rows, total.new, total.bad)
        if place is not None:
            total.resumed = place.mark.row
            total.rows, total.new, total.bad = total.rows + place.rows, total.new + place.new, total.bad + place.bad
            self._rejects = RejectFile(self._rejects_path, place.reject_bytes) if place.bad else None
        try:
            while (part := await asyncio.to_thread(_next, opened.parts)) is not None:
                new = 0
                if len(part.batch) and not self._params.dry_run:
                    new = await self._writer.import_readings(part.batch, self._path.name)
                self._reject(part.bad)
                total.count(self._path, part, new)
                if not self._params.dry_run:
                    place = self._place(part.mark, before)
                    await self._writer.remember(key, place.model_dump_json().encode())
                self._judge(part)
        finally:
            with suppress(ValueError):  # cancelled while a thread is inside: then it ends with its last user
                opened.parts.close()
            if self._rejects is not None:
                total.rejects.append(str(self._rejects.path))
                self._rejects.__exit__(None, None, None)
        if place is not None:
            await self._writer.remember(key, place.model_copy(update={"done": True}).model_dump_json().encode())

    async def _recall(self, key: str) -> Place | None:
        body = await self._writer.recall(key)
        try:
            place = Place.model_validate_json(body) if body is not None else None
        except ValidationError:
            return None
        return None if place is None or place.done else place

    def _place(self, mark: FileMark, before: tuple[int, int, int]) -> Place:
        total = self._total
        return Place(
            mark=mark,
            rows=total.rows - before[0],
            new=total.new - before[1],
            bad=total.bad - before[2],
            reject_bytes=self._rejects.size if self._rejects else 0,
        )

    def _reject(self, bad: tuple[BadRow, ...]) -> None:
        if bad:
            if self._rejects is None:
                self._rejects = RejectFile(self._rejects_path)
            self._rejects.add(self._path.name, bad)

    def _judge(self, part: HistoryPart) -> None:
        limit = self._params.max_errors
        if limit is not None and self._total.bad > limit:
            first = part.bad[0]
            raise JobFailedError(
                f"{self._path.name}: more than {limit} rows cannot be used, in this part first row {first.row}: "
                f"{_sentence(first)}; they are listed in {self._rejects_path}; the rows before are "
                + ("not stored (dry run)" if self._params.dry_run else "stored")
            )


def _next(parts: Iterator[HistoryPart]) -> HistoryPart | None:
    return next(parts, None)
