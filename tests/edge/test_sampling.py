"""Pollers with a fake device, a fake clock and a recorder in memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Self

import pytest

from tests.edge.drivers.field import EDGE, START, MemoryRecorder, ModbusServer, make_context
from tieline_core.clock import ManualClock, SystemClock
from tieline_core.errors import BadInputError, TransientError
from tieline_core.ids import DeviceId, PointId
from tieline_core.messages.telemetry import Severity
from tieline_core.quantities import Quality, Reading
from tieline_edge.drivers.capabilities import (
    Action,
    Capability,
    DevicePermanentError,
    DeviceSpec,
    DeviceTransientError,
    HoldPower,
    ReadBack,
    Role,
)
from tieline_edge.drivers.context import DriverContext
from tieline_edge.pollers import run_pollers
from tieline_edge.sampling import Backoff, DeviceHandle, open_devices
from tieline_edge.settings import CycleSettings, DeviceSettings, EdgeSettings

POINT = PointId("harbour/bat1/p_w")
SETTINGS = DeviceSettings.model_validate({"id": "bat1", "catalog": "sunspec-storage-704", "modbus": {"host": "x"}})
CYCLE = CycleSettings(floor_wall_s=0.2)


class FakeDriver:
    """A device whose next reads are told to it: a number, an error, or nothing at all."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.script: list[float | Exception | None] = []
        self.opened = self.reads = self.open_now = 0
        self.applied: list[Action] = []
        self.hold: asyncio.Event | None = None

    @property
    def spec(self) -> DeviceSpec:
        return DeviceSpec(DeviceId("bat1"), Role.STORAGE, frozenset({Capability.HOLD_POWER}))

    async def __aenter__(self) -> Self:
        self.opened += 1
        self.open_now += 1
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.open_now -= 1

    async def read(self) -> Sequence[Reading]:
        self.reads += 1
        step = self.script.pop(0) if self.script else 1.0
        if self.hold is not None:
            await self.hold.wait()
        if isinstance(step, Exception):
            raise step
        quality = Quality.BAD if step is None else Quality.GOOD
        return [Reading(POINT, step, self.clock.now(), quality)]

    async def apply(self, action: Action) -> ReadBack:
        self.applied.append(action)
        return ReadBack(confirmed=True, text="")


class Bench:
    """One fake device under its poller."""

    def __init__(self, *script: float | Exception | None) -> None:
        self.clock = ManualClock(START)
        self.context, self.recorder = make_context(self.clock)
        self.driver = FakeDriver(self.clock)
        self.driver.script = list(script)
        self.handle = DeviceHandle(SETTINGS, self.driver, [POINT], 1.0)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        pollers = run_pollers({self.handle.id: self.handle}, self.context, CYCLE, random.Random(1))
        self._task = asyncio.create_task(pollers)
        await self.clock.settle()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    @property
    def values(self) -> list[float | None]:
        return [reading.value for reading in self.recorder.readings]


async def test_each_period_is_one_reading_in_image_and_outbox() -> None:
    async with Bench() as bench:
        await bench.clock.advance(4.5)
        assert bench.driver.reads == 5
        assert bench.values == [1.0] * 5
        assert bench.context.image.freeze(bench.clock.now()).value(POINT, 1.0) == 1.0
        assert bench.handle.online


@pytest.mark.parametrize("error", [DeviceTransientError("gone"), DevicePermanentError("never"), OSError("library"), KeyError()])
async def test_going_offline_is_told_once_and_flags_the_gap_once(error: Exception) -> None:
    async with Bench(5.0, *[error] * 3) as bench:
        await bench.clock.advance(3.0)
        assert bench.handle.last_error is not None
        assert bench.values == [5.0, None]
        assert bench.recorder.codes() == ["device.offline"]
        assert bench.recorder.events[0].severity is Severity.ALARM
        held = bench.context.image.freeze(bench.clock.now()).readings[POINT]
        assert (held.quality, held.value) == (Quality.STALE, 5.0)
        await bench.clock.advance(10.0)
        assert bench.handle.online
        assert bench.recorder.codes() == ["device.offline", "device.online"]
        assert bench.values[2] == 1.0


async def test_a_dead_device_costs_one_attempt_a_back_off_period() -> None:
    async with Bench(*[DeviceTransientError("gone")] * 100) as bench:
        await bench.clock.advance(120)
        assert 120 / 12.5 - 2 <= bench.driver.reads <= 20
        assert bench.driver.opened == bench.driver.reads
        assert bench.driver.open_now == 0


async def test_a_second_outage_is_told_again() -> None:
    async with Bench(DeviceTransientError("a"), 1.0, DeviceTransientError("b"), 2.0) as bench:
        await bench.clock.advance(20)
        assert bench.recorder.codes() == ["device.offline", "device.online"] * 2
        assert bench.values[:4] == [None, 1.0, None, 2.0]


async def test_a_point_that_stays_bad_is_recorded_once_and_its_return_is_recorded() -> None:
    async with Bench(1.0, None, None, None, 2.0) as bench:
        await bench.clock.advance(4.5)
        assert bench.values == [1.0, None, 2.0]


class StillDriver(FakeDriver):
    """A server whose source time stands still although it answers."""

    async def read(self) -> Sequence[Reading]:
        self.reads += 1
        return [Reading(POINT, 3.0, START)]


class Recalled:
    """An outbox that holds the source's instant since before the restart."""

    async def recorded_instants(self, points: Sequence[PointId], last: int) -> dict[PointId, list[datetime]]:
        return {point: [START - timedelta(seconds=1), START] for point in points}


class Refused:
    """An outbox whose disk refuses when the agent starts."""

    async def recorded_instants(self, points: Sequence[PointId], last: int) -> dict[PointId, list[datetime]]:
        raise TransientError("outbox: not open")


@pytest.mark.parametrize(("recorded", "expected"), [(None, 1), (Recalled(), 0), (Refused(), 1)])
async def test_a_source_that_stands_still_is_recorded_once_even_across_a_restart(
    recorded: Recalled | Refused | None, expected: int
) -> None:
    clock = ManualClock(START)
    context, recorder = make_context(clock, recorded=recorded)
    driver = StillDriver(clock)
    handle = DeviceHandle(SETTINGS, driver, [POINT], 1.0)
    task = asyncio.create_task(run_pollers({handle.id: handle}, context, CYCLE))
    await clock.settle()
    await clock.advance(5)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert driver.reads == 6
    assert len(recorder.readings) == expected
    assert context.image.freeze(START).value(POINT, 1.0) == 3.0


async def test_a_command_to_an_offline_device_fails_at_once_and_writes_nothing() -> None:
    async with Bench() as bench:
        assert bench.handle.online
        assert (await bench.handle.apply(HoldPower(0.0, 60.0))).confirmed
        bench.driver.script = [DeviceTransientError("no answer")] * 3
        await bench.clock.advance(2)
        with pytest.raises(DeviceTransientError, match="bat1 is offline: no answer"):
            await bench.handle.apply(HoldPower(0.0, 60.0))
        assert len(bench.driver.applied) == 1


async def test_readings_the_disk_refused_are_recorded_with_the_next() -> None:
    async with Bench(1.0, 2.0, 3.0, 4.0) as bench:
        bench.recorder.refuse = 2
        await bench.clock.advance(2.5)
        assert bench.values == [1.0]
        await bench.clock.advance(1.0)
        assert bench.values == [1.0, 2.0, 3.0, 4.0]
        assert bench.handle.counters.unrecorded == 0


async def test_a_slow_recorder_slows_the_poller_and_loses_nothing() -> None:
    bench = Bench()
    release = asyncio.Semaphore(0)
    original = bench.recorder.record

    async def slow(readings: Sequence[Reading]) -> None:
        await release.acquire()
        await original(readings)

    bench.recorder.record = slow  # type: ignore[method-assign]  # a disk that takes its time
    async with bench:
        await bench.clock.advance(10)
        assert bench.driver.reads == 1
        release.release()
        await bench.clock.settle()
        await bench.clock.advance(2)
        assert (bench.driver.reads, bench.values) == (2, [1.0])
        release.release()
        await bench.clock.settle()
        for _ in range(5):
            release.release()


async def test_a_cancelled_poller_keeps_what_the_device_is_answering() -> None:
    async with Bench() as bench:
        bench.driver.hold = asyncio.Event()
        bench.driver.script = [7.0]
        await bench.clock.advance(1)
        assert bench.driver.reads == 2
        stopping = asyncio.create_task(bench.stop())
        await bench.clock.settle()
        bench.driver.hold.set()
        await stopping
        assert bench.values == [1.0, 7.0]
        assert bench.driver.open_now == 0


async def test_the_period_has_a_floor_of_wall_time_at_a_fast_clock() -> None:
    clock = ManualClock(START, speed=90.0)
    context, recorder = make_context(clock)
    driver = FakeDriver(clock)
    handle = DeviceHandle(SETTINGS, driver, [POINT], 1.0)
    task = asyncio.create_task(run_pollers({handle.id: handle}, context, CYCLE))
    await clock.settle()
    await clock.advance(90)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert [reading.measured_at for reading in recorder.readings] == [START + timedelta(seconds=18 * n) for n in range(6)]


def test_the_back_off_doubles_up_to_its_cap() -> None:
    pauses = [Backoff().pause_s(attempt, random.Random(attempt)) for attempt in range(40)]
    assert all(0.75 * min(10, 0.5 * 2**n) <= pause <= 1.25 * min(10, 0.5 * 2**n) for n, pause in enumerate(pauses))


def site(servers: Sequence[ModbusServer], units: Sequence[int]) -> EdgeSettings:
    devices = [
        {
            "id": f"load{number:02}",
            "catalog": "modbus-load-switch-latched",
            "priority_class": 3,
            "poll_s": 0.05,
            "modbus": {"host": "127.0.0.1", "port": server.port, "unit": unit, "timeout_s": 0.2},
        }
        for number, (server, unit) in enumerate((server, unit) for server in servers for unit in units)
    ]
    return EdgeSettings.model_validate(
        {
            "edge_id": EDGE,
            "state_dir": "/nowhere",
            "site": {"name": "Harbour", "rated_va": 630e3},
            "hub": {"mqtt": {"host": "hub"}, "http": "http://hub"},
            "cycle": {"floor_wall_s": 0.02},
            "devices": devices,
        }
    )


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - the servers tell nobody
            await asyncio.sleep(0.01)


def start(settings: EdgeSettings) -> tuple[dict[DeviceId, DeviceHandle], DriverContext, MemoryRecorder, asyncio.Task[None]]:
    context, recorder = make_context(SystemClock())
    handles = open_devices(settings, context)
    return handles, context, recorder, asyncio.create_task(run_pollers(handles, context, settings.cycle))


async def test_a_silent_unit_leaves_its_neighbours_on_the_same_connection_alone() -> None:
    async with ModbusServer(silent={2}) as server:
        for unit in (1, 2, 3):
            server.put(unit, 0, [0, unit, 2300, 0, 1], server.inputs)
            server.put(unit, 0, [1], server.discretes)
        handles, _, recorder, task = start(site([server], [1, 2, 3]))
        await until(lambda: handles[DeviceId("load00")].counters.polls > 10 and handles[DeviceId("load02")].counters.polls > 10)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await until(lambda: not server._writers)
    assert [event.device_id for event in recorder.events] == ["load01"]


async def test_a_server_that_comes_back_is_found_without_a_hand() -> None:
    server = ModbusServer()
    async with server:
        server.put(1, 0, [0, 500, 2300, 0, 1], server.inputs)
        server.put(1, 0, [1], server.discretes)
        settings = site([server], [1])
        handles, _, recorder, task = start(settings)
        handle = handles[DeviceId("load00")]
        await until(lambda: handle.online)
    await until(lambda: not handle.online)
    async with server:
        await until(lambda: handle.online)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert recorder.codes() == ["device.offline", "device.online"]


def test_an_unknown_catalogue_entry_stops_the_start_by_name() -> None:
    settings = site([ModbusServer(port=502)], [1])
    wrong = settings.devices[0].model_copy(update={"catalog": "no-such-thing"})
    with pytest.raises(BadInputError, match="no-such-thing"):
        open_devices(settings.model_copy(update={"devices": (wrong,)}), make_context()[0])


async def test_what_the_outbox_cannot_hold_does_not_end_its_poller() -> None:
    bench = Bench(1.0, 2.0, 3.0)
    original = bench.recorder.record
    refusals = [BadInputError("outbox", "measured_at", "1601", "an instant from 2000 on was expected")]

    async def picky(readings: Sequence[Reading]) -> None:
        if refusals:
            raise refusals.pop()
        await original(readings)

    bench.recorder.record = picky  # type: ignore[method-assign]  # an outbox that refuses once
    async with bench:
        await bench.clock.advance(2.5)
        assert bench.values == [2.0, 3.0]
