"""What a job is, and what its kind promises."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from tieline_core.errors import PermanentError
from tieline_core.messages.base import Message

KIND: Final = "job"
P = TypeVar("P", bound="JobParams")


class JobState(StrEnum):
    """Life of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """True when nothing more will happen."""
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


class Job(Message):
    """One piece of work the hub does on request, as it stands."""

    job_id: str
    kind: str
    params: dict[str, Any] = Field(default_factory=dict)
    state: JobState = JobState.QUEUED
    progress: float = Field(default=0.0, ge=0, le=1)
    message: str = ""
    result: dict[str, Any] | None = None
    error: str | None = None
    created_at: AwareDatetime
    started_at: AwareDatetime | None = None
    finished_at: AwareDatetime | None = None


class JobParams(BaseModel):
    """Parameters of a kind; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class JobFailedError(PermanentError):
    """A job cannot be done; the sentence is what the operator reads."""


class JobProgress:
    """What a running job says about itself; safe to use from its worker threads."""

    def __init__(self, tell: Callable[[float, str], None]) -> None:
        self._tell = tell
        self._stop = threading.Event()

    def tell(self, share: float, message: str) -> None:
        """Say how far it is (0..1) and what it is doing."""
        self._tell(min(1.0, max(0.0, share)), message)

    def stop(self) -> None:
        """Ask the job's threads to end."""
        self._stop.set()

    @property
    def stopped(self) -> bool:
        """True when the job was cancelled: a thread of it should return."""
        return self._stop.is_set()


@dataclass(frozen=True, slots=True)
class JobKind(Generic[P]):
    """One row of the table of kinds.

    Attributes:
        name: As posted.
        text: What it does, for people.
        params: Model of its parameters.
        run: Does the work on the event loop, heavy parts in threads or the pool; returns the result.
    """

    name: str
    text: str
    params: type[P]
    run: Callable[[P, JobProgress], Awaitable[dict[str, Any]]]
