"""The control loop through restarts, kills, clock steps, frozen processes and sick disks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from tests.edge.control.site import BAT, LOAD, NOW, SPECS, Site, command, plan
from tieline_core.ids import DeviceId
from tieline_core.messages.command import CommandState
from tieline_core.messages.desired import LadderStep
from tieline_edge.control.arbiter import Decision
from tieline_edge.control.facts import SiteFacts
from tieline_edge.control.time_watch import Dated
from tieline_edge.control.unheard import Unheard
from tieline_edge.drivers.capabilities import HoldPower, SwitchContact


async def test_a_shed_load_stays_shed_over_a_restart_and_returns_after_it(tmp_path: Path) -> None:
    first = Site(tmp_path)
    first.field.base_w = 150e3
    await first.run(8)
    assert first.field.closed[LOAD] is False
    second = first.again()
    assert second.cycle.shed == (LOAD,)
    await second.run(3)
    assert second.field.closed[LOAD] is False
    second.field.base_w = 60e3
    await second.run(20)
    assert second.field.closed[LOAD] is True
    second.close()


async def test_a_battery_that_still_does_what_an_earlier_run_ordered_is_ramped_from_there(tmp_path: Path) -> None:
    """Its own timer has not ended the order yet, nobody claimed anything at first, and then a plan of the other sign came."""
    slow = replace(SPECS[BAT], ramp_w_per_s=2e3, dead_time_s=5.0)
    site = Site(tmp_path, specs={**SPECS, BAT: slow})
    site.field.power[BAT] = -40e3
    await site.run(12)
    assert site.field.told == []
    await site.cycle.take_plan(plan(), "a" * 64)
    await site.run(3)
    powers = [action.power_w for device, action in site.field.told if device == BAT and isinstance(action, HoldPower)]
    assert powers[0] == -40e3
    assert all(power <= 0.0 for power in powers)
    site.close()


async def test_unreadable_memory_is_kept_aside_and_control_starts_fresh(tmp_path: Path) -> None:
    (tmp_path / "control.json").write_text('{"arbiter": 3}')
    (tmp_path / "plans.json").write_text("x")
    site = Site(tmp_path)
    await site.run(1)
    assert site.events.count("state.unreadable") == 2
    assert (tmp_path / "control.json.unreadable").exists()
    site.close()


async def test_a_full_disk_stops_no_shedding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(tmp_path)

    def full(_text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(site.parts.state, "write", full)
    site.field.base_w = 150e3
    await site.run(8)
    assert site.field.closed[LOAD] is False
    assert site.cycle.stats.p99_ms > 0
    site.close()


async def test_f36_a_set_clock_ends_no_minimum_off_time_and_delays_none(tmp_path: Path) -> None:
    """F36 (I4): the load comes back when 5 s have passed, not at once (+2 h) and not two hours late (-2 h)."""
    for number, step_s in enumerate((7200.0, -7200.0, 0.9)):
        folder = tmp_path / str(number)
        folder.mkdir()
        site = Site(folder, at=NOW)
        site.field.base_w = 150e3
        await site.run(8)
        assert site.field.closed[LOAD] is False
        site.clock.step(step_s)
        site.field.base_w = 60e3
        await site.run(3)
        assert site.field.closed[LOAD] is False, step_s
        await site.run(14)
        assert site.field.closed[LOAD] is True, step_s
        site.close()


async def test_f4_what_was_ordered_but_never_seen_is_read_before_anything_is_decided(tmp_path: Path) -> None:
    """F4 (I5): the opening of an expired command is not repeated after a restart that came between journal and write."""
    first = Site(tmp_path)
    until = NOW + timedelta(seconds=20)
    await first.cycle.take_command(command(device_id="load01", action="open", value_w=None, expires_at=until))
    first.image.put(first.field.readings(first.clock.now()))
    hands = Nobody()
    await first.cycle.run_once(hands)
    await first.cycle.close()
    assert hands.decided[LOAD].action == SwitchContact(closed=False)
    second = first.again()
    await second.clock.advance(60.0)
    await second.run(10)
    assert second.field.told == []
    assert second.field.closed[LOAD] is True
    second.close()


class Nobody:
    """Hands that die before they write."""

    def __init__(self) -> None:
        self.decided: Mapping[DeviceId, Decision] = {}

    def unheard(self) -> dict[DeviceId, Unheard]:
        return {}

    async def carry_out(self, decisions: Mapping[DeviceId, Decision], facts: SiteFacts) -> Collection[DeviceId]:
        self.decided = decisions
        return ()


async def test_f5_what_was_written_but_not_recorded_is_found_in_place(tmp_path: Path) -> None:
    """F5 (I2, I9): after a restart between write and read-back the device is read; the command becomes effective unwritten."""
    first = Site(tmp_path)
    await first.cycle.take_command(command(device_id="load01", action="open", value_w=None))
    first.image.put(first.field.readings(first.clock.now()))
    await first.cycle.run_once(Nobody())
    await first.cycle.close()
    first.field.closed[LOAD] = False
    second = first.again()
    await second.run(3)
    assert second.field.told == []
    assert second.parts.commands.reports()[0].state is CommandState.EFFECTIVE
    second.close()


async def test_f13_a_reboot_loop_cuts_no_minimum_off_time(tmp_path: Path) -> None:
    """F13 (I4): ten starts in a row; the shed load comes back no earlier than without them, with and without a memory."""
    site = Site(tmp_path)
    site.field.base_w = 150e3
    await site.run(8)
    site.field.base_w = 60e3
    opened_at = site.clock.now()
    for _ in range(10):
        await site.run(1)
        site = site.again()
    if site.field.closed[LOAD]:
        closed_after = (site.clock.now() - opened_at).total_seconds()
        assert closed_after >= 5.0
    lost = site.again()
    (tmp_path / "control.json").unlink()
    told = len(lost.field.told)
    for _ in range(10):
        lost = lost.again()
        await lost.run(1)
    assert not [action for _, action in lost.field.told[told:] if isinstance(action, SwitchContact) and action.closed]
    lost.close()


class Lost:
    """No time of day."""

    behind_s: float | None = None

    def undated(self) -> str | None:
        return "the clock says 1970"


async def test_f37_without_a_time_of_day_no_plan_and_no_command_is_obeyed_and_safety_acts(tmp_path: Path) -> None:
    """F37 (I5, I6): validity cannot be judged, so devices are in their default; an overload is shed all the same."""
    site = Site(tmp_path)
    await site.cycle.take_plan(plan(), "a" * 64)
    await site.cycle.take_command(command())
    object.__setattr__(site.parts, "dating", Lost())
    site.field.base_w = 150e3
    await site.run(8)
    assert site.ladder() is LadderStep.DEVICE_DEFAULT
    assert "validity of plans cannot be judged: the clock says 1970" in site.cycle.standing.reason
    assert site.field.power[BAT] == 0.0
    assert site.field.closed[LOAD] is False
    object.__setattr__(site.parts, "dating", Dated())
    await site.run(2)
    assert site.field.power[BAT] == -30e3
    site.close()


async def test_f36_an_expired_command_is_not_revived_by_a_clock_set_back(tmp_path: Path) -> None:
    """F36 (I5): what has ended stays ended, and its end on the line of timers is where it was."""
    site = Site(tmp_path)
    await site.cycle.take_command(command(expires_at=NOW + timedelta(seconds=5)))
    await site.run(7)
    assert site.field.power[BAT] == 0.0
    site.clock.step(-7200.0)
    told = len(site.field.told)
    await site.run(5)
    assert [action for _, action in site.field.told[told:] if isinstance(action, HoldPower) and action.power_w] == []
    assert "clock.stepped" in site.events
    site.close()


async def test_f45_an_empty_battery_is_clamped_reported_once_and_does_not_toggle(tmp_path: Path) -> None:
    """F45 (I4): the state of charge flickers around its lower end; one stop, one report, no oscillation."""
    site = Site(tmp_path)
    await site.cycle.take_plan(
        plan(devices=[{"device_id": "bat1", "mode": "setpoint_w", "values_w": [-40e3, -40e3]}]), "a" * 64
    )
    await site.run(5)
    assert site.field.power[BAT] == -40e3
    for second in range(150):
        site.field.soc_pct = 9.9 if second % 3 else 10.2
        await site.run(1)
    powers = [action.power_w for device, action in site.field.told if device == BAT and isinstance(action, HoldPower)]
    changes = [after for before, after in pairwise(powers) if before != after]
    assert changes == [0.0]
    assert site.events.count("plan.deviation") == 1
    site.close()


async def test_f12_what_ran_out_while_the_agent_was_frozen_is_not_carried_out_on_waking(tmp_path: Path) -> None:
    """F12 (I5, I6): five minutes without a cycle; on waking each device hears at most one thing, and nothing that is over."""
    site = Site(tmp_path)
    await site.cycle.take_plan(
        plan(step_s=150, devices=[{"device_id": "bat1", "mode": "setpoint_w", "values_w": [40e3, 30e3, 20e3]}]), "a" * 64
    )
    await site.run(2)
    await site.cycle.take_command(command(expires_at=NOW + timedelta(seconds=60)))
    site.field.told.clear()
    await site.clock.advance(303.0)
    await site.run(1)
    told = [action for _, action in site.field.told]
    assert told == [HoldPower(20e3, 180.0)], "the plan's step of now, once"
    assert site.parts.commands.reports()[0].state is not CommandState.EFFECTIVE
    site.close()
