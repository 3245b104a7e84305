"""Requests of the hub to an edge and their replies; reconciliation is one of them: both sides count by hour.

The hub asks an edge what it holds, or to send some of it again; :mod:`tieline_core.messages.explanation` asks it why.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeVar

from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError, model_validator

from tieline_core.errors import BadInputError
from tieline_core.ids import EdgeId
from tieline_core.messages.base import Message
from tieline_core.messages.explanation import ExplainReply, ExplainRequest
from tieline_core.messages.telemetry import Stream
from tieline_core.reconcile import HOUR_US, HourDigest
from tieline_core.timegrid import from_us, to_us

_T = TypeVar("_T")
#: Longest span one request may name [days]: more than a ring keeps is of no use.
MAX_DAYS: Final = 62
#: Answers of an edge are not read beyond this; a day of all streams takes about 10 kB.
MAX_REPLY_BYTES: Final = 64 * 1024


class _Span(Message):
    version: Literal[1] = 1
    request_id: str = Field(min_length=8, max_length=64)
    edge_id: EdgeId
    start: AwareDatetime = Field(description="first instant, a whole hour")
    end: AwareDatetime = Field(description="end, exclusive, a whole hour")
    streams: tuple[Stream, ...] = Field(min_length=1, max_length=3)

    @model_validator(mode="after")
    def _sound(self) -> _Span:
        if to_us(self.start) % HOUR_US or to_us(self.end) % HOUR_US:
            raise ValueError("start and end have to be whole hours")
        if not 0 < to_us(self.end) - to_us(self.start) <= MAX_DAYS * 24 * HOUR_US:
            raise ValueError(f"start has to be before end, at most {MAX_DAYS} days")
        return self


class DigestRequest(_Span):
    """Hub to edge: say what you hold of these hours."""

    ask: Literal["digests"] = "digests"


class BackfillRequest(_Span):
    """Hub to edge: send what you hold of these hours again, under new sequence numbers."""

    ask: Literal["backfill"] = "backfill"


class HourRow(Message):
    """One hour of a stream, as :class:`tieline_core.reconcile.HourDigest`."""

    hour: AwareDatetime
    frames: int = Field(ge=1)
    readings: int = Field(ge=0)
    digest: str = Field(pattern=r"^[0-9a-f]{32}$")

    @classmethod
    def of(cls, digest: HourDigest) -> HourRow:
        """The row of a digest."""
        return cls(hour=from_us(digest.hour_us), frames=digest.frames, readings=digest.readings, digest=digest.digest)

    def digest_row(self) -> HourDigest:
        """The digest of a row."""
        return HourDigest(to_us(self.hour), self.frames, self.readings, self.digest)


class _Reply(Message):
    version: Literal[1] = 1
    request_id: str = Field(min_length=8, max_length=64)
    edge_id: EdgeId
    at: AwareDatetime


class DigestReply(_Reply):
    """Edge to hub: one day of the answer."""

    reply: Literal["digests"] = "digests"
    part: int = Field(ge=1)
    parts: int = Field(ge=1, le=MAX_DAYS + 1)
    hours: dict[Stream, tuple[HourRow, ...]]
    held_from: dict[Stream, AwareDatetime] = Field(description="oldest instant still held, of streams that hold anything")


class BackfillReply(_Reply):
    """Edge to hub: how far sending again has come."""

    reply: Literal["backfill"] = "backfill"
    frames: int = Field(ge=0, description="frames put at the end of their streams so far")
    readings: int = Field(ge=0)
    waiting: int = Field(ge=0, description="frames of all streams the hub has not committed yet")
    total: int = Field(ge=0, description="frames of the request that are held")
    done: bool = Field(description="true when all of them have been put there and nothing waits")
    held_from: dict[Stream, AwareDatetime] = Field(default_factory=dict)


class RefusedReply(_Reply):
    """Edge to hub: this cannot be done now."""

    reply: Literal["refused"] = "refused"
    reason: str = Field(max_length=300)


AnyRequest = DigestRequest | BackfillRequest | ExplainRequest
AnyReply = DigestReply | BackfillReply | ExplainReply | RefusedReply
_REQUEST: Final[TypeAdapter[AnyRequest]] = TypeAdapter(Annotated[AnyRequest, Field(discriminator="ask")])
_REPLY: Final[TypeAdapter[AnyReply]] = TypeAdapter(Annotated[AnyReply, Field(discriminator="reply")])


def read_request(data: bytes, source: str) -> AnyRequest:
    """Read the payload of a request envelope.

    Raises:
        BadInputError: Naming the first offending key.
    """
    return _read(_REQUEST, data, source)


def read_reply(data: bytes, source: str) -> AnyReply:
    """Read what an edge answers.

    Raises:
        BadInputError: Naming the first offending key.
    """
    return _read(_REPLY, data, source)


def _read(adapter: TypeAdapter[_T], data: bytes, source: str) -> _T:
    if len(data) > MAX_REPLY_BYTES:
        raise BadInputError(source, "", f"{len(data)} bytes", f"at most {MAX_REPLY_BYTES} bytes are read")
    try:
        return adapter.validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise BadInputError(source, key, first.get("input"), first["msg"]) from error
