"""The durable lane's words: hello, answer, acknowledgement, events and issued forecasts."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from tieline_core.ids import DeviceId, EdgeId, PointId
from tieline_core.messages.base import Message

#: Largest epoch and sequence number anybody may name: they fit every store, and a hub can always grant one more.
MAX_EPOCH: Final = 2**32 - 2
MAX_SEQ: Final = 2**62
#: Names that become keys in stores and lines in protocols: printable ASCII without spaces.
_KEY: Final = r"^[!-~]+$"
_DAY_S: Final = 86_400


class Stream(StrEnum):
    """Streams of the durable lane, drained in this order; each has its own sequence and watermark."""

    ALARM = "alarm"
    MEASURE = "measure"
    BULK = "bulk"

    @property
    def number(self) -> int:
        """Wire number."""
        return list(Stream).index(self)


class FrameKind(IntEnum):
    """What the body of a frame is."""

    READINGS = 1
    RECORDS = 2
    SKIP = 3


class StreamState(Message):
    """Where one stream of an edge stands."""

    next_seq: int = Field(ge=1, le=MAX_SEQ, description="sequence number the next new frame will get")
    oldest_seq: int = Field(ge=1, le=MAX_SEQ, description="oldest frame still held; equals next_seq when none is")
    acked_seq: int = Field(ge=0, le=MAX_SEQ)
    acked_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$", description="hash of the last acknowledged frame")


class Hello(Message):
    """First word of an edge on each connection; no frame may precede its answer."""

    version: Literal[1] = 1
    edge_id: EdgeId
    epoch: int = Field(ge=0, le=MAX_EPOCH, description="0 = none granted yet")
    boot_id: str = Field(max_length=64)
    nonce: str = Field(min_length=16, max_length=64)
    streams: dict[Stream, StreamState]
    software: str = Field(max_length=64)
    at: AwareDatetime


class Held(Message):
    """What a hub that was put back to an older state still holds of an edge: up to these numbers of this epoch, and before."""

    epoch: int = Field(ge=0, le=MAX_EPOCH, description="0 = nothing at all")
    watermarks: dict[Stream, Annotated[int, Field(ge=0, le=MAX_SEQ)]] = Field(default_factory=dict)


class HelloAnswer(Message):
    """The hub's answer: the epoch to send in and what is already committed."""

    version: Literal[1] = 1
    edge_id: EdgeId
    nonce: str = Field(min_length=16, max_length=64)
    epoch: int = Field(ge=1)
    watermarks: dict[Stream, int]
    held: Held | None = Field(
        default=None,
        description="with a new epoch of a hub that was restored: what it acknowledged beyond has to come again",
    )

    def to_bytes(self) -> bytes:
        """The JSON form, UTF-8; ``held`` is left out when there is nothing to say."""
        return self.model_dump_json(exclude_none=True).encode()


class Ack(Message):
    """Everything up to these sequence numbers is committed in the hub's ledger."""

    version: Literal[1] = 1
    edge_id: EdgeId
    epoch: int = Field(ge=1)
    committed: dict[Stream, int]


class SkipReason(StrEnum):
    """Why frames are no longer held."""

    ACKNOWLEDGED = "acknowledged"
    EVICTED = "evicted"
    DAMAGED = "damaged"


class Skip(Message):
    """Body of a SKIP frame: the sequence numbers from ``first`` to ``last`` are gone, and why."""

    first: int = Field(ge=1, le=MAX_SEQ)
    last: int = Field(ge=1, le=MAX_SEQ)
    reason: SkipReason
    readings: int = Field(ge=0, le=MAX_SEQ, description="readings that were in them")


class Severity(StrEnum):
    """Operator words after OperatorFabric."""

    ALARM = "ALARM"
    ACTION = "ACTION"
    COMPLIANT = "COMPLIANT"
    INFORMATION = "INFORMATION"


class Event(Message):
    """Something an operator may want to know."""

    record: Literal["event"] = "event"
    event_id: str = Field(min_length=8, max_length=64, pattern=_KEY)
    edge_id: EdgeId
    device_id: DeviceId | None = None
    severity: Severity
    code: str = Field(pattern=r"^[a-z][a-z0-9_.]{2,63}$", description="stable machine word such as shed.thermal")
    text: str = Field(max_length=500)
    at: AwareDatetime
    data: dict[str, Any] = Field(default_factory=dict)


class IssuedForecast(Message):
    """A forecast as it was issued: what accuracy is measured on. Interval label = start."""

    record: Literal["forecast"] = "forecast"
    point: PointId
    model_id: str = Field(max_length=128, pattern=_KEY)
    issued_at: AwareDatetime
    start: AwareDatetime
    step_s: int = Field(gt=0, le=_DAY_S)
    p10: tuple[float, ...]
    p50: tuple[float, ...]
    p90: tuple[float, ...]
    lo90: tuple[float, ...] = Field(description="lower bound of the 90 % band (P5)")
    hi90: tuple[float, ...] = Field(description="upper bound of the 90 % band (P95)")

    @model_validator(mode="after")
    def _columns_of_one_length(self) -> Self:
        lengths = {len(column) for column in (self.p10, self.p50, self.p90, self.lo90, self.hi90)}
        if len(lengths) > 1:
            raise ValueError(f"the quantiles have different numbers of steps: {sorted(lengths)}")
        return self


Record = Annotated[Event | IssuedForecast, Field(discriminator="record")]
