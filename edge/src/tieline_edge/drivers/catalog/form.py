"""What all parts of a catalogue entry share: frozen, no unknown keys, finite numbers; and the steps of an action."""

from __future__ import annotations

from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, model_validator

#: Numbers an action gives to its steps; :func:`tieline_edge.drivers.orders.variables_of` says which action gives which.
Variable = Literal["power_w", "power_pct", "limit_w", "limit_pct", "revert_s", "revert_again_s", "off_timer_s"]


class Form(BaseModel):
    """Base of every part of an entry."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Span(Form):
    """A closed range in the unit of its value."""

    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Span:
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}")
        return self


Step = TypeVar("Step", bound=Form)


class Steps(Form, Generic[Step]):
    """What is done for each action, in order; an action without steps is one the model cannot do."""

    hold_power: tuple[Step, ...] = ()
    limit_generation: tuple[Step, ...] = ()
    open: tuple[Step, ...] = ()
    close: tuple[Step, ...] = ()
    release: tuple[Step, ...] = ()

    def all(self) -> tuple[Step, ...]:
        """Every step of every action."""
        return (*self.hold_power, *self.limit_generation, *self.open, *self.close, *self.release)
