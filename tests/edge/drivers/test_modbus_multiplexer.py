"""Many units behind one connection: writes go first, a dead unit costs one time-out a back-off, nobody else waits longer."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.edge.drivers.field import EDGE, ModbusServer, make_context
from tieline_core.clock import SystemClock
from tieline_core.ids import DeviceId
from tieline_edge.drivers.capabilities import DeviceTransientError, SwitchContact
from tieline_edge.drivers.catalog.entry import Table
from tieline_edge.drivers.modbus.endpoint import TcpEndpoint
from tieline_edge.drivers.modbus.link import ModbusLink
from tieline_edge.drivers.modbus.turns import Urgency
from tieline_edge.drivers.registry import open_driver
from tieline_edge.pollers import run_pollers
from tieline_edge.sampling import open_devices
from tieline_edge.settings import CycleSettings, DeviceSettings, EdgeSettings

TIMEOUT_S = 0.5


def load_switch(server: ModbusServer, unit: int) -> None:
    server.put(unit, 0, [0, 12000, 2305, 1, 1], server.inputs)
    server.put(unit, 0, [1], server.discretes)
    server.put(unit, 0, [1], server.coils)


def settings(server: ModbusServer, unit: int) -> DeviceSettings:
    return DeviceSettings.model_validate(
        {
            "id": f"load{unit:02}",
            "catalog": "modbus-load-switch-latched",
            "priority_class": 2,
            "modbus": {"host": "127.0.0.1", "port": server.port, "unit": unit, "timeout_s": TIMEOUT_S},
        }
    )


def link_to(server: ModbusServer, timeout_s: float = TIMEOUT_S) -> ModbusLink:
    return ModbusLink(TcpEndpoint("127.0.0.1", server.port), timeout_s)


async def test_a_write_waits_for_the_request_in_flight_only_however_many_polls_queue() -> None:
    async with ModbusServer(delays_s={9: 0.1}) as server:
        for unit in (1, 9):
            load_switch(server, unit)
        link = link_to(server)
        async with asyncio.TaskGroup() as group:
            for _ in range(6):
                group.create_task(link.read(9, Table.INPUT, 0, 5))
            while not server.bytes_in:  # noqa: ASYNC110 - the first poll is under way
                await asyncio.sleep(0.005)
            async with link.turn(1, Urgency.WRITE) as bus:
                await bus.write(Table.COIL, 0, [0])
                await bus.read(Table.COIL, 0, 1)
        link.close()
    assert [unit for unit, _, _ in server.requests] == [9, 1, 1, 9, 9, 9, 9, 9], "write and read-back follow the first poll"


async def test_a_write_to_a_live_unit_is_never_behind_the_retries_of_a_dead_one() -> None:
    async with ModbusServer(silent={9}) as server:
        load_switch(server, 1)
        context, _ = make_context()
        dead = [open_driver(settings(server, 9), EDGE, context) for _ in range(8)]
        async with open_driver(settings(server, 1), EDGE, context) as alive:
            await alive.read()

            async def poll(driver: object) -> None:
                with pytest.raises(DeviceTransientError):
                    async with driver as entered:  # type: ignore[attr-defined]  # a driver, whatever its protocol
                        await entered.read()

            async with asyncio.TaskGroup() as group:
                for driver in dead:
                    group.create_task(poll(driver))
                await asyncio.sleep(0.05)
                began = time.monotonic()
                assert (await alive.apply(SwitchContact(closed=False))).confirmed
                waited_s = time.monotonic() - began
    # One time-out is in flight; eight in a row would be 4 s.
    assert waited_s < 4 * TIMEOUT_S


async def test_a_silent_unit_is_asked_once_a_back_off_whoever_asks_and_the_rest_costs_no_byte() -> None:
    async with ModbusServer(silent={9}) as server:
        load_switch(server, 1)
        link = link_to(server)
        answers = await asyncio.gather(*(link.read(9, Table.INPUT, 0, 5) for _ in range(10)), return_exceptions=True)
        assert all(isinstance(answer, DeviceTransientError) for answer in answers)
        assert server.bytes_in == 12, "one request of twelve bytes"
        assert sum("nothing was sent" in str(answer) for answer in answers) == 9
        with pytest.raises(DeviceTransientError, match="asked again in"):
            async with link.turn(9, Urgency.WRITE):
                pass
        assert await link.read(1, Table.INPUT, 2, 1) == [2305]
        server.silent.clear()
        load_switch(server, 9)
        link._breakers[9].closed_at_s = time.monotonic()  # its pause is over
        assert await link.read(9, Table.INPUT, 2, 1) == [2305]
        link.close()


async def test_a_gateway_that_reports_a_silent_unit_is_not_asked_for_it_again_at_once() -> None:
    async with ModbusServer(exceptions={(9, 4): 11, (8, 4): 6}) as server:
        link = link_to(server)
        for unit in (9, 9, 8, 8):
            with pytest.raises(DeviceTransientError):
                await link.read(unit, Table.INPUT, 0, 5)
        link.close()
    assert [unit for unit, _, _ in server.requests] == [9, 8, 8], "busy is an answer, silence behind a gateway is none"


async def test_an_order_is_carried_out_in_one_piece_although_polls_wait() -> None:
    async with ModbusServer(delays_s={9: 0.02}) as server:
        for unit in (1, 9):
            load_switch(server, unit)
        context, _ = make_context()
        async with (
            open_driver(settings(server, 9), EDGE, context) as other,
            open_driver(settings(server, 1), EDGE, context) as one,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(3):
                group.create_task(other.read())
            await asyncio.sleep(0.01)
            await one.apply(SwitchContact(closed=False))
    mine = [number for number, (unit, _, _) in enumerate(server.requests) if unit == 1]
    assert mine == list(range(mine[0], mine[0] + 2)), "write and read-back stand together"


async def test_cancelling_a_request_in_flight_leaves_the_link_usable() -> None:
    async with ModbusServer(delays_s={9: 5.0}) as server:
        load_switch(server, 1)
        link = link_to(server, timeout_s=5.0)
        task = asyncio.create_task(link.read(9, Table.INPUT, 0, 5))
        while not server.bytes_in:  # noqa: ASYNC110 - the request is under way
            await asyncio.sleep(0.005)
        waiting = asyncio.create_task(link.read(1, Table.INPUT, 2, 1))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(2):
            assert await waiting == [2305]
        link.close()


async def test_a_third_of_the_units_dead_and_every_live_one_is_polled_on() -> None:
    live, dead = range(1, 7), range(7, 10)
    async with ModbusServer(silent=set(dead)) as server:
        for unit in live:
            load_switch(server, unit)
        site = {
            "edge_id": EDGE,
            "state_dir": "/nowhere",
            "site": {"name": "x", "rated_va": 1000},
            "hub": {"mqtt": {"host": "127.0.0.1"}, "http": "http://127.0.0.1"},
            "devices": [settings(server, unit).model_dump() | {"modbus": place(server, unit)} for unit in (*live, *dead)],
        }
        context, recorder = make_context(SystemClock())
        handles = open_devices(EdgeSettings.model_validate(site), context)
        task = asyncio.create_task(run_pollers(handles, context, CycleSettings()))
        async with asyncio.timeout(30):
            while not (  # noqa: ASYNC110 - nine pollers change what is waited for
                all(handles[DeviceId(f"load{unit:02}")].counters.polls >= 2 for unit in live)
                and all(handles[DeviceId(f"load{unit:02}")].counters.failures >= 2 for unit in dead)
            ):
                await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert not any(handles[DeviceId(f"load{unit:02}")].counters.polls for unit in dead)
    assert not any(handles[DeviceId(f"load{unit:02}")].counters.failures for unit in live)
    assert recorder.codes().count("device.offline") == len(dead), "each dead unit is told once"


def place(server: ModbusServer, unit: int) -> dict[str, object]:
    return {"host": "127.0.0.1", "port": server.port, "unit": unit, "timeout_s": TIMEOUT_S}
