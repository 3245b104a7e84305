"""SunSpec discovery: find 'SunS', walk the chain of models to its end.

Source: SunSpec Device Information Model Specification 1.x, "SunSpec Map": the marker stands at 40000, 50000 or 0 and is
followed by blocks of (model id, length, length registers), the last one with id 0xFFFF.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from tieline_edge.drivers.capabilities import DevicePermanentError, DeviceTransientError

BASES: Final = (40000, 50000, 0)
MARKER: Final = (0x5375, 0x6E53)
_END: Final = 0xFFFF
_MAX_MODELS: Final = 64
_COMMON: Final = 1
#: Model 1: first register after the ID and number of registers of Mn, Md, Opt, Vr, SN (16, 16, 8, 8, 16).
_COMMON_TEXT: Final = (2, 64)

#: What the models mean that Tieline reads or that tell what a device is (names of the public model files).
MODEL_TITLES: Final = MappingProxyType(
    {
        1: "common",
        101: "inverter, single phase",
        102: "inverter, split phase",
        103: "inverter, three phase",
        111: "inverter, single phase, float",
        112: "inverter, split phase, float",
        113: "inverter, three phase, float",
        120: "nameplate ratings",
        121: "basic settings",
        122: "measurements and status",
        123: "immediate controls",
        124: "basic storage controls",
        160: "multiple MPPT",
        201: "meter, single phase",
        202: "meter, split phase",
        203: "meter, wye",
        204: "meter, delta",
        211: "meter, single phase, float",
        212: "meter, split phase, float",
        213: "meter, wye, float",
        214: "meter, delta, float",
        701: "DER AC measurement",
        702: "DER capacity",
        703: "DER enter service",
        704: "DER AC controls",
        705: "DER Volt-Var",
        706: "DER Volt-Watt",
        707: "DER trip, low voltage",
        708: "DER trip, high voltage",
        709: "DER trip, low frequency",
        710: "DER trip, high frequency",
        711: "DER frequency droop",
        712: "DER Watt-Var",
        713: "DER storage capacity",
        714: "DER DC measurement",
        802: "battery base",
    }
)


@dataclass(frozen=True, slots=True)
class Model:
    """One model block: id, address of its ID register, and length without the two header registers."""

    number: int
    address: int
    length: int


@dataclass(frozen=True, slots=True)
class Identity:
    """What model 1 says a device is; a text it leaves empty is empty here."""

    manufacturer: str
    model: str
    version: str
    serial: str

    def __str__(self) -> str:
        return " ".join(text for text in (self.manufacturer, self.model, self.serial) if text)


@dataclass(frozen=True, slots=True)
class SunSpecDevice:
    """What discovery found behind one unit: its models in the order of the chain, and who it is."""

    models: tuple[Model, ...]
    identity: Identity | None = None


ReadHolding = Callable[[int, int], Awaitable[Sequence[int]]]


async def discover(read: ReadHolding) -> SunSpecDevice:
    """All models of a device with their addresses, and its manufacturer, model and serial number where it tells them.

    Args:
        read: Reads (address, count) of holding registers.

    Raises:
        DevicePermanentError: When it is no SunSpec device or its chain has no end.
        DeviceTransientError: When it does not answer.
    """
    models = await walk(read)
    common = next((model for model in models if model.number == _COMMON and model.length >= _COMMON_TEXT[1]), None)
    if common is None:
        return SunSpecDevice(models)
    try:
        words = await read(common.address + _COMMON_TEXT[0], _COMMON_TEXT[1])
    except (DeviceTransientError, DevicePermanentError):
        return SunSpecDevice(models)
    return SunSpecDevice(models, _identity(words))


def _identity(words: Sequence[int]) -> Identity | None:
    data = struct.pack(f">{len(words)}H", *words)

    def text(first: int, count: int) -> str:
        raw = data[2 * first : 2 * (first + count)].split(b"\0")[0].decode("ascii", "replace")
        return "".join(letter if letter.isprintable() else "?" for letter in raw).strip()

    found = Identity(text(0, 16), text(16, 16), text(40, 8), text(48, 16))
    return found if any((found.manufacturer, found.model, found.serial)) else None


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
