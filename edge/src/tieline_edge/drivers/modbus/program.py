"""From an action to the registers it writes. Pure: everything refused here has sent no byte."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tieline_edge.drivers.capabilities import (
    Action,
    Capability,
    DevicePermanentError,
    DeviceSpec,
    HoldPower,
    LimitGeneration,
    Release,
    SwitchContact,
)
from tieline_edge.drivers.catalog.entry import CatalogEntry, Register, Table, Write
from tieline_edge.drivers.modbus.registers import encode_raw, largest

#: Set points are compared with limits that came through other roundings.
_TOLERANCE_W = 0.5


@dataclass(frozen=True, slots=True)
class Scales:
    """Scale factors and rating read from the device: what a setpoint needs to become a register.

    Attributes:
        exponents: Scale factor of each writable register; a register the device has not implemented is missing.
        rating_w: Rating that ``power_pct`` refers to [W].
    """

    exponents: Mapping[Register, int]
    rating_w: float | None = None


@dataclass(frozen=True, slots=True)
class RegisterWrite:
    """One request: neighbouring words of one table, with the registers they are for."""

    table: Table
    group: int
    address: int
    words: tuple[int, ...]
    labels: tuple[str, ...]


def _check(action: Action, spec: DeviceSpec) -> None:
    needs = {
        HoldPower: Capability.HOLD_POWER,
        LimitGeneration: Capability.LIMIT_GENERATION,
        SwitchContact: Capability.SWITCH,
    }.get(type(action))
    if needs is not None and needs not in spec.capabilities:
        raise DevicePermanentError(f"{spec.device_id} cannot {needs.value}; nothing was written")
    reasons = []
    if isinstance(action, HoldPower):
        if not math.isfinite(action.power_w):
            reasons.append(f"{action.power_w} is no power")
        elif not spec.p_min_w - _TOLERANCE_W <= action.power_w <= spec.p_max_w + _TOLERANCE_W:
            reasons.append(f"{action.power_w:g} W is outside {spec.p_min_w:g} W to {spec.p_max_w:g} W")
    if isinstance(action, LimitGeneration) and action.min_power_w is not None:
        if not math.isfinite(action.min_power_w) or action.min_power_w > 0:
            reasons.append(f"a generation limit is at most 0 W (load convention), got {action.min_power_w:g} W")
        if spec.p_min_w >= 0:
            reasons.append("p_min_w (the rating, below 0 W) is not configured")
    if isinstance(action, HoldPower | LimitGeneration) and not (math.isfinite(action.revert_s) and action.revert_s > 0):
        reasons.append(f"revert_s must be above 0 s, got {action.revert_s:g}")
    if isinstance(action, SwitchContact) and not (math.isfinite(action.off_timer_s) and action.off_timer_s >= 0):
        reasons.append(f"off_timer_s must not be below 0 s, got {action.off_timer_s:g}")
    if reasons:
        raise DevicePermanentError(f"{spec.device_id}: {'; '.join(reasons)}; nothing was written")


def steps_of(action: Action, entry: CatalogEntry) -> tuple[Write, ...]:
    """The entry's own steps for an action; empty when it has none."""
    writes = entry.writes
    match action:
        case HoldPower():
            return writes.hold_power
        case LimitGeneration(min_power_w=None) | Release():
            return writes.release
        case LimitGeneration():
            return writes.limit_generation
        case SwitchContact(closed=closed):
            return writes.close if closed else writes.open


def _variables(action: Action, spec: DeviceSpec, rating_w: float | None) -> dict[str, float]:
    match action:
        case HoldPower(power_w=power_w, revert_s=revert_s):
            power_w = min(max(power_w, spec.p_min_w), spec.p_max_w)
            found = {"power_w": power_w, **_times(revert_s)}
            if rating_w:
                found["power_pct"] = 100.0 * power_w / rating_w
            return found
        case LimitGeneration(min_power_w=float() | int() as limit_w, revert_s=revert_s):
            share = min(1.0, limit_w / spec.p_min_w) + 0.0
            return {"limit_w": -max(limit_w, spec.p_min_w) + 0.0, "limit_pct": 100.0 * share, **_times(revert_s)}
        case SwitchContact(off_timer_s=off_timer_s):
            return {"off_timer_s": float(math.ceil(off_timer_s))}
        case _:
            return {}


def _times(revert_s: float) -> dict[str, float]:
    whole_s = float(math.ceil(revert_s))
    return {"revert_s": whole_s, "revert_again_s": whole_s + (1.0 if whole_s % 2 else -1.0)}


def plan_writes(
    action: Action, spec: DeviceSpec, entry: CatalogEntry, scales: Scales, steps: tuple[Write, ...] | None = None
) -> tuple[RegisterWrite, ...]:
    """The requests an action becomes, in order; neighbouring registers share one request.

    Args:
        action: What is wanted.
        spec: What the device is.
        entry: Its catalogue entry.
        scales: Read from the device.
        steps: Other steps than the entry's own for the action, with the same variables.

    Raises:
        DevicePermanentError: When the device cannot do it or a value fits no register.
    """
    _check(action, spec)
    steps = steps_of(action, entry) if steps is None else steps
    if not steps and not isinstance(action, Release):
        raise DevicePermanentError(f"{spec.device_id}: catalogue entry {entry.name} has no writes for {action}")
    variables = _variables(action, spec, scales.rating_w)
    requests: list[RegisterWrite] = []
    for step in steps:
        register = step.register_
        exponent = scales.exponents.get(register)
        if exponent is None and step.optional:
            continue
        if exponent is None:
            raise DevicePermanentError(f"{spec.device_id}: the device has not implemented {register.label}")
        if isinstance(step.value, str):
            if step.value not in variables:
                raise DevicePermanentError(f"{spec.device_id}: {register.label} needs {step.value}, and the rating is unknown")
            value = variables[step.value] * step.sign
        else:
            value = step.value * step.sign
        if step.value in ("revert_s", "revert_again_s", "off_timer_s"):
            value = min(value, step.writable.high if step.writable else largest(register))
        if step.writable is not None and not step.writable.low <= value <= step.writable.high:
            span = f"{step.writable.low:g} to {step.writable.high:g}"
            raise DevicePermanentError(f"{spec.device_id}: {register.label} takes {span}, not {value:g}; nothing was written")
        try:
            words = encode_raw(value, register, exponent)
        except ValueError as error:
            raise DevicePermanentError(f"{spec.device_id}: {error}; nothing was written") from error
        last = requests[-1] if requests else None
        label = f"{register.label} = {value:g}"
        if (
            last is not None
            and (last.table, last.group) == (register.table, register.model or 0)
            and last.address + len(last.words) == register.address
        ):
            requests[-1] = RegisterWrite(last.table, last.group, last.address, last.words + words, (*last.labels, label))
        else:
            requests.append(RegisterWrite(register.table, register.model or 0, register.address, words, (label,)))
    return tuple(requests)
