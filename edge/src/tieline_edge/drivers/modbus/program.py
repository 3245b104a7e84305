"""From an action to the registers it writes. Pure: everything refused here has sent no byte."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tieline_edge.drivers.capabilities import Action, DevicePermanentError, DeviceSpec
from tieline_edge.drivers.catalog.entry import CatalogEntry, Register, Table, Write
from tieline_edge.drivers.modbus.registers import encode_raw, largest
from tieline_edge.drivers.orders import check_order, steps_of, variables_of


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
    check_order(action, spec)
    steps = steps_of(action, entry.writes, spec, entry.name) if steps is None else steps
    variables = variables_of(action, spec, scales.rating_w)
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
