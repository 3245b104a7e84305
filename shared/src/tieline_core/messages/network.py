"""What the hub tells an edge of the network around it, for the time without the hub.

A table of limiting elements with their expected values and sensitivities, linearised by AC power flow around the plan's
operating point. It travels inside the signed plan.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tieline_core.ids import DeviceId
from tieline_core.messages.base import MAX_DEVICES, Instant, Message, StepS

#: No power, price or sensitivity of a network is larger; products and sums of a few of them stay finite.
Number = Annotated[float, Field(ge=-1e12, le=1e12)]
Values = Annotated[tuple[Number, ...], Field(min_length=1, max_length=400)]


class Measured(Message):
    """Where the edge itself measures an element: the reading times ``scale`` has the element's unit."""

    device_id: DeviceId
    quantity: str = Field(max_length=64)
    scale: Number = 1.0


class Sensitivity(Message):
    """Change of an element's value with the power of one device, load convention; one number a step."""

    device_id: DeviceId
    per_mw: Values = Field(description="change of the value for 1 MW more drawn by the device")
    per_mvar: Values = Field(description="the same for 1 Mvar more drawn")


class NetworkElement(Message):
    """One limiting element: a branch by its loading, a bus by its voltage.

    Attributes:
        value: Expected value with the plan, one number a step.
    """

    element: str = Field(max_length=200)
    quantity: Literal["loading_pct", "vm_pu"]
    low: Number | None = None
    high: Number | None = None
    value: Values
    measured: Measured | None = None
    sensitivities: tuple[Sensitivity, ...] = Field(max_length=500)

    @model_validator(mode="after")
    def _bounded(self) -> NetworkElement:
        if self.low is None and self.high is None:
            raise ValueError(f"{self.element} has neither a low nor a high limit")
        lengths = {len(self.value)} | {len(row) for one in self.sensitivities for row in (one.per_mw, one.per_mvar)}
        if len(lengths) > 1:
            raise ValueError(f"{self.element}: all rows have the same number of steps")
        return self


class NetworkTable(Message):
    """All limiting elements of one edge, from ``start`` in steps of ``step_s``; beyond its end the same hour of a day holds."""

    version: Literal[1] = 1
    start: Instant
    step_s: StepS
    topology_hash: str = Field(default="", max_length=64)
    p_w: dict[DeviceId, Values] = Field(max_length=MAX_DEVICES, description="power of each device in the operating point")
    elements: tuple[NetworkElement, ...] = Field(max_length=50)

    @model_validator(mode="after")
    def _same_length(self) -> NetworkTable:
        if len({len(row) for row in self.p_w.values()} | {len(element.value) for element in self.elements}) > 1:
            raise ValueError("all rows of a table have the same number of steps")
        return self


class PriceVector(Message):
    """Known energy prices from ``start`` in steps of ``step_s``; nothing is said about other times."""

    start: Instant
    step_s: StepS
    eur_per_mwh: Values
