"""From an action to the nodes it writes: bounds first, then the type the server declares. Pure."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tieline_edge.drivers.capabilities import Action, DevicePermanentError, DeviceSpec
from tieline_edge.drivers.catalog.entry import CatalogEntry
from tieline_edge.drivers.orders import check_order, steps_of, variables_of

if TYPE_CHECKING:
    from asyncua import ua

#: VariantType number of an integer -> its least and largest value (OPC 10000-6, 5.1.2).
INTEGERS: Final = {
    2: (-(2**7), 2**7 - 1),
    3: (0, 2**8 - 1),
    4: (-(2**15), 2**15 - 1),
    5: (0, 2**16 - 1),
    6: (-(2**31), 2**31 - 1),
    7: (0, 2**32 - 1),
    8: (-(2**63), 2**63 - 1),
    9: (0, 2**64 - 1),
}
_BOOLEAN, _FLOAT, _DOUBLE = 1, 10, 11
#: Times that are longer than their node holds are written as the longest.
_TIMES: Final = ("revert_s", "revert_again_s", "off_timer_s")

#: StatusCodes of a write that may pass by themselves; every other Bad is a refusal (OPC 10000-6, annex A).
_PASSING: Final = frozenset(
    {
        "BadTimeout",
        "BadCommunicationError",
        "BadNoCommunication",
        "BadWaitingForInitialData",
        "BadServerHalted",
        "BadServerNotConnected",
        "BadShutdown",
        "BadTooManyOperations",
        "BadResourceUnavailable",
        "BadOutOfMemory",
        "BadOutOfService",
        "BadInternalError",
        "BadUnexpectedError",
        "BadDeviceFailure",
        "BadInvalidState",
        "BadRequestTimeout",
    }
)


@dataclass(frozen=True, slots=True)
class PlannedWrite:
    """One node and the number that goes there.

    Attributes:
        node: Node id with the instance's root in it.
        value: In the node's own sign.
        is_time: A time that may be cut to what the node holds.
    """

    node: str
    value: float
    is_time: bool = False

    @property
    def label(self) -> str:
        """For messages."""
        return f"{self.node} = {self.value:g}"


def plan_node_writes(action: Action, spec: DeviceSpec, entry: CatalogEntry, root: str) -> tuple[PlannedWrite, ...]:
    """The writes an action becomes, in order.

    Raises:
        DevicePermanentError: When the device cannot do it or a value is out of the catalogue's bounds; nothing was written.
    """
    check_order(action, spec)
    variables = variables_of(action, spec)
    planned = []
    for step in steps_of(action, entry.node_writes, spec, entry.name):
        node = step.node.replace("{root}", root)
        if isinstance(step.value, str):
            if step.value not in variables:
                raise DevicePermanentError(
                    f"{spec.device_id}: {node} needs {step.value}, which is unknown; nothing was written"
                )
            value = variables[step.value] * step.sign + 0.0
        else:
            value = step.value * step.sign + 0.0
        is_time = step.value in _TIMES
        if step.writable is not None:
            value = min(value, step.writable.high) if is_time else value
            if not step.writable.low <= value <= step.writable.high:
                span = f"{step.writable.low:g} to {step.writable.high:g}"
                raise DevicePermanentError(f"{spec.device_id}: {node} takes {span}, not {value:g}; nothing was written")
        planned.append(PlannedWrite(node, value, is_time))
    return tuple(planned)


def encode(planned: PlannedWrite, kind: int) -> float | int | bool:
    """The number as a value of the node's type; an integer node gets the nearest whole number.

    Args:
        planned: What to write.
        kind: VariantType number.

    Raises:
        ValueError: When it does not fit, or the type is no number.
    """
    value = planned.value
    if not math.isfinite(value):
        raise ValueError(f"{planned.label}: no finite number")
    if kind == _BOOLEAN:
        if value not in (0.0, 1.0):
            raise ValueError(f"{planned.label}: the node is a Boolean")
        return value == 1.0
    if kind in INTEGERS:
        low, high = INTEGERS[kind]
        whole = min(round(value), high) if planned.is_time else round(value)
        if not low <= whole <= high:
            raise ValueError(f"{planned.label}: the node holds {low} to {high}")
        return whole
    if kind == _FLOAT:
        try:
            return float(struct.unpack("<f", struct.pack("<f", value))[0])
        except OverflowError as error:
            raise ValueError(f"{planned.label}: does not fit a Float") from error
    if kind == _DOUBLE:
        return value
    raise ValueError(f"{planned.label}: the node's type is no number and no Boolean (VariantType {kind})")


def kind_of(value: ua.DataValue, data_type: ua.DataValue) -> int:
    """VariantType number of a node: of the value it holds, else of its DataType where that is a built-in one; 0 = unknown."""
    variant = value.Value
    if variant is not None and variant.Value is not None:
        return int(variant.VariantType.value)
    declared = None if data_type.Value is None else data_type.Value.Value
    if declared is not None and declared.NamespaceIndex == 0 and isinstance(declared.Identifier, int):
        # Enumerations (29) travel as Int32.
        return {29: 6}.get(declared.Identifier, declared.Identifier)
    return 0


def may_pass(name: str) -> bool:
    """True when a refused write of that StatusCode may be tried again as it is."""
    return name in _PASSING


def held(answer: object, wanted: float | int | bool, kind: int) -> bool:
    """True when a read-back is what was written, at the resolution of the node's type."""
    if not isinstance(answer, bool | int | float):
        return False
    if kind in (_FLOAT, _DOUBLE):
        return math.isclose(float(answer), float(wanted), rel_tol=1e-6, abs_tol=1e-9)
    return answer == wanted
