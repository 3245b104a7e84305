"""A SunSpec device: a chain of models in holding registers from 40000 on ("SunSpec Modbus", device information model).

Values are made when they are asked for; scale factors are constants of the device. Writes are checked whole before any of
them takes effect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tieline_sim.devices.sunspec_models import NOT_IMPLEMENTED, Point, layout

BASE_ADDRESS: Final = 40000
ILLEGAL_ADDRESS: Final = 2
ILLEGAL_VALUE: Final = 3
_SIGNED: Final = ("i16", "i32", "sf")


class ModbusRefusal(Exception):  # noqa: N818 (an answer, not a failure: the Modbus exception response)
    """The device answers with a Modbus exception.

    Args:
        code: Exception code of the Modbus application protocol, 2 = illegal data address, 3 = illegal data value.
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"Modbus exception {code}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Writable:
    """A point that can be written: its start value and its range, in engineering units."""

    initial: float
    low: float
    high: float


@dataclass
class Model:
    """One information model of a device.

    Args:
        number: SunSpec model number.
        scales: Scale factor points and their exponents.
        fixed: Points that never change, engineering units or text.
        live: Gives the points that change, in engineering units; a point it leaves out reads "not implemented".
        writable: Points that can be written.
        transmits: Points whose transmission is a measurement, for the witness.
        written: Called after accepted writes with the names of the points.
    """

    number: int
    scales: Mapping[str, int] = field(default_factory=dict)
    fixed: Mapping[str, float | str] = field(default_factory=dict)
    live: Callable[[], Mapping[str, float]] = dict
    writable: Mapping[str, Writable] = field(default_factory=dict)
    transmits: Sequence[str] = ()
    written: Callable[[set[str]], None] | None = None

    def __post_init__(self) -> None:
        self.points = {point.name: point for point in layout(self.number)}
        last = layout(self.number)[-1]
        self.length = last.offset + last.size
        self.settings = {name: row.initial for name, row in self.writable.items()}
        self._image = [0] * self.length
        for point in self.points.values():
            self._store(point, None)
        for name, value in {"ID": self.number, "L": self.length - 2, **self.scales, **self.fixed}.items():
            self._store(self.points[name], value)

    def exponent(self, point: Point) -> int:
        """Power of ten the raw value is multiplied by."""
        return self.scales.get(point.scale, 0) if point.scale else 0

    def _store(self, point: Point, value: float | str | None) -> None:
        self._image[point.offset : point.offset + point.size] = encode(point, value, self.exponent(point))

    def registers(self) -> list[int]:
        """The model as it reads now."""
        for name, value in self.settings.items():
            self._store(self.points[name], value)
        for name, value in self.live().items():
            self._store(self.points[name], value)
        return self._image

    def transmitted(self, start: int, count: int) -> dict[str, float]:
        """Measurements wholly inside the registers [start, start + count) of the image as last read."""
        values: dict[str, float] = {}
        for name in self.transmits:
            point = self.points[name]
            if start <= point.offset and point.offset + point.size <= start + count:
                value = decode(point, self._image[point.offset : point.offset + point.size], self.exponent(point))
                if value is not None:
                    values[f"{self.number}.{name}"] = value
        return values

    def decode_write(self, start: int, values: Sequence[int]) -> dict[str, float]:
        """Points a write would set.

        Raises:
            ModbusRefusal: Code 2 for a point that cannot be written, 3 for a value out of range or half a point.
        """
        accepted: dict[str, float] = {}
        end = start + len(values)
        for point in self.points.values():
            if point.offset >= end or point.offset + point.size <= start:
                continue
            limits = self.writable.get(point.name)
            if limits is None:
                raise ModbusRefusal(ILLEGAL_ADDRESS)
            if point.offset < start or point.offset + point.size > end:
                raise ModbusRefusal(ILLEGAL_VALUE)
            raw = values[point.offset - start : point.offset - start + point.size]
            value = decode(point, raw, self.exponent(point))
            if value is None or not limits.low <= value <= limits.high:
                raise ModbusRefusal(ILLEGAL_VALUE)
            accepted[point.name] = value
        return accepted

    def accept(self, values: Mapping[str, float]) -> None:
        """Take over settings that :meth:`decode_write` has let through."""
        self.settings.update(values)
        if self.written is not None:
            self.written(set(values))


class SunSpecDevice:
    """A chain of models behind one unit id."""

    def __init__(self, models: Sequence[Model]) -> None:
        self.models = {model.number: model for model in models}
        self._bases: list[tuple[int, Model]] = []
        base = BASE_ADDRESS + 2
        for model in models:
            self._bases.append((base, model))
            base += model.length
        self._end = base + 2

    def read(self, address: int, count: int) -> tuple[list[int], dict[str, float]]:
        """Registers and the measurements they carry.

        Raises:
            ModbusRefusal: Code 2 when a register is outside the chain.
        """
        if address < BASE_ADDRESS or address + count > self._end:
            raise ModbusRefusal(ILLEGAL_ADDRESS)
        words: dict[int, int] = {BASE_ADDRESS: 0x5375, BASE_ADDRESS + 1: 0x6E53, self._end - 2: 0xFFFF, self._end - 1: 0}
        carried: dict[str, float] = {}
        for base, model in self._bases:
            if base < address + count and address < base + model.length:
                words.update(enumerate(model.registers(), base))
                carried.update(model.transmitted(address - base, count))
        return [words[number] for number in range(address, address + count)], carried

    def write(self, address: int, values: Sequence[int]) -> dict[str, float]:
        """Apply a write; gives what was set as ``model.point``.

        Raises:
            ModbusRefusal: Code 2 or 3; nothing has changed then.
        """
        pending: list[tuple[Model, dict[str, float]]] = []
        covered = 0
        for base, model in self._bases:
            first, last = max(address, base), min(address + len(values), base + model.length)
            if first < last:
                pending.append((model, model.decode_write(first - base, values[first - address : last - address])))
                covered += last - first
        if covered != len(values):
            raise ModbusRefusal(ILLEGAL_ADDRESS)
        for model, accepted in pending:
            model.accept(accepted)
        return {f"{model.number}.{name}": value for model, accepted in pending for name, value in accepted.items()}

    def to_state(self) -> dict[str, dict[str, float]]:
        """Settings of all models, for the state file."""
        return {str(number): dict(model.settings) for number, model in self.models.items() if model.settings}

    def load_state(self, state: Mapping[str, Mapping[str, float]]) -> None:
        """Take back what :meth:`to_state` gave."""
        for number, settings in state.items():
            self.models[int(number)].settings.update(settings)


def encode(point: Point, value: float | str | None, exponent: int) -> list[int]:
    """Registers of a value, most significant word first; None or a number out of reach is "not implemented"."""
    if point.kind[0] == "s" and point.kind != "sf":
        raw = (value if isinstance(value, str) else "").encode("ascii")[: point.size * 2].ljust(point.size * 2, b"\0")
        return [int.from_bytes(raw[k : k + 2], "big") for k in range(0, len(raw), 2)]
    bits = 16 * point.size
    number = NOT_IMPLEMENTED[point.kind]
    if value is not None:
        whole = round(float(value) / 10**exponent)
        low, high = (-(1 << (bits - 1)) + 1, (1 << (bits - 1)) - 1) if point.kind in _SIGNED else (0, (1 << bits) - 1)
        if point.kind == "a32" or low <= whole <= high:
            number = whole % (1 << bits)
    return [(number >> (16 * (point.size - 1 - k))) & 0xFFFF for k in range(point.size)]


def decode(point: Point, words: Sequence[int], exponent: int) -> float | None:
    """Engineering value of registers, None for "not implemented"."""
    number = 0
    for word in words:
        number = (number << 16) | word
    if number == NOT_IMPLEMENTED[point.kind] and point.kind != "a32":
        return None
    bits = 16 * point.size
    if point.kind in _SIGNED and number >= 1 << (bits - 1):
        number -= 1 << bits
    return number * 10.0**exponent if exponent >= 0 else number / 10.0**-exponent


def identity(model: str, serial: str) -> Model:
    """Model 1, common."""
    return Model(
        1,
        fixed={"Mn": "Tieline field", "Md": model, "Vr": "1.0", "SN": serial, "DA": 1},
    )
