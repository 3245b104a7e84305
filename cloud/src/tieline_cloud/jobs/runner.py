"""Runs jobs, one table of kinds, a few at a time, and keeps what became of each."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import ValidationError

from tieline_cloud.dispatch.documents import DocumentStore
from tieline_cloud.jobs.model import KIND, Job, JobKind, JobParams, JobProgress, JobState
from tieline_core.clock import Clock
from tieline_core.errors import BadInputError, TielineError, TransientError

_LOG = logging.getLogger(__name__)
_KEPT: Final = 500
MAX_WAITING: Final = 100


class TooManyJobsError(TransientError):
    """The queue is full."""


class JobRunner:
    """A queue of jobs. Methods are called on the event loop.

    Args:
        kinds: The table of kinds by name.
        documents: Where jobs are kept.
        clock: Gives the stamps.
        parallel: Jobs that run at once.
    """

    def __init__(self, kinds: Mapping[str, JobKind[Any]], documents: DocumentStore, clock: Clock, parallel: int = 2) -> None:
        self.kinds = kinds
        self._documents = documents
        self._clock = clock
        self._parallel = parallel
        self._jobs: dict[str, Job] = {}
        self._running: dict[str, tuple[asyncio.Task[None], JobProgress]] = {}
        self._waiting: asyncio.Queue[str] = asyncio.Queue()
        self._listeners: list[Callable[[Job], None]] = []
        self._recall()

    def _recall(self) -> None:
        for body in reversed(self._documents.newest(KIND, _KEPT)):
            job = Job.from_bytes(body, "hub memory")
            if job.state is JobState.RUNNING:
                job = self._finish(job, JobState.FAILED, error="the hub was restarted while this ran; start it again")
            elif job.state is JobState.QUEUED:
                self._waiting.put_nowait(job.job_id)
            self._jobs[job.job_id] = job

    def listen(self, callback: Callable[[Job], None]) -> None:
        """Call back on every change of a job."""
        self._listeners.append(callback)

    def submit(self, kind: str, params: Mapping[str, Any]) -> Job:
        """Queue a job.

        Raises:
            BadInputError: When there is no such kind or a parameter is wrong.
            TooManyJobsError: When 100 are waiting.
        """
        if kind not in self.kinds:
            raise BadInputError("job", "kind", kind, f"there is no such job; kinds are {', '.join(sorted(self.kinds))}")
        checked = self._checked(kind, params)
        if self._waiting.qsize() >= MAX_WAITING:
            raise TooManyJobsError(f"{MAX_WAITING} jobs are waiting; try again when some are done")
        now = self._clock.now()
        job = Job(job_id=uuid.uuid4().hex, kind=kind, params=checked.model_dump(mode="json"), created_at=now)
        self._change(job)
        self._waiting.put_nowait(job.job_id)
        return job

    def _checked(self, kind: str, params: Mapping[str, Any]) -> JobParams:
        try:
            checked: JobParams = self.kinds[kind].params.model_validate(dict(params))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(("params", *(str(part) for part in first["loc"])))
            reason = first["msg"].removeprefix("Value error, ")
            raise BadInputError(f"job {kind}", key, first.get("input"), reason) from error
        return checked

    def get(self, job_id: str) -> Job | None:
        """A job by its id."""
        return self._jobs.get(job_id)

    def newest(self, limit: int) -> list[Job]:
        """Jobs, newest first."""
        return list(reversed(self._jobs.values()))[:limit]

    def busy_with(self, kind: str) -> bool:
        """True when a job of this kind waits or runs."""
        return any(job.kind == kind and not job.state.final for job in self._jobs.values())

    def cancel(self, job_id: str) -> Job | None:
        """Cancel a job that waits or runs; one that is over stays as it is. None when there is no such job."""
        job = self._jobs.get(job_id)
        if job is None or job.state.final:
            return job
        if job_id in self._running:
            task, progress = self._running[job_id]
            progress.stop()
            task.cancel()
            return job
        return self._finish(job, JobState.CANCELLED, error="cancelled before it began")

    async def run(self) -> None:
        """Work through the queue, for ever."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._parallel):
                group.create_task(self._work(), name=f"job-worker-{number}")

    async def _work(self) -> None:
        while True:
            job = self._jobs[await self._waiting.get()]
            if job.state is not JobState.QUEUED:
                continue
            progress = JobProgress(self._teller(job.job_id, asyncio.get_running_loop()))
            async with asyncio.TaskGroup() as group:
                task = group.create_task(self._perform(job, progress), name=f"job-{job.kind}")
                self._running[job.job_id] = (task, progress)
                try:
                    await asyncio.wait({task})
                finally:
                    progress.stop()
                    del self._running[job.job_id]
            if task.cancelled():
                self._finish(self._jobs[job.job_id], JobState.CANCELLED, error="cancelled while it ran")

    async def _perform(self, job: Job, progress: JobProgress) -> None:
        kind = self.kinds[job.kind]
        job = self._change(job.model_copy(update={"state": JobState.RUNNING, "started_at": self._clock.now()}))
        try:
            result = await kind.run(kind.params.model_validate(job.params), progress)
        except TielineError as error:
            self._finish(self._jobs[job.job_id], JobState.FAILED, error=str(error))
        except Exception as error:  # noqa: BLE001 (a job may fail in any way; it must not take the hub down)
            _LOG.exception("Job %s (%s) failed", job.kind, job.job_id)
            self._finish(self._jobs[job.job_id], JobState.FAILED, error=f"{type(error).__name__}: {error}")
        else:
            self._finish(self._jobs[job.job_id], JobState.DONE, result=result)

    def _teller(self, job_id: str, loop: asyncio.AbstractEventLoop) -> Callable[[float, str], None]:
        def take(share: float, message: str) -> None:
            job = self._jobs[job_id]
            if job.state is JobState.RUNNING:
                self._jobs[job_id] = changed = job.model_copy(update={"progress": share, "message": message})
                self._notify(changed)

        def tell(share: float, message: str) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(take, share, message)

        return tell

    def _finish(self, job: Job, state: JobState, *, result: dict[str, Any] | None = None, error: str | None = None) -> Job:
        update: dict[str, Any] = {"state": state, "result": result, "error": error, "finished_at": self._clock.now()}
        if state is JobState.DONE:
            update["progress"] = 1.0
        return self._change(job.model_copy(update=update))

    def _change(self, job: Job) -> Job:
        self._jobs[job.job_id] = job
        self._documents.put(KIND, job.job_id, job.to_bytes(), job.created_at)
        self._notify(job)
        return job

    def _notify(self, job: Job) -> None:
        for callback in self._listeners:
            callback(job)
