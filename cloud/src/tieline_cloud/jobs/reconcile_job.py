"""``reconcile`` and ``backfill``: compare an edge's ring with the ledger, and have the missing sent again."""

from __future__ import annotations

from typing import Any

from pydantic import AwareDatetime, ConfigDict, Field, model_validator

from tieline_cloud.fleet.reconcile import Question, Reconciler
from tieline_cloud.jobs.model import JobKind, JobParams, JobProgress
from tieline_core.ids import EdgeId
from tieline_core.messages.reconciliation import MAX_DAYS
from tieline_core.messages.telemetry import Stream


class SpanParams(JobParams):
    """Which edge, which hours, which streams."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True, serialize_by_alias=True
    )

    edge: EdgeId
    start: AwareDatetime = Field(alias="from")
    end: AwareDatetime = Field(alias="to")
    streams: tuple[Stream, ...] = Field(default=tuple(Stream), min_length=1, max_length=len(Stream))

    @model_validator(mode="after")
    def _ordered(self) -> SpanParams:
        if self.start >= self.end:
            raise ValueError(f"from {self.start.isoformat()} must be before to {self.end.isoformat()}")
        # A day of room: both ends are widened to whole hours.
        if (self.end - self.start).days >= MAX_DAYS - 1:
            raise ValueError(f"at most {MAX_DAYS - 1} days are compared at once")
        return self

    def question(self) -> Question:
        """What the reconciler is asked."""
        return Question(self.edge, self.start, self.end, self.streams)


def reconcile_kind(reconciler: Reconciler) -> JobKind[SpanParams]:
    """The row of the table."""

    async def run(params: SpanParams, progress: JobProgress) -> dict[str, Any]:
        return await reconciler.reconcile(params.question(), progress.tell)

    return JobKind("reconcile", "compare what an edge holds with the ledger, by stream and hour", SpanParams, run)


def backfill_kind(reconciler: Reconciler) -> JobKind[SpanParams]:
    """The row of the table."""

    async def run(params: SpanParams, progress: JobProgress) -> dict[str, Any]:
        return await reconciler.backfill(params.question(), progress.tell)

    return JobKind("backfill", "have an edge send again what it holds of some hours", SpanParams, run)
