"""``export``: readings of a span to a parquet file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, ConfigDict, Field, model_validator

from tieline_cloud.jobs.model import JobFailedError, JobKind, JobParams, JobProgress
from tieline_cloud.store.ports import ReadingQuery
from tieline_core.ids import EdgeId


class ExportParams(JobParams):
    """Which readings, and where to."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True, serialize_by_alias=True
    )

    start: AwareDatetime = Field(alias="from")
    end: AwareDatetime = Field(alias="to")
    out: Path = Field(description="parquet file on the hub's machine; must not exist")
    edge: EdgeId | None = None

    @model_validator(mode="after")
    def _ordered(self) -> ExportParams:
        if self.start >= self.end:
            raise ValueError(f"from {self.start.isoformat()} must be before to {self.end.isoformat()}")
        return self


def export_kind(query: ReadingQuery) -> JobKind[ExportParams]:
    """The row of the table."""

    async def run(params: ExportParams, progress: JobProgress) -> dict[str, Any]:
        if params.out.exists():
            raise JobFailedError(f"{params.out} exists already; nothing is overwritten")
        if not params.out.parent.is_dir():
            raise JobFailedError(f"{params.out.parent} is no folder on the hub's machine")
        progress.tell(0.1, f"writing {params.out.name}")
        rows = await asyncio.to_thread(query.export, str(params.out), params.start, params.end, params.edge)
        return {"rows": rows, "file": str(params.out)}

    return JobKind("export", "write readings of a span to a parquet file", ExportParams, run)
