"""Local rules the hub sends: shedding parameters, classes, the vital list, shares of shared elements, releases."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.base import Message
from tieline_core.shedding import (
    ExchangeParameters,
    FrequencyParameters,
    HotSpotParameters,
    LineOverloadParameters,
    LossOfMainsParameters,
    PriorityClass,
    StorageParameters,
    SwitchingParameters,
    ThermalOverloadParameters,
    VoltageParameters,
)


class Policy(Message):
    """Shedding policy of one edge; it can make a device vital, never a vital device sheddable.

    A section that is absent leaves the edge's own configuration in force.

    Attributes:
        shares: This edge's share of the relief of an element that several edges measure, by the element's device id.
        released_at: An operator releases every latched stage that was latched before this instant.
    """

    version: Literal[1] = 1
    policy_id: str = Field(min_length=8, max_length=64)
    edge_id: EdgeId
    thermal_overload: ThermalOverloadParameters | None = None
    hot_spot: HotSpotParameters | None = None
    line_overload: LineOverloadParameters | None = None
    voltage: VoltageParameters | None = None
    frequency: FrequencyParameters | None = None
    exchange: ExchangeParameters | None = None
    loss_of_mains: LossOfMainsParameters | None = None
    switching: SwitchingParameters | None = None
    storage: StorageParameters | None = None
    classes: dict[DeviceId, PriorityClass] = Field(default_factory=dict)
    vital: tuple[DeviceId, ...] = ()
    shares: dict[DeviceId, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    released_at: AwareDatetime | None = None
