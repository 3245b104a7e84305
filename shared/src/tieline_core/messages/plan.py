"""The day plan of one edge, with the certificate it was published on."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import AwareDatetime, Field, model_validator

from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.base import MAX_DEVICES, MAX_STEPS, Instant, Message, StepS
from tieline_core.messages.network import NetworkTable, PriceVector


class PlanMode(StrEnum):
    """What the numbers of a device plan are."""

    SETPOINT_W = "setpoint_w"
    """Active power to hold; load convention."""
    GENERATION_LIMIT_W = "generation_limit_w"
    """Lower bound of the signed power: -12000 lets a PV plant deliver at most 12 kW."""
    LOAD_LIMIT_W = "load_limit_w"
    """Upper bound of the signed power of a flexible load."""


class DevicePlan(Message):
    """One device's part: one number a step, None = no instruction in that step."""

    device_id: DeviceId
    mode: PlanMode
    values_w: tuple[float | None, ...] = Field(max_length=MAX_STEPS)


class Verdict(StrEnum):
    """``clean``: no limit is crossed. ``relief``: an overload cannot be avoided; crossings listed, not above doing nothing."""

    CLEAN = "clean"
    RELIEF = "relief"


class Violation(Message):
    """One limit the plan cannot keep."""

    element: str
    at: AwareDatetime
    quantity: Literal["loading_pct", "vm_pu"]
    value: float
    limit: float
    without_plan: float


class Certificate(Message):
    """What an AC power flow says about the plan; the edge takes no plan without one."""

    verdict: Verdict
    max_loading_pct: dict[Literal["p10", "p50", "p90"], float]
    max_loading_element: str
    min_vm_pu: float
    max_vm_pu: float
    violations: tuple[Violation, ...] = ()
    optimality_gap: float = Field(ge=0)
    objective_eur: float
    objective_without_eur: float
    iterations: int = Field(ge=1, description="rounds of plan and AC correction")
    input_sha256: dict[str, str]
    solver: str
    checked_at: AwareDatetime


class Plan(Message):
    """Setpoints and limits of one edge's devices from ``start`` in steps of ``step_s``."""

    version: Literal[1] = 1
    plan_id: str = Field(min_length=8, max_length=64)
    edge_id: EdgeId
    issued_at: Instant
    start: Instant
    step_s: StepS
    devices: tuple[DevicePlan, ...] = Field(max_length=MAX_DEVICES)
    certificate: Certificate
    network: NetworkTable | None = Field(default=None, description="limits around the site, for the time without the hub")
    prices: PriceVector | None = Field(default=None, description="what energy is known to cost, for the local schedule")

    @model_validator(mode="after")
    def _same_length(self) -> Plan:
        if len({len(device.values_w) for device in self.devices}) > 1:
            raise ValueError("all devices of a plan have the same number of steps")
        if len({device.device_id for device in self.devices}) != len(self.devices):
            raise ValueError("a device stands in a plan once")
        return self

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.devices[0].values_w) if self.devices else 0
