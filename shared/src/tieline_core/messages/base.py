"""The base of every message."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from tieline_core.errors import BadInputError
from tieline_core.timegrid import EARLIEST, LATEST

#: An instant that arithmetic may start from: nothing added to it later leaves the calendar.
Instant = Annotated[AwareDatetime, Field(ge=EARLIEST, le=LATEST)]
#: Length of a step of a plan or table [s]; a day at most.
StepS = Annotated[int, Field(gt=0, le=86_400)]
#: Most steps of a plan: a day of minutes.
MAX_STEPS: Final = 1500
#: Most devices a plan speaks of.
MAX_DEVICES: Final = 2000


class Message(BaseModel):
    """Frozen, without unknown keys, without NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ser_json_inf_nan="strings")

    def to_bytes(self) -> bytes:
        """The JSON form, UTF-8."""
        return self.model_dump_json().encode()

    @classmethod
    def from_bytes(cls, data: bytes, source: str, max_bytes: int = 4 * 1024 * 1024) -> Self:
        """Read a message.

        Args:
            data: JSON bytes as received.
            source: Topic, route or file, for the error message.
            max_bytes: Longer input is refused unread.

        Raises:
            BadInputError: Naming the first offending key.
        """
        if len(data) > max_bytes:
            raise BadInputError(source, "", f"{len(data)} bytes", f"at most {max_bytes} bytes are read")
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise BadInputError(source, key, first.get("input"), first["msg"]) from error
