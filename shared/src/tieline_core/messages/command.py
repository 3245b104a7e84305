"""An operator's command to one device of one edge."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import AwareDatetime, Field, model_validator

from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.base import Instant, Message


class Action(StrEnum):
    """What a command asks for."""

    SETPOINT_W = "setpoint_w"
    LIMIT_W = "limit_w"
    OPEN = "open"
    CLOSE = "close"
    RELEASE = "release"


class CommandState(StrEnum):
    """Life of a command on its way to the device."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    COMMANDED = "commanded"
    CONFIRMED = "confirmed"
    EFFECTIVE = "effective"
    UNCONFIRMED = "unconfirmed"
    FAILED = "failed"
    EXPIRED = "expired"
    """Its time ran out before it had an effect."""
    ENDED = "ended"
    """It had been in force and is no more: released, or its time is over."""


class Command(Message):
    """One instruction with an end; identity makes it idempotent."""

    version: Literal[1] = 1
    command_id: str = Field(min_length=8, max_length=64)
    edge_id: EdgeId
    device_id: DeviceId
    action: Action
    value_w: float | None = None
    expires_at: Instant
    issued_by: str = Field(min_length=1, max_length=64)
    issued_at: Instant
    reason: str = Field(min_length=3, max_length=300)
    approvals: tuple[str, ...] = Field(default=(), description="signatures of approvers; their place until roles exist")

    @model_validator(mode="after")
    def _value_fits(self) -> Command:
        needs = self.action in (Action.SETPOINT_W, Action.LIMIT_W)
        if needs != (self.value_w is not None):
            raise ValueError(f"action {self.action.value!r} {'needs' if needs else 'takes no'} value_w")
        return self


class CommandReport(Message):
    """What became of a command at the edge."""

    command_id: str
    state: CommandState
    at: AwareDatetime
    text: str = Field(default="", max_length=300)
