"""What every driver owes the agent, asked of each of them on a real line; see ``stands.py`` for how to add one."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
import yaml
from pydantic import ValidationError

from tests.contract.stands import EXEMPT, STANDS, Line, Stand
from tests.edge.drivers.field import EDGE, make_context
from tieline_core.clock import SystemClock
from tieline_core.quantities import QUANTITIES, Quality
from tieline_edge.drivers.capabilities import DevicePermanentError, DeviceTransientError, Release
from tieline_edge.drivers.catalog.load import entry
from tieline_edge.drivers.catalog.quality import DriverLedger
from tieline_edge.drivers.points import PointTable
from tieline_edge.drivers.registry import DRIVERS
from tieline_edge.sampling import Backoff, DeviceHandle, Poller
from tieline_edge.settings import CycleSettings, DeviceSettings

ROOT = Path(__file__).parents[2]
LEDGERS = sorted((ROOT / "edge/src/tieline_edge/drivers").glob("*/quality.yaml"))


on_the_stand = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=sorted(STANDS))
async def standing(request: pytest.FixtureRequest) -> AsyncIterator[Stand]:
    async with STANDS[request.param]() as made:
        yield made


@pytest.fixture
def stand(standing: Stand) -> Stand:
    standing.set_line(Line.OPEN)
    return standing


def tasks_now() -> set[asyncio.Task[object]]:
    return {task for task in asyncio.all_tasks() if not task.done()}


async def until(what: str, holds: Callable[[], bool], within_s: float = 20.0) -> None:
    try:
        async with asyncio.timeout(within_s):
            while not holds():  # noqa: ASYNC110 - many things change what is waited for
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"waited {within_s:g} s for {what}") from None


@on_the_stand
async def test_readings_belong_to_the_devices_points_and_carry_time_and_quality(stand: Stand) -> None:
    context, _ = make_context(SystemClock())
    points = PointTable(EDGE, stand.settings, entry(stand.settings.catalog)).ids()
    async with stand.make(context) as driver:
        assert driver.spec.device_id == stand.settings.id
        readings = await driver.read()
    assert readings
    assert {reading.point for reading in readings} <= set(points)
    assert len({reading.point for reading in readings}) == len(readings), "one reading a point"
    for reading in readings:
        assert reading.measured_at.tzinfo is not None
        assert (reading.value is None) == (reading.quality in (Quality.BAD, Quality.STALE))
        if reading.value is not None:
            exponent = QUANTITIES[reading.point.quantity].exponent
            assert abs(reading.value * 10.0**-exponent - round(reading.value * 10.0**-exponent)) < 1e-6, "its resolution"


@on_the_stand
async def test_offline_is_told_once_and_so_is_coming_back(stand: Stand) -> None:
    context, recorder = make_context(SystemClock())
    points = PointTable(EDGE, stand.settings, entry(stand.settings.catalog)).ids()
    handle = DeviceHandle(stand.settings, stand.make(context), points, 0.02)
    poller = Poller(handle, context, CycleSettings(floor_wall_s=0.01), random.Random(0), Backoff(0.2, 0.25))
    task = asyncio.create_task(poller.run(0.0))
    try:
        await until("the first poll", lambda: handle.online)
        stand.set_line(Line.CUT)
        await until("three failed attempts", lambda: handle.counters.failures >= 3)
        assert recorder.codes() == ["device.offline"]
        assert not any(reading.quality.usable for reading in context.image.freeze(context.clock.now()).readings.values())
        bad = [reading.point for reading in recorder.readings if reading.quality is Quality.BAD]
        assert len(bad) == len(set(bad)), "the gap is flagged once a point"
        with pytest.raises(DeviceTransientError, match="offline"):
            await handle.apply(stand.order or Release())
        stand.set_line(Line.OPEN)
        await until("it to be back", lambda: handle.online)
        assert recorder.codes() == ["device.offline", "device.online"]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@on_the_stand
async def test_a_refused_order_reaches_the_device_with_nothing(stand: Stand) -> None:
    async with stand.make(make_context(SystemClock())[0]) as driver:
        await driver.read()
        before = stand.writes()
        with pytest.raises(DevicePermanentError):
            await driver.apply(stand.refused)
        await asyncio.sleep(0.05)
        assert stand.writes() == before


@on_the_stand
async def test_an_order_it_takes_is_read_back_and_released(stand: Stand) -> None:
    async with stand.make(make_context(SystemClock())[0]) as driver:
        if stand.order is not None:
            answer = await driver.apply(stand.order)
            assert answer.confirmed, answer.text
            assert answer.text
        assert (await driver.apply(Release())).confirmed


@on_the_stand
async def test_a_hanging_line_costs_a_time_out_and_not_more(stand: Stand) -> None:
    context, _ = make_context(SystemClock())
    async with stand.make(context) as driver:
        await driver.read()
        stand.set_line(Line.HANGS)
        began = time.monotonic()
        # What had arrived before the line hung may still be read: the next one tells then.
        answers = [await asyncio.gather(driver.read(), return_exceptions=True) for _ in range(2)]
        assert any(isinstance(answer, DeviceTransientError) for [answer] in answers)
        assert time.monotonic() - began < 10 * stand.timeout_s + 2.0


@pytest.mark.parametrize("during", ["read", "apply"])
@on_the_stand
async def test_a_cancelled_call_leaves_no_task_and_the_driver_may_be_entered_again(stand: Stand, during: str) -> None:
    context, _ = make_context(SystemClock())
    driver = stand.make(context)
    before = tasks_now()
    async with driver:
        await driver.read()
        stand.set_line(Line.HANGS)
        call = driver.read() if during == "read" else driver.apply(stand.order or Release())
        task = asyncio.ensure_future(call)
        await asyncio.sleep(0.05)
        began = time.monotonic()
        task.cancel()
        await asyncio.wait([task], timeout=10.0)
        assert task.done()
        assert task.cancelled() or task.exception() is not None or stand.order is None
        assert time.monotonic() - began < 2.0 + 2 * stand.timeout_s
    await until("its tasks to end", lambda: _own(before) == set(), 10.0)
    stand.set_line(Line.OPEN)
    async with asyncio.timeout(10):
        while True:
            try:
                async with driver:
                    assert await driver.read()
                    return
            except DeviceTransientError:
                await asyncio.sleep(0.2)


def _own(before: set[asyncio.Task[object]]) -> set[str]:
    """Names of tasks that were not there before, those of the device's side apart."""
    ours = set()
    for task in tasks_now() - before:
        where = getattr(task.get_coro(), "cr_code", None)
        name = getattr(where, "co_filename", "")
        if "/tests/" not in name and "/server/" not in name and task is not asyncio.current_task():
            ours.add(f"{task.get_name()} {name}")
    return ours


@pytest.mark.parametrize("protocol", sorted(DRIVERS))
def test_an_unknown_key_of_an_endpoint_is_refused_by_name(protocol: str) -> None:
    places: dict[str, dict[str, object]] = {
        "modbus": {"host": "a"},
        "opcua": {"url": "opc.tcp://a:1", "insecure": True},
        "mqtt": {"serial": "1"},
    }
    with pytest.raises(ValidationError, match="unkown_key"):
        DeviceSettings.model_validate({"id": "d1", "catalog": "x", protocol: {**places[protocol], "unkown_key": 1}})


def test_every_protocol_has_a_stand_or_says_why_not() -> None:
    assert set(DRIVERS) == {name.split()[0] for name in STANDS} - {"blueprint"} | set(EXEMPT)


def test_every_driver_keeps_a_ledger() -> None:
    assert {path.parent.name for path in LEDGERS} == {*DRIVERS, "_blueprint"}


@pytest.mark.parametrize("path", LEDGERS, ids=[path.parent.name for path in LEDGERS])
def test_what_a_ledger_calls_done_names_a_test_that_exists(path: Path) -> None:
    ledger = DriverLedger.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    for rule, mark in ledger.model_dump().items():
        state, _, rest = mark.partition(": ")
        assert state in ("done", "todo", "exempt"), f"{rule}: {mark}"
        assert rest, f"{rule}: a test, what is missing, or the reason"
        if state == "done":
            file, _, name = rest.partition("::")
            assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), f"{rule}: {rest}"
