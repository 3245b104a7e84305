"""``import``: history files into the ledger, batch by batch."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import Field

from tieline_cloud.jobs.history_files import HistoryPart, read_history
from tieline_cloud.jobs.model import JobKind, JobParams, JobProgress
from tieline_cloud.jobs.ports import HistoryWriter

#: Bad rows named in the result; the others are counted.
_NAMED: Final = 100


class ImportParams(JobParams):
    """Files on the hub's machine."""

    files: tuple[Path, ...] = Field(min_length=1, max_length=1000)


def import_kind(writer: HistoryWriter) -> JobKind[ImportParams]:
    """The row of the table."""

    async def run(params: ImportParams, progress: JobProgress) -> dict[str, Any]:
        return await import_files(params.files, writer, progress)

    return JobKind("import", "import history from parquet or csv: point, measured_at, value[, quality]", ImportParams, run)


async def import_files(files: tuple[Path, ...], writer: HistoryWriter, progress: JobProgress) -> dict[str, Any]:
    """Import every usable row; the result counts rows read, new and bad, and names the first bad ones."""
    for path in files:
        read_history(path)  # a missing file is named before anything is stored
    read = new = bad = 0
    named: list[dict[str, Any]] = []
    for number, path in enumerate(files):
        parts = read_history(path)
        while (part := await asyncio.to_thread(_next, parts)) is not None:
            if len(part.batch):
                new += await writer.import_readings(part.batch, path.name)
            read += len(part.batch) + len(part.bad)
            bad += len(part.bad)
            named += [{"file": path.name, "row": row.row, "reason": row.reason} for row in part.bad[: _NAMED - len(named)]]
            progress.tell((number + part.done) / len(files), f"{path.name}: {read} rows read, {new} new, {bad} bad")
    return {"rows": read, "new": new, "bad": bad, "bad_rows": named}


def _next(parts: Iterator[HistoryPart]) -> HistoryPart | None:
    return next(parts, None)
