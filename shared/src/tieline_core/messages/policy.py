"""Local rules the hub sends: shedding parameters and the vital list."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.base import Message
from tieline_core.shedding import PriorityClass, ThermalOverloadParameters


class Policy(Message):
    """Shedding policy of one edge; it can make a device vital, never a vital device sheddable."""

    version: Literal[1] = 1
    policy_id: str = Field(min_length=8, max_length=64)
    edge_id: EdgeId
    thermal_overload: ThermalOverloadParameters | None = None
    classes: dict[DeviceId, PriorityClass] = Field(default_factory=dict)
    vital: tuple[DeviceId, ...] = ()
