"""Where a mirror stands: pure values, so that what is replayed after a restart can be computed and tested."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

#: Marks kept of the span of the overlap: a step back goes at most one share of it too far.
_MARKS = 60


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Mark(_Value):
    """At this instant everything up to the position had been handed to the target."""

    at: AwareDatetime
    position: int = Field(ge=0)


class Rebuild(_Value):
    """A replay of everything measured since an instant, up to the position the mirror had reached."""

    since: AwareDatetime
    until: int = Field(ge=0)


class MirrorState(_Value):
    """What is kept of a mirror.

    Attributes:
        position: Everything up to here in the ledger was taken by the target.
        taken_at: When the target last took something.
        marks: Earlier positions, oldest first; the first one is the furthest a step back goes.
        rebuild: A rebuild that is not over.
        refused: Readings the target refused for good, since the mirror was made.
    """

    position: int = Field(default=0, ge=0)
    taken_at: AwareDatetime
    marks: tuple[Mark, ...] = Field(min_length=1, max_length=4 * _MARKS)
    rebuild: Rebuild | None = None
    refused: int = Field(default=0, ge=0)

    @classmethod
    def new(cls, now: datetime) -> Self:
        """A mirror that has nothing yet."""
        return cls(taken_at=now, marks=(Mark(at=now, position=0),))

    @classmethod
    def read(cls, body: bytes | None, now: datetime) -> Self:
        """A kept state; one that cannot be read begins anew, which costs a replay and nothing else."""
        if body is None:
            return cls.new(now)
        try:
            return cls.model_validate_json(body)
        except ValidationError:
            return cls.new(now)

    def taken(self, position: int, now: datetime, overlap: timedelta, refused: int = 0) -> Self:
        """The target took everything up to a position."""
        marks = self.marks
        if abs(now - marks[-1].at) >= overlap / _MARKS:
            marks = (*marks, Mark(at=now, position=self.position))
        enough = [number for number, mark in enumerate(marks) if mark.at <= now - overlap]
        marks = marks[enough[-1] if enough else 0 :][-4 * _MARKS :]
        rebuild = None if self.rebuild is not None and position >= self.rebuild.until else self.rebuild
        return self.model_copy(
            update={
                "position": position,
                "taken_at": now,
                "marks": marks,
                "rebuild": rebuild,
                "refused": self.refused + refused,
            }
        )

    def stepped_back(self, overlap: timedelta) -> Self:
        """Back to before the overlap: a target that was restarted may have lost what it took within it."""
        old = [number for number, mark in enumerate(self.marks) if mark.at <= self.taken_at - overlap]
        keep = old[-1] if old else 0
        return self.model_copy(update={"position": self.marks[keep].position, "marks": self.marks[: keep + 1]})

    def rebuilt(self, since: datetime, now: datetime) -> Self:
        """Begin again from the ledger's first position with everything measured since an instant."""
        until = max(self.position, self.rebuild.until if self.rebuild else 0)
        rebuild = Rebuild(since=since, until=until)
        return self.model_copy(update={"position": 0, "marks": (Mark(at=now, position=0),), "rebuild": rebuild})
