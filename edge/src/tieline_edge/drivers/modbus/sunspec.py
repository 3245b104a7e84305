"""SunSpec discovery: find 'SunS', walk the chain of models to its end.

Source: SunSpec Device Information Model Specification 1.x, "SunSpec Map": the marker stands at 40000, 50000 or 0 and is
followed by blocks of (model id, length, length registers), the last one with id 0xFFFF.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tieline_edge.drivers.capabilities import DevicePermanentError

BASES: Final = (40000, 50000, 0)
MARKER: Final = (0x5375, 0x6E53)
_END: Final = 0xFFFF
_MAX_MODELS: Final = 64


@dataclass(frozen=True, slots=True)
class Model:
    """One model block: id, address of its ID register, and length without the two header registers."""

    number: int
    address: int
    length: int


ReadHolding = Callable[[int, int], Awaitable[Sequence[int]]]


async def walk(read: ReadHolding) -> tuple[Model, ...]:
    """All models of a device.

    Args:
        read: Reads (address, count) of holding registers.

    Raises:
        DevicePermanentError: When it is no SunSpec device or its chain has no end.
        DeviceTransientError: When it does not answer.
    """
    refusal: DevicePermanentError | None = None
    for base in BASES:
        try:
            marker = tuple(await read(base, 2))
        except DevicePermanentError as error:
            refusal = error
            continue
        if marker == MARKER:
            return await _chain(read, base + 2)
    raise DevicePermanentError(f"no SunSpec device: 'SunS' stands at none of {', '.join(map(str, BASES))}") from refusal


async def _chain(read: ReadHolding, address: int) -> tuple[Model, ...]:
    models: list[Model] = []
    while len(models) < _MAX_MODELS and address < 0xFFFE:
        number, length = await read(address, 2)
        if number == _END:
            return tuple(models)
        models.append(Model(number, address, length))
        address += 2 + length
    raise DevicePermanentError(f"the chain of SunSpec models has no end after {[model.number for model in models]}")
