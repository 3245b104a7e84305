"""Field buses that lie, change, refuse and garble (F26 to F30), with pymodbus' own servers at the other end.

I3: no fabricated or mis-scaled value; I5: no write on the strength of one; I7: the others go on; I10: it recovers by itself.
"""

from __future__ import annotations

import asyncio
import math
import random
import struct
from itertools import pairwise
from typing import Any

import pytest
from pymodbus.constants import ExcCodes

from tests.contract.stands import Line, Tap
from tests.faults.modbus_field import Field, Wire, floats, meter_630, polling, sunspec_registers
from tieline_core.ids import DeviceId
from tieline_core.quantities import Quality
from tieline_edge.drivers.capabilities import DeviceTransientError, HoldPower
from tieline_edge.drivers.modbus.exceptions import EXCEPTIONS
from tieline_edge.drivers.plausibility import AFTER


def at(port: int, unit: int, timeout_s: float = 0.5) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port, "unit": unit, "timeout_s": timeout_s}


@pytest.mark.parametrize("nonsense", [math.nan, math.inf, -math.inf, 1e308, -1e308])
async def test_f26_a_number_that_is_none_never_becomes_one(nonsense: float) -> None:
    power = 99000.0

    def answer(start: int, registers: list[int], request: tuple[int, int, int]) -> None:
        floats(registers, {1: 230.5, 55: 50.0, 63: 1e5, 65: power, 67: -0.0})
        registers[801:805] = struct.unpack(">4H", struct.pack(">d", 1234567.0 if power else nonsense))
        registers[809:813] = struct.unpack(">4H", struct.pack(">d", 0.0))

    async with (
        Field({1: (0, [0] * 820, answer)}) as field,
        polling([{"id": "m1", "catalog": "siemens-pac3200", "modbus": at(field.port, 1)}]) as edge,
    ):
        await edge.until("it to be read", lambda: edge.usable("m1") >= {"e_import_wh", "q_var"})
        power = 0.0
        await edge.until("it to be told", lambda: "e_import_wh" not in edge.usable("m1"))
        power = 98000.0
        await edge.until("it to be back", lambda: "e_import_wh" in edge.usable("m1"))
    assert set(edge.values("e_import_wh", "m1")) == {1234567.0}
    assert {str(value) for value in edge.values("q_var", "m1")} == {"0.0"}, "no minus zero"


async def test_f27_a_word_order_that_flips_is_flagged_within_a_few_polls_and_control_on_it_stops() -> None:
    flipped = False
    polls_after = {1: 0, 2: 0}
    chain, models = sunspec_registers([1, 701, 704, 802])
    der, controls = models[701], models[704]

    def meter(start: int, registers: list[int], request: tuple[int, int, int]) -> None:
        polls_after[1] += flipped
        floats(registers, **meter_630(1234.0, flipped))

    def battery(start: int, registers: list[int], request: tuple[int, int, int]) -> None:
        polls_after[2] += flipped and request[1] == 40000 + der + 10
        registers[der + 10], registers[der + 116] = 500, 1
        registers[der + 16], registers[der + 114] = 2305, 0xFFFF
        registers[der + 115] = 0xFFFD
        registers[der + 17 : der + 19] = [50010, 0] if flipped else [0, 50010]
        registers[models[802] + 11] = 55

    limits = {"p_min_w": -60e3, "p_max_w": 60e3, "energy_wh": 1e5}
    async with Field({1: (0, [0] * 80, meter), 2: (40000, chain, battery)}) as field:
        devices: list[dict[str, Any]] = [
            {"id": "m1", "catalog": "eastron-sdm630", "modbus": at(field.port, 1)},
            {"id": "bat1", "catalog": "sunspec-storage-704", "modbus": at(field.port, 2), **limits},
        ]
        async with polling(devices) as edge:
            bat = edge.handles[DeviceId("bat1")]
            await edge.until("both to be read", lambda: {"v_v"} <= edge.usable("m1") & edge.usable("bat1"))
            assert (await bat.apply(HoldPower(-1000.0, 180.0))).confirmed
            flipped = True
            await edge.until("both to be doubted", lambda: not any(handle.online for handle in edge.handles.values()))
            assert max(polls_after.values()) <= AFTER + 1, polls_after
            assert edge.usable("m1") == edge.usable("bat1") == set()
            writes = len(field.written)
            with pytest.raises(DeviceTransientError, match=r"offline.*impossible values.*nothing was written"):
                await bat.apply(HoldPower(-2000.0, 180.0))
            assert len(field.written) == writes
            assert set(edge.values("v_v", "m1")) == {230.5}
            assert set(edge.values("p_w", "m1")) == {1234.0}
            assert set(edge.values("f_hz", "bat1")) == {50.01}
            assert edge.recorder.codes().count("device.offline") == 2
            text = next(event.text for event in edge.recorder.events if event.device_id == "m1")
            assert "does eastron-sdm630 still fit its firmware" in text
            flipped = False
            await edge.until("both to be back", lambda: all(handle.online for handle in edge.handles.values()))
            assert edge.recorder.codes().count("device.online") == 2
    assert controls


async def test_f28_a_scale_factor_that_moves_or_vanishes_never_gives_a_mis_scaled_value() -> None:
    chain, models = sunspec_registers([1, 203])
    meter = models[203]
    reads = 0
    #: (W, W_SF) of each read in turn: 12.3 kW in two scales, torn once at each change, and not implemented for a while.
    story = [
        *[(12300, 0)] * 6, (12300, 1), *[(1230, 1)] * 6, (1230, 0), *[(12300, 0)] * 6,
        *[(12300, 0x8000)] * 4, *[(123, 2)] * 6, (123, 0x8000), (12300, 0),
    ]  # fmt: skip

    def answer(start: int, registers: list[int], request: tuple[int, int, int]) -> None:
        nonlocal reads
        registers[meter + 7], registers[meter + 15] = 2305, 0xFFFF
        registers[meter + 16], registers[meter + 17] = 5000, 0xFFFE
        if request[1] == 40000 + meter + 3:
            registers[meter + 18], registers[meter + 22] = story[reads % len(story)]
            reads += 1

    async with Field({1: (40000, chain, answer)}) as field:
        device = {"id": "fm1", "catalog": "sunspec-meter-203", "modbus": at(field.port, 1)}
        async with polling([device]) as edge:
            await edge.until("the story to be told twice", lambda: reads >= 2 * len(story))
    assert set(edge.values("p_w", "fm1")) == {12300.0}
    bad = [reading for reading in edge.recorder.readings if reading.quality is Quality.BAD]
    assert {reading.point.quantity for reading in bad} == {"p_w"}, "the others have their own factors"
    assert edge.recorder.codes() == [], "the device never went offline"


@pytest.mark.parametrize("code", sorted(EXCEPTIONS))
async def test_f29_each_exception_is_told_in_its_own_words_and_the_neighbour_goes_on(code: int) -> None:
    refuse = False

    def bad(start: int, registers: list[int], request: tuple[int, int, int]) -> ExcCodes | None:
        floats(registers, **meter_630(1000.0))
        return ExcCodes(code) if refuse else None

    def good(start: int, registers: list[int], request: tuple[int, int, int]) -> None:
        floats(registers, **meter_630(2000.0))

    async with Field({1: (0, [0] * 80, bad), 2: (0, [0] * 80, good)}) as field:
        devices = [
            {"id": f"m{unit}", "catalog": "eastron-sdm630", "modbus": at(field.port, unit), "poll_s": 0.02} for unit in (1, 2)
        ]
        async with polling(devices) as edge:
            one, two = edge.handles[DeviceId("m1")], edge.handles[DeviceId("m2")]
            await edge.until("both to be read", lambda: one.online and two.online)
            refuse = True
            await edge.until("the refusals to be told", lambda: "device.offline" in edge.recorder.codes())
            polls = two.counters.polls
            await edge.until("the neighbour to go on", lambda: two.counters.polls > polls + 5)
            refuse = False
            await edge.until("the device to be back", lambda: "device.online" in edge.recorder.codes())
    text = next(event.text for event in edge.recorder.events if event.code == "device.offline")
    assert f"Modbus exception {code}, {EXCEPTIONS[code].words}" in text
    assert ("does not pass by itself" in text) == (code in (1, 2, 3)), (
        "a mistake in the configuration, or something that passes"
    )
    assert edge.recorder.codes() == ["device.offline", "device.online"], "told once each"
    assert set(edge.values("p_w", "m1")) == {1000.0}


def test_f29_the_words_are_distinct() -> None:
    assert sorted(EXCEPTIONS) == [1, 2, 3, 4, 5, 6, 8, 10, 11]
    assert len({refusal.words for refusal in EXCEPTIONS.values()}) == 9


class Garbler:
    """Mangles answers with a seeded dice; every kind is counted."""

    KINDS = (
        "as it is",
        "other transaction",
        "other unit",
        "short",
        "cut and late",
        "the one before",
        "twice",
        "late",
        "other function",
    )

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.counts = dict.fromkeys(self.KINDS, 0)

    def __call__(self, frame: bytes, before: bytes) -> list[tuple[float, bytes]]:
        kind = self.rng.choice(self.KINDS[1:]) if self.rng.random() < 0.4 else self.KINDS[0]
        self.counts[kind] += 1
        number = int.from_bytes(frame[:2], "big")
        pieces: dict[str, list[tuple[float, bytes]]] = {
            "as it is": [(0, frame)],
            "other transaction": [(0, (number + self.rng.randint(1, 5)).to_bytes(2, "big") + frame[2:])],
            "other unit": [(0, frame[:6] + bytes([frame[6] % 3 + 1]) + frame[7:])],
            "short": [(0, frame[:-4])],
            "cut and late": [(0, frame[:20]), (0.03, frame[20:])],
            "the one before": [(0, before)],
            "twice": [(0, before + frame + frame)],
            "late": [(0.15, frame)],
            "other function": [(0, frame[:7] + bytes([frame[7] ^ 7]) + frame[8:])],
        }
        return pieces[kind]


async def test_f30_on_a_garbled_wire_every_value_is_the_units_own_and_newer_than_the_last() -> None:
    answered = dict.fromkeys((1, 2, 3), 0)

    def unit(number: int) -> Any:
        def answer(start: int, registers: list[int], request: tuple[int, int, int]) -> None:
            answered[number] += 1
            floats(registers, **meter_630(number * 10000.0 + answered[number]))

        return answer

    async with Field({number: (0, [0] * 80, unit(number)) for number in (1, 2, 3)}) as field, Wire(field.port) as wire:
        devices = [
            {"id": f"m{number}", "catalog": "eastron-sdm630", "modbus": at(wire.port, number, 0.1)} for number in (1, 2, 3)
        ]
        async with polling(devices, 0.01) as edge:
            wire.mangle = garbler = Garbler(5)
            await edge.until("every kind of garbling", lambda: min(garbler.counts.values()) >= 1, 60)
            wire.mangle = None
            counts = {name: handle.counters.polls for name, handle in edge.handles.items()}
            await edge.until(
                "all to be read again",
                lambda: all(handle.counters.polls > counts[name] + 3 for name, handle in edge.handles.items()),
            )
    for number in (1, 2, 3):
        powers = edge.values("p_w", f"m{number}")
        assert powers
        assert all(number * 10000 < power < (number + 1) * 10000 for power in powers), "a value of another unit"
        assert all(after > earlier for earlier, after in pairwise(powers)), "a late answer was taken for new"
        assert set(edge.values("v_v", f"m{number}")) == {230.5}
    assert wire.connections > 3, "connections were started anew"


async def test_f30_an_exception_for_another_request_refuses_nothing() -> None:
    def answer(start: int, registers: list[int], request: tuple[int, int, int]) -> None:
        floats(registers, **meter_630(1.0))

    async with Field({1: (0, [0] * 80, answer)}) as field, Wire(field.port) as wire:
        async with polling([{"id": "m1", "catalog": "eastron-sdm630", "modbus": at(wire.port, 1, 0.2)}]) as edge:
            await edge.until("it to be read", lambda: edge.handles[DeviceId("m1")].online)
            stray = struct.pack(">HHHBBB", 9, 0, 3, 1, 0x83, 2)
            wire.mangle = lambda frame, _: [(0, stray + frame)]
            polls = edge.handles[DeviceId("m1")].counters.polls
            await edge.until("it to be read on", lambda: edge.handles[DeviceId("m1")].counters.polls > polls + 5)
            await asyncio.sleep(0)
        assert edge.recorder.codes() == []


async def test_f16_a_half_open_line_to_a_meter_is_found_within_its_time_out_and_the_other_bus_goes_on() -> None:
    def answer(start: int, registers: list[int], request: tuple[int, int, int]) -> None:
        floats(registers, **meter_630(1.0))

    async with (
        Field({1: (0, [0] * 80, answer)}) as field,
        Field({1: (0, [0] * 80, answer)}) as other,
        Tap(field.port) as tap,
    ):
        devices = [
            {"id": name, "catalog": "eastron-sdm630", "modbus": at(port, 1)}
            for name, port in (("m1", tap.port), ("m2", other.port))
        ]
        async with polling(devices) as edge:
            one, two = edge.handles[DeviceId("m1")], edge.handles[DeviceId("m2")]
            await edge.until("both to be read", lambda: one.online and two.online)
            tap.set(Line.HANGS)
            before = two.counters.polls
            await edge.until("it to be found", lambda: not one.online, 10)
            assert edge.usable("m1") == set()
            await edge.until("the other bus to go on", lambda: two.counters.polls > before + 5)
            tap.set(Line.OPEN)
            await edge.until("it to be back", lambda: one.online)
    assert edge.recorder.codes() == ["device.offline", "device.online"]
