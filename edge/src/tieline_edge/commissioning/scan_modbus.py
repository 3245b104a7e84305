"""Looking at the units of one Modbus bus: SunSpec devices with their ratings, others with what they answer.

Only registers are read, one request at a time; a unit that is silent costs one time-out, a bus that is away costs one in all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from tieline_edge.commissioning.finding import Finding
from tieline_edge.drivers.capabilities import DevicePermanentError, DeviceTransientError, Role
from tieline_edge.drivers.catalog.entry import CatalogEntry, Register, RegisterType, Table
from tieline_edge.drivers.catalog.load import entry, names
from tieline_edge.drivers.modbus.endpoint import Endpoint, SerialEndpoint
from tieline_edge.drivers.modbus.link import ModbusLink
from tieline_edge.drivers.modbus.registers import Words, coalesce
from tieline_edge.drivers.modbus.sunspec import Model, SunSpecDevice, discover
from tieline_edge.drivers.plausibility import RULES, Nominal, Verdict

#: What a wrong map is least likely to show by chance: voltage and frequency of a grid.
_TELLING: Final = ("v_v", "f_hz")
#: SunSpec points with ratings, by what they rate, best source first: model, offset from its ID register, scale factor.
RATINGS: Final[Mapping[str, tuple[tuple[int, int, int], ...]]] = {
    "charge_w": ((702, 10, 45), (120, 23, 24), (124, 2, 18), (802, 4, 54)),
    "discharge_w": ((702, 11, 45), (120, 25, 26), (124, 2, 18), (802, 5, 54)),
    "generation_w": ((702, 2, 45), (120, 3, 4), (121, 2, 22)),
    "energy_wh": ((802, 3, 53), (713, 2, 7), (120, 19, 20)),
}

#: Told after each unit.
Step = Callable[[], None]
#: Told what did not answer, in words.
Silence = Callable[[str], None]


def fitting_entries(models: Iterable[int]) -> tuple[str, ...]:
    """SunSpec catalogue entries whose models a device has all of; the one that uses most of them first."""
    have = set(models)
    fits = [(len(needs), name) for name in names() if (needs := _models_of(entry(name))) and needs <= have]
    return tuple(name for _, name in sorted(fits, key=lambda row: (-row[0], row[1])))


def _models_of(found: CatalogEntry) -> set[int]:
    return {register.model for register in found.registers if register.model is not None}


async def scan_bus(
    endpoint: Endpoint,
    units: Sequence[int],
    timeout_s: float,
    step: Step = lambda: None,
    silence: Silence = lambda _: None,
    *,
    guess: bool = True,
) -> list[Finding]:
    """Ask each unit of one bus.

    Args:
        endpoint: The bus.
        units: Unit ids to ask.
        timeout_s: Longest wait for an answer.
        step: Called after each unit.
        silence: Told once at the end which units did not answer, or why the bus could not be reached.
        guess: Compare units without SunSpec with the catalogue by the voltage and frequency they would show.
    """
    link = ModbusLink(endpoint, timeout_s)
    findings, silent = [], []
    try:
        for unit in units:
            read = partial(link.read, unit)
            try:
                device = await discover(partial(read, Table.HOLDING))
            except DevicePermanentError:
                findings.append(await _unknown(read, _place(endpoint, unit), guess=guess))
            except DeviceTransientError as error:
                if "no connection" in str(error):
                    silence(str(error))
                    break
                silent.append(unit)
            else:
                findings.append(await _sunspec(read, _place(endpoint, unit), device))
            step()
    finally:
        link.close()
    if silent:
        silence(f"{link}: no answer within {timeout_s:g} s of unit {_spans(silent)}")
    return findings


def _spans(numbers: Sequence[int]) -> str:
    """Numbers as ``1, 3-5``."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in spans)


def _place(endpoint: Endpoint, unit: int) -> dict[str, object]:
    if isinstance(endpoint, SerialEndpoint):
        line = {"serial": endpoint.path, "baud": endpoint.baud, "parity": endpoint.parity, "stop_bits": endpoint.stop_bits}
        return {**line, "unit": unit}
    framing = {} if endpoint.framing == "tcp" else {"framing": endpoint.framing}
    return {"host": endpoint.host, "port": endpoint.port, **framing, "unit": unit}


Read = Callable[[Table, int, int], Awaitable[Sequence[int]]]


async def _sunspec(read: Read, place: Mapping[str, object], device: SunSpecDevice) -> Finding:
    identity = f"{device.identity}: " if device.identity else ""
    chain = ", ".join(str(model.number) for model in device.models)
    fits = fitting_entries(model.number for model in device.models)
    role = entry(fits[0]).role if fits else None
    ratings = await _ratings(read, device.models, role)
    return Finding(place, f"{identity}SunSpec models {chain}", fits, ratings=ratings)


async def _ratings(read: Read, models: Sequence[Model], role: Role | None) -> dict[str, float]:
    """Keys of a device block out of the nameplate models."""
    if role is Role.STORAGE:
        charge, discharge, energy = [await _first(read, models, name) for name in ("charge_w", "discharge_w", "energy_wh")]
        rows = {"p_min_w": None if discharge is None else -discharge, "p_max_w": charge, "energy_wh": energy}
    elif role is Role.PV:
        generation = await _first(read, models, "generation_w")
        rows = {"p_min_w": None if generation is None else -generation}
    else:
        rows = {}
    return {name: value for name, value in rows.items() if value}


async def _first(read: Read, models: Sequence[Model], name: str) -> float | None:
    found = {model.number: model for model in reversed(models)}
    for number, offset, factor in RATINGS[name]:
        model = found.get(number)
        if model is None or model.length + 2 <= max(offset, factor):
            continue
        register = Register(address=offset, type=RegisterType.UINT16, model=number, scale_factor=factor)
        words = Words()
        try:
            for block in coalesce([register, Register(address=factor, model=number)]):
                words.add(block, await read(Table.HOLDING, model.address + block.start, block.count))
        except (DevicePermanentError, DeviceTransientError):
            continue
        value = words.value(register)
        if value is not None and value > 0:
            return value
    return None


async def _unknown(read: Read, place: Mapping[str, object], *, guess: bool) -> Finding:
    """A unit without SunSpec: what its tables answer, and which entries would show a grid."""
    answers = []
    for table in (Table.HOLDING, Table.INPUT, Table.COIL, Table.DISCRETE):
        try:
            (word,) = await read(table, 0, 1)
        except DevicePermanentError as error:
            answers.append(f"{table.value} 0: {str(error).rpartition(': ')[2].partition(';')[0]}")
        except DeviceTransientError:
            answers.append(f"{table.value} 0: no answer")
        else:
            answers.append(f"{table.value} 0 = {word}")
    fits = await _guesses(read) if guess else ()
    text = "answers Modbus, is no SunSpec device; choose the entry by its register sheet"
    if fits:
        text = "answers Modbus, is no SunSpec device; voltage and frequency would fit these entries, compare the nameplate"
    return Finding(place, text, fits, tuple(answers), certain=False)


async def _guesses(read: Read) -> tuple[str, ...]:
    """Entries whose voltage and frequency the unit would show; a unit that falls silent over it is not asked on."""
    fits: dict[str, bool] = {}
    try:
        for name in names():
            fits[name] = await _shows_a_grid(read, entry(name))
    except DeviceTransientError:
        pass
    return tuple(name for name, fit in fits.items() if fit)


async def _shows_a_grid(read: Read, candidate: CatalogEntry) -> bool:
    """Whether a unit's registers, read as this entry says, show voltage and frequency of a grid.

    Raises:
        DeviceTransientError: It does not answer any more.
    """
    if candidate.protocol != "modbus" or _models_of(candidate):
        return False
    points = [point for point in candidate.points if point.quantity in _TELLING and point.register_ is not None]
    if not points:
        return False
    for point in points:
        register = point.register_
        if register is None:
            return False
        words = Words()
        try:
            for block in coalesce([register]):
                words.add(block, await read(block.table, block.start, block.count))
        except DevicePermanentError:
            return False
        value, nominal = words.value(register), Nominal(candidate.nominal_v)
        if value is None or RULES[point.quantity](value, nominal) is not Verdict.EXPECTED:
            return False
    return True
