"""A device's own reversion timer: whether it restarts with a refresh differs by device, so it is read back."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.edge.drivers.field import EDGE, MemoryRecorder, ModbusServer, make_context, sunspec_map
from tieline_edge.drivers.capabilities import Action, Driver, HoldPower, LimitGeneration, ReadBack
from tieline_edge.drivers.modbus.reversion import Timer, judge_timer
from tieline_edge.drivers.registry import open_driver
from tieline_edge.settings import DeviceSettings

#: Offsets in model 704: switch, timer, remaining time.
PLACES = {"sunspec-storage-704": (22, 31, 33), "sunspec-pv-704": (14, 18, 20)}
ACTIONS: dict[str, Action] = {
    "sunspec-storage-704": HoldPower(-25000.0, 180.0),
    "sunspec-pv-704": LimitGeneration(-20000.0, 180.0),
}


class Device704:
    """A model 704 device whose timer restarts on ``any`` write, a ``change`` of the timer, the switch's ``edge``, or ``never``.

    ``free`` notes each moment the control was off after it had been on.
    """

    def __init__(self, server: ModbusServer, catalog: str, restarts: str) -> None:
        self.server, self.restarts = server, restarts
        self.at = sunspec_map(server, [1, 701, 704, 802])[704]
        self.switch, self.timer, self.remaining = (self.at + offset for offset in PLACES[catalog])
        self.held = {self.timer: 0, self.switch: 0}
        self.free = 0
        server.put(1, self.at + 54, [0, 0])
        server.written = self.written

    def written(self, unit: int, address: int, words: Sequence[int]) -> None:
        now = {
            self.timer: self.server.holding[1, self.timer] << 16 | self.server.holding[1, self.timer + 1],
            self.switch: self.server.holding[1, self.switch],
        }
        started = self.held[self.switch] == 0 and now[self.switch] == 1
        changed = now[self.timer] != self.held[self.timer]
        self.free += self.held[self.switch] == 1 and now[self.switch] == 0
        if (
            self.restarts == "any"
            or (self.restarts == "change" and (changed or started))
            or (self.restarts == "edge" and started)
            or (self.restarts == "never" and not self.left())
        ):
            self.leave(now[self.timer])
        self.held = now

    def left(self) -> int:
        return self.server.holding[1, self.remaining] << 16 | self.server.holding[1, self.remaining + 1]

    def leave(self, seconds: int) -> None:
        self.server.put(1, self.remaining, [seconds >> 16, seconds & 0xFFFF])


def device(server: ModbusServer, catalog: str) -> DeviceSettings:
    more = {"energy_wh": 1e5, "p_max_w": 60000.0} if "storage" in catalog else {}
    place = {"host": "127.0.0.1", "port": server.port, "timeout_s": 1.0}
    return DeviceSettings.model_validate({"id": "d1", "catalog": catalog, "modbus": place, "p_min_w": -60000.0, **more})


async def refreshes(driver: Driver, model: Device704, action: Action, count: int = 3) -> list[ReadBack]:
    answers = [await driver.apply(action)]
    for _ in range(count):
        model.leave(120)  # a minute has gone by
        answers.append(await driver.apply(action))
    return answers


async def scene(catalog: str, restarts: str) -> tuple[Device704, list[ReadBack], MemoryRecorder]:
    async with ModbusServer() as server:
        context, recorder = make_context()
        model = Device704(server, catalog, restarts)
        async with open_driver(device(server, catalog), EDGE, context) as driver:
            answers = await refreshes(driver, model, ACTIONS[catalog])
        return model, answers, recorder


@pytest.mark.parametrize("catalog", sorted(PLACES))
@pytest.mark.parametrize("restarts", ["any", "change"])
async def test_a_timer_that_restarts_is_left_at_that_and_the_control_is_never_off(catalog: str, restarts: str) -> None:
    model, answers, recorder = await scene(catalog, restarts)
    assert all(answer.confirmed for answer in answers), answers
    assert all(answer.remaining_s is not None and answer.remaining_s >= 179 for answer in answers), answers
    assert not any(answer.runs_down for answer in answers)
    assert model.free == 0
    assert recorder.codes() == []


async def test_a_battery_whose_timer_needs_the_switch_is_switched_off_and_on_within_one_turn() -> None:
    model, answers, recorder = await scene("sunspec-storage-704", "edge")
    assert all(answer.confirmed for answer in answers), answers
    assert all(answer.remaining_s is not None and answer.remaining_s >= 179 for answer in answers), answers
    assert model.free == 3, "once for each refresh, as it was found out at the first"
    assert recorder.codes() == []
    asked = [(function, address - model.at) for _, function, address in model.server.requests]
    assert asked[-4:] == [(6, 22), (6, 22), (6, 22), (3, 22)], "on, off and on again, and nothing between them"


async def test_a_plant_is_never_unlimited_for_the_sake_of_its_timer_and_it_is_reported_once() -> None:
    model, answers, recorder = await scene("sunspec-pv-704", "edge")
    assert model.free == 0
    assert [answer.runs_down for answer in answers] == [False, True, True, True]
    assert all(answer.confirmed for answer in answers), "the limit itself is held"
    assert "did not restart: 120 s of 180 s are left" in answers[1].text
    assert answers[1].refresh_within_s == 121.0, "written again as soon as it has run out"
    assert recorder.codes() == ["device.reversion"]


async def test_a_timer_that_works_again_is_told_too() -> None:
    async with ModbusServer() as server:
        context, recorder = make_context()
        model = Device704(server, "sunspec-pv-704", "never")
        async with open_driver(device(server, "sunspec-pv-704"), EDGE, context) as driver:
            await refreshes(driver, model, ACTIONS["sunspec-pv-704"], 2)
            model.leave(0)  # it has run out, and starts with the next write: that says nothing yet
            assert not (await driver.apply(ACTIONS["sunspec-pv-704"])).runs_down
            model.leave(120)
            assert (await driver.apply(ACTIONS["sunspec-pv-704"])).runs_down
            assert recorder.codes() == ["device.reversion"]
            model.restarts = "any"
            assert not any(answer.runs_down for answer in await refreshes(driver, model, ACTIONS["sunspec-pv-704"]))
    assert [event.severity.value.lower() for event in recorder.events] == ["alarm", "information"]


async def test_a_device_that_does_not_count_is_taken_as_it_is() -> None:
    async with ModbusServer() as server:
        context, recorder = make_context()
        model = Device704(server, "sunspec-storage-704", "any")
        server.written = lambda *_: server.put(1, model.remaining, [0xFFFF, 0xFFFF])
        async with open_driver(device(server, "sunspec-storage-704"), EDGE, context) as driver:
            answer = await driver.apply(ACTIONS["sunspec-storage-704"])
    assert (answer.confirmed, answer.remaining_s, answer.runs_down) == (True, None, False)
    assert recorder.codes() == []


@given(st.floats(1, 1e6), st.floats(0, 1e6))
def test_a_timer_counts_as_restarted_only_near_its_full_length(timer_s: float, remaining_s: float) -> None:
    verdict = judge_timer(timer_s, remaining_s)
    assert judge_timer(timer_s, timer_s) is Timer.RESTARTED
    assert judge_timer(timer_s, None) is Timer.UNKNOWN
    if 0 < remaining_s < min(0.94 * timer_s, timer_s - 2.1):
        assert verdict is Timer.RUNNING_DOWN
    if remaining_s >= timer_s:
        assert verdict is Timer.RESTARTED
    if 0 < remaining_s < timer_s:
        assert judge_timer(timer_s, remaining_s, timer_s - remaining_s) is Timer.RESTARTED, "the write itself took that long"
