"""Packet black holes, dead servers and cancellations: each costs its time-out, nothing stays behind, the next session works."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import pytest_asyncio

from deploy.ports import free_port
from tests.edge.drivers.field import EDGE, make_context
from tests.edge.drivers.opcua_server import Bay, serving
from tests.faults.proxy import Proxy
from tieline_core.clock import SystemClock
from tieline_edge.drivers.capabilities import DeviceTransientError, Driver, SwitchContact
from tieline_edge.drivers.catalog.load import entry
from tieline_edge.drivers.points import PointTable
from tieline_edge.drivers.registry import open_driver
from tieline_edge.sampling import Backoff, DeviceHandle, Poller
from tieline_edge.settings import CycleSettings, DeviceSettings

TIMEOUT_S = 0.5


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Bay]:
    async with serving(free_port()) as bay:
        await bay.add("F1", {"ActivePowerW": 5000.0, "VoltageV": 230.0, "Closed": True, "EnergyWh": 7.0})
        await bay.add("F1", {"OffTimerS": 0, "CloseCommand": True}, writable=True)
        yield bay


def behind(proxy: Proxy, root: str = "TR1", catalog: str = "transformer-bay-opcua") -> Driver:
    more = {"priority_class": 3} if "switchgear" in catalog else {}
    place = {"url": f"opc.tcp://127.0.0.1:{proxy.port}/tieline", "root": root, "timeout_s": TIMEOUT_S, "insecure": True}
    settings = DeviceSettings.model_validate({"id": "tr1", "catalog": catalog, "opcua": place, **more})
    return open_driver(settings, EDGE, make_context()[0])


@asynccontextmanager
async def entered(driver: Driver) -> AsyncIterator[Driver]:
    """Enter and read it, as its poller does: on a busy machine the time-out of these tests may need a second attempt."""
    async with asyncio.timeout(60):
        while True:
            with suppress(DeviceTransientError):
                await driver.__aenter__()
                try:
                    assert await driver.read()
                except BaseException:
                    await driver.__aexit__(None, None, None)
                    raise
                break
    try:
        yield driver
    finally:
        await driver.__aexit__(None, None, None)


def target(bay: Bay) -> tuple[str, int]:
    return "127.0.0.1", int(bay.url.rsplit(":", 1)[1].split("/")[0])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - sockets close when the loop gets to it
            await asyncio.sleep(0.01)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_black_hole_costs_one_time_out_each_time_and_leaves_nothing_behind(server: Bay) -> None:
    before, threads = asyncio.all_tasks(), threading.active_count()
    async with Proxy(target(server), mqtt=False) as proxy:
        driver = behind(proxy)
        for _ in range(3):
            async with entered(driver):
                await proxy.half_open()
                began = time.monotonic()
                with pytest.raises(DeviceTransientError, match="no answer to a read"):
                    await driver.read()
            # Leaving says no goodbye into the hole: it would cost a second time-out.
            assert time.monotonic() - began < 20 * TIMEOUT_S
            with pytest.raises(DeviceTransientError, match="no session"):
                async with driver:
                    pass
            await proxy.heal()
    await until(lambda: asyncio.all_tasks() <= before)
    assert threading.active_count() <= threads


@pytest.mark.asyncio(loop_scope="module")
async def test_a_session_that_failed_once_is_not_used_again(server: Bay) -> None:
    async with Proxy(target(server), mqtt=False) as proxy, entered(behind(proxy)) as driver:
        await proxy.half_open()
        with pytest.raises(DeviceTransientError, match="no answer"):
            await driver.read()
        await proxy.heal()
        with pytest.raises(DeviceTransientError, match="given up after an earlier failure"):
            await driver.read()


@pytest.mark.asyncio(loop_scope="module")
async def test_an_order_into_a_black_hole_may_or_may_not_have_arrived(server: Bay) -> None:
    async with Proxy(target(server), mqtt=False) as proxy, entered(behind(proxy, "F1", "switchgear-bay-opcua")) as driver:
        await proxy.half_open()
        with pytest.raises(DeviceTransientError, match="no answer to a write"):
            await driver.apply(SwitchContact(closed=False, off_timer_s=60.0))


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("while_opening", [True, False])
async def test_a_cancelled_call_leaves_no_task(server: Bay, while_opening: bool) -> None:
    before = asyncio.all_tasks()
    async with Proxy(target(server), mqtt=False) as proxy:

        async def work() -> None:
            driver = behind(proxy)
            if while_opening:
                await proxy.half_open()
            async with driver:
                await proxy.half_open()
                await driver.read()

        task = asyncio.create_task(work())
        await until(lambda: proxy.accepted > 0)
        await asyncio.sleep(TIMEOUT_S / 5)
        task.cancel()
        with suppress(asyncio.CancelledError, DeviceTransientError):
            await task
    await until(lambda: asyncio.all_tasks() <= before)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_bay_behind_a_cut_line_is_polled_again_and_told_once_each_way(server: Bay) -> None:
    context, recorder = make_context(SystemClock())
    async with Proxy(target(server), mqtt=False) as proxy:
        settings = server.settings(opcua={"url": f"opc.tcp://127.0.0.1:{proxy.port}/tieline", "timeout_s": 5.0})
        points = PointTable(EDGE, settings, entry(settings.catalog)).ids()
        handle = DeviceHandle(settings, open_driver(settings, EDGE, context), points, 0.05)
        cycle = CycleSettings(period_s=0.05, floor_wall_s=0.05)
        task = asyncio.create_task(Poller(handle, context, cycle, random.Random(1), Backoff(0.05, 0.1)).run(0.0))
        try:
            await until(lambda: handle.online)
            await proxy.cut()
            await until(lambda: not handle.online and handle.counters.failures > 2)
            await proxy.heal()
            await until(lambda: handle.online)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    assert recorder.codes() == ["device.offline", "device.online"]
