"""The whole control loop on a fake field: overload, shedding, restoring, restart, commands, plans, policies."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.certificates import clean_certificate
from tieline_core.clock import ManualClock
from tieline_core.errors import BadInputError
from tieline_core.ids import DeviceId, EdgeId, PointId
from tieline_core.messages.command import Command, CommandState
from tieline_core.messages.desired import LadderStep
from tieline_core.messages.network import PriceVector
from tieline_core.messages.plan import Plan
from tieline_core.messages.policy import Policy
from tieline_core.messages.telemetry import Event, IssuedForecast
from tieline_core.quantities import Reading
from tieline_core.shedding import ThermalOverloadParameters
from tieline_edge.control.arbiter import Decision
from tieline_edge.control.claims import Band, Claim, Interval
from tieline_edge.control.commands import CommandBook
from tieline_edge.control.cycle import ControlCycle, Parts
from tieline_edge.control.executor import Executor, Timing
from tieline_edge.control.explain import explain
from tieline_edge.control.facts import SiteFacts
from tieline_edge.control.outlet import Outlet
from tieline_edge.control.plan_book import PlanBook, PlanRefusedError
from tieline_edge.control.speaker import Speaker
from tieline_edge.control.state_file import StateFile
from tieline_edge.control.time_watch import Dated
from tieline_edge.control.trace import Trace
from tieline_edge.control.unheard import Unheard
from tieline_edge.control.words import explanation_words
from tieline_edge.drivers.capabilities import Action, Capability, DeviceSpec, HoldPower, ReadBack, Release, Role, SwitchContact
from tieline_edge.settings import EdgeSettings, LocalScheduleSettings, TariffStep
from tieline_edge.shedding.rule import RuleSite, RuleView, VitalLoadError
from tieline_edge.shedding.rules import load_rules
from tieline_edge.snapshot import ProcessImage
from tieline_edge.steady import SteadyTime

EDGE = EdgeId("harbour")
NOW = datetime(2016, 12, 7, 16, tzinfo=UTC)
TR, BAT, LOAD, VITAL = map(DeviceId, ("tr1", "bat1", "load01", "load10"))
SPECS = {
    TR: DeviceSpec(TR, Role.TRANSFORMER, frozenset({Capability.MEASURE})),
    BAT: DeviceSpec(BAT, Role.STORAGE, frozenset({Capability.HOLD_POWER}), None, -60e3, 60e3, 150e3, 10.0, 90.0, reverts=True),
    LOAD: DeviceSpec(LOAD, Role.LOAD, frozenset({Capability.SWITCH}), 3, off_timer=True),
    VITAL: DeviceSpec(VITAL, Role.LOAD, frozenset({Capability.SWITCH}), 0),
}
LEVELS = ThermalOverloadParameters(hold_s=5, severe_hold_s=5, restore_hold_s=8)
SWITCHING = {"restore_step_s": 2, "restore_spread_s": 0, "min_off_s": 5, "effect_s": 1, "cold_load_factor": 1.3}


def settings(folder: Path, keys: Sequence[str] = ("ab" * 32,)) -> EdgeSettings:
    return EdgeSettings.model_validate(
        {
            "edge_id": EDGE,
            "state_dir": folder,
            "site": {"name": "Harbour", "rated_va": 200e3},
            "hub": {"mqtt": {"host": "127.0.0.1"}, "http": "http://127.0.0.1:1", "public_keys": list(keys)},
            "devices": [{"id": name, "catalog": "x", "modbus": {"host": "127.0.0.1"}} for name in SPECS],
            "shedding": {
                "transformer": "tr1",
                "thermal_overload": LEVELS.model_dump(),
                "switching": SWITCHING,
                "storage": {"relieve": False},
            },
        }
    )


class Disk:
    """A recorder that keeps nothing."""

    async def record(self, readings: Sequence[Reading]) -> None: ...

    async def record_event(self, event: Event) -> None: ...

    async def record_forecast(self, forecast: IssuedForecast) -> None: ...


class Field:
    """A transformer, a battery and two loads that do what they are told."""

    def __init__(self) -> None:
        self.base_w = 100e3
        self.soc_pct = 50.0
        self.power = {BAT: 0.0}
        self.closed = {LOAD: True, VITAL: True}
        self.told: list[tuple[DeviceId, Action]] = []

    def readings(self, now: datetime) -> list[Reading]:
        loads = {device: 30e3 if closed else 0.0 for device, closed in self.closed.items()}
        total = self.base_w + sum(loads.values()) + self.power[BAT]
        values = {
            (TR, "p_w"): total,
            (TR, "q_var"): 0.0,
            (TR, "loading_pct"): abs(total) / 2e3,
            (TR, "v_v"): 400.0,
            (TR, "breaker_closed"): 1.0,
            (BAT, "p_w"): self.power[BAT],
            (BAT, "soc_pct"): self.soc_pct,
            **{(device, "p_w"): power for device, power in loads.items()},
            **{(device, "closed"): float(closed) for device, closed in self.closed.items()},
        }
        return [Reading(PointId.of(EDGE, device, name), value, now) for (device, name), value in values.items()]


class Handle:
    """One device of the field."""

    def __init__(self, device: DeviceId, field: Field) -> None:
        self.spec = SPECS[device]
        self._field = field

    async def apply(self, action: Action) -> ReadBack:
        device = self.spec.device_id
        self._field.told.append((device, action))
        if isinstance(action, HoldPower):
            self._field.power[device] = action.power_w
        if isinstance(action, Release):
            self._field.power[device] = 0.0
        if isinstance(action, SwitchContact):
            self._field.closed[device] = action.closed
        return ReadBack(True, "ok")


class Site:
    """A control cycle with its field; ``again`` is the same site after a restart."""

    def __init__(
        self,
        folder: Path,
        *,
        keys: Sequence[str] = ("ab" * 32,),
        field: Field | None = None,
        at: datetime = NOW,
        speakers: tuple[Speaker, ...] = (),
        specs: Mapping[DeviceId, DeviceSpec] = SPECS,
    ) -> None:
        self.folder, self.keys = folder, keys
        self.clock = ManualClock(at)
        self.field = field or Field()
        steady = SteadyTime(self.clock)
        self.image = ProcessImage(self.clock, steady)
        self.events: list[str] = []
        made = settings(folder, keys)
        self.trace = Trace.open(folder / "trace.sqlite")
        self.outlet = Outlet(EDGE, self.clock, Disk())
        site = RuleSite(EDGE, made.site.rated_va, specs, made.shedding)
        parts = Parts(
            settings=made,
            clock=self.clock,
            image=self.image,
            rule_site=site,
            plans=PlanBook(EDGE, SPECS, StateFile(folder / "plans.json")),
            commands=CommandBook(EDGE, SPECS, StateFile(folder / "commands.json")),
            trace=self.trace,
            outlet=self.outlet,
            state=StateFile(folder / "control.json"),
            poll_s=dict.fromkeys(SPECS, 1.0),
            monitor_only=not keys,
            rng=random.Random(1),
            speakers=speakers,
            steady=steady,
        )
        self.parts = parts
        self.cycle = ControlCycle(parts)
        self.cycle.restore()

    def ladder(self) -> LadderStep:
        return self.cycle.standing.step

    def again(self) -> Site:
        self.trace.close()
        return Site(self.folder, keys=self.keys, field=self.field, at=self.clock.now())

    async def run(self, seconds: int) -> None:
        handles = {device: Handle(device, self.field) for device in (BAT, LOAD, VITAL)}
        async with Executor(handles, self.clock, Timing(60.0), self.cycle.take_outcome) as executor:
            for _ in range(seconds):
                self.image.put(self.field.readings(self.clock.now()))
                await self.cycle.run_once(executor)
                await self.clock.advance(1.0)
        await self.cycle.close()
        self.events = [item.code for item in self.outlet._queue._queue if isinstance(item, Event)]  # type: ignore[attr-defined]  # a look inside

    def close(self) -> None:
        self.trace.close()


def command(**rest: Any) -> Command:
    return Command.model_validate(
        {
            "command_id": "command-1",
            "edge_id": "harbour",
            "device_id": "bat1",
            "action": "setpoint_w",
            "value_w": -30e3,
            "expires_at": NOW + timedelta(minutes=10),
            "issued_by": "ada",
            "issued_at": NOW,
            "reason": "evening",
            **rest,
        }
    )


def plan(**rest: Any) -> Plan:
    return Plan.model_validate(
        {
            "plan_id": "plan-001",
            "edge_id": "harbour",
            "issued_at": NOW,
            "start": NOW,
            "step_s": 900,
            "devices": [{"device_id": "bat1", "mode": "setpoint_w", "values_w": [40e3, 10e3]}],
            "certificate": clean_certificate(NOW),
            **rest,
        }
    )


async def test_an_overload_is_shed_and_restored_and_every_step_can_be_asked_for(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.field.base_w = 150e3  # with 60 kW of loads 105 %
    await site.run(8)
    assert site.field.closed == {LOAD: False, VITAL: True}
    assert site.cycle.shed == (LOAD,)
    shed_at = site.clock.now()
    site.field.base_w = 60e3
    await site.run(15)
    assert site.field.closed == {LOAD: True, VITAL: True}
    assert [code for code in site.events if code.split(".")[0] in ("shed", "restore")] == ["shed.thermal", "restore.thermal"]
    site.close()
    shed, now = (explain(tmp_path / "trace.sqlite", LOAD, at, replay=True) for at in (shed_at, site.clock.now()))
    assert shed["winner"][:3] == ["safety", "thermal-overload", "open"]
    assert now["winner"][:3] == ["default", "default", "closed"]
    assert shed["replay"]["same"]
    assert now["replay"]["same"]
    assert "local protection" in explanation_words(shed, ZoneInfo("UTC"))


async def test_what_the_rules_tell_in_a_dry_run_says_so(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.cycle = ControlCycle(replace(site.parts, settings=site.parts.settings.model_copy(update={"dry_run": True})))
    site.field.base_w = 150e3
    await site.run(8)
    told = [item for item in site.outlet._queue._queue if isinstance(item, Event)]  # type: ignore[attr-defined]  # a look inside
    assert [event.code for event in told if event.code.startswith("shed.")] == ["shed.thermal"]
    assert all(event.text.startswith("(dry run) ") for event in told if event.code.startswith("shed."))
    site.close()


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


async def test_a_plan_is_followed_safety_bars_charging_and_the_plan_comes_back(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.cycle.take_plan(plan(), "a" * 64)
    await site.run(2)
    assert site.field.power[BAT] == 40e3
    assert site.cycle.standing.step is LadderStep.CURRENT_PLAN
    site.field.base_w = 130e3  # 40 kW of charging make it 115 %
    await site.run(2)
    assert site.field.power[BAT] == 0.0
    site.field.base_w = 60e3
    await site.run(20)
    assert site.field.power[BAT] == 0.0, "a bar that has only just been lifted may come back"
    await site.run(15)
    assert site.field.power[BAT] == 40e3
    site.close()


async def test_a_command_beats_the_plan_and_is_reported_to_its_effect(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.cycle.take_plan(plan(), "a" * 64)
    assert site.cycle.take_command(command()).state is CommandState.ACCEPTED
    await site.run(3)
    assert site.field.power[BAT] == -30e3
    assert site.parts.commands.reports()[0].state is CommandState.EFFECTIVE
    refused = site.cycle.take_command(command(command_id="command-2", device_id="load10", action="open", value_w=None))
    assert refused.state is CommandState.REFUSED
    assert "command.refused" in site.events or site.outlet._queue.qsize()
    site.close()


async def test_a_battery_that_still_does_what_an_earlier_run_ordered_is_ramped_from_there(tmp_path: Path) -> None:
    """Its own timer has not ended the order yet, nobody claimed anything at first, and then a plan of the other sign came."""
    slow = replace(SPECS[BAT], ramp_w_per_s=2e3, dead_time_s=5.0)
    site = Site(tmp_path, specs={**SPECS, BAT: slow})
    site.field.power[BAT] = -40e3
    await site.run(12)
    assert site.field.told == []
    site.cycle.take_plan(plan(), "a" * 64)
    await site.run(3)
    powers = [action.power_w for device, action in site.field.told if device == BAT and isinstance(action, HoldPower)]
    assert powers[0] == -40e3
    assert all(power <= 0.0 for power in powers)
    site.close()


class Tag:
    """A speaker that keeps the battery at rest."""

    def claims(self, view: RuleView) -> list[Claim]:
        return [Claim(BAT, Band.INTERLOCK, "tag", "somebody works on it", limit=Interval(0.0, 0.0))]


async def test_a_speaker_is_heard_in_every_cycle(tmp_path: Path) -> None:
    site = Site(tmp_path, speakers=(Tag(),))
    site.cycle.take_plan(plan(), "a" * 64)
    await site.run(3)
    assert site.field.power[BAT] == 0.0
    assert [claim.source for claim in site.cycle.decisions[BAT].limits if claim.source == "tag"] == ["tag"]
    site.close()


async def test_a_refused_command_writes_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.cycle.take_command(command(value_w=999e3))
    await site.run(3)
    assert site.field.told == []
    site.close()


async def test_a_refused_plan_leaves_the_old_one_in_force(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.cycle.take_plan(plan(), "a" * 64)
    with pytest.raises(PlanRefusedError):
        site.cycle.take_plan(plan(plan_id="plan-002", edge_id="mill"), "b" * 64)
    await site.run(1)
    assert site.cycle.standing.reason.startswith("plan plan-001")
    site.close()


def forecast() -> IssuedForecast:
    p50 = tuple([100e3] * 4 + [50e3] * 20)
    return IssuedForecast(
        point=PointId("harbour/site/load_w"),
        model_id="weekly",
        issued_at=NOW,
        start=NOW,
        step_s=900,
        p10=p50,
        p50=p50,
        p90=p50,
        lo90=p50,
        hi90=p50,
    )


async def test_without_a_plan_the_local_forecast_makes_the_schedule(tmp_path: Path) -> None:
    site = Site(tmp_path)
    await site.run(1)
    assert site.ladder() is LadderStep.DEVICE_DEFAULT
    site.cycle.take_forecast(forecast())
    await site.run(2)
    assert site.ladder() is LadderStep.LOCAL_SCHEDULE
    assert site.field.power[BAT] < -30e3
    assert "ladder.step" in site.events
    site.close()


async def test_a_battery_that_is_silent_when_a_forecast_comes_keeps_its_schedule(tmp_path: Path) -> None:
    site = Site(tmp_path)
    await site.run(1)
    site.cycle.take_forecast(forecast())
    site.image.mark_stale([PointId.of(EDGE, BAT, "soc_pct")])
    site.cycle.take_forecast(forecast())
    await site.run(2)
    assert site.ladder() is LadderStep.LOCAL_SCHEDULE
    assert site.field.power[BAT] < -30e3
    site.close()


async def test_without_keys_nothing_is_written_and_derived_points_go_on(tmp_path: Path) -> None:
    site = Site(tmp_path, keys=())
    site.field.base_w = 190e3
    await site.run(20)
    assert site.field.told == []
    assert site.cycle.shed == ()
    assert "monitor only" in site.cycle.standing.reason
    assert {reading.point.quantity for reading in site.cycle.derived} == {"load_w", "storage_w", "pv_w", "ladder_step"}
    site.close()


async def test_a_policy_can_make_a_load_vital_and_frees_it(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.field.base_w = 150e3
    await site.run(8)
    site.cycle.take_policy(Policy.model_validate({"policy_id": "policy-1", "edge_id": "harbour", "vital": ["load01"]}))
    assert site.cycle.shed == ()
    await site.run(10)
    assert site.field.closed[LOAD] is True
    with pytest.raises(BadInputError):
        site.cycle.take_policy(Policy.model_validate({"policy_id": "policy-2", "edge_id": "harbour", "classes": {"load10": 4}}))
    site.close()


async def test_unreadable_memory_is_kept_aside_and_control_starts_fresh(tmp_path: Path) -> None:
    (tmp_path / "control.json").write_text('{"arbiter": 3}')
    (tmp_path / "plans.json").write_text("x")
    site = Site(tmp_path)
    await site.run(1)
    assert site.events.count("state.unreadable") == 2
    assert (tmp_path / "control.json.unreadable").exists()
    site.close()


def test_a_site_whose_rules_could_shed_a_vital_load_does_not_start(tmp_path: Path) -> None:
    made = settings(tmp_path)
    vital = made.shedding.model_copy(update={"vital": (LOAD,)})
    with pytest.raises(VitalLoadError):
        load_rules(RuleSite(EDGE, 1.0, SPECS, vital), random.Random(1))


def test_inputs_may_be_older_under_a_fast_clock_and_for_slow_devices(tmp_path: Path) -> None:
    site = Site(tmp_path)
    assert site.cycle.ages().default_s == 10.0

    object.__setattr__(site.parts, "clock", ManualClock(NOW, speed=90.0))
    assert site.cycle.ages().default_s == 135.0
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


async def test_ages_follow_a_slowing_clock_two_cycles_late(tmp_path: Path) -> None:
    site = Site(tmp_path)
    normal = site.clock
    object.__setattr__(site.parts, "clock", ManualClock(NOW, speed=90.0))
    await site.run(1)
    object.__setattr__(site.parts, "clock", normal)
    assert site.cycle.ages().default_s == 135.0, "what was measured under the fast clock is not old yet"
    await site.run(3)
    assert site.cycle.ages().default_s == 10.0
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
    first.cycle.take_command(command(device_id="load01", action="open", value_w=None, expires_at=until))
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
    first.cycle.take_command(command(device_id="load01", action="open", value_w=None))
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


async def test_another_configuration_is_taken_without_a_restart(tmp_path: Path) -> None:
    site = Site(tmp_path)
    await site.run(1)
    fewer = {device: spec for device, spec in SPECS.items() if device != LOAD}
    site.cycle.take_site(replace(site.parts.rule_site, specs=fewer), dict.fromkeys(fewer, 30.0))
    assert set(site.cycle.specs) == set(fewer)
    assert site.cycle.ages().of(BAT) == 90.0
    refused = site.cycle.take_command(command(device_id="load01", action="open", value_w=None))
    assert refused.state is CommandState.REFUSED
    vital = site.parts.settings.shedding.model_copy(update={"vital": (LOAD,)})
    with pytest.raises(VitalLoadError):
        site.cycle.take_site(replace(site.parts.rule_site, settings=vital), {})
    assert set(site.cycle.specs) == set(fewer), "a refused one changes nothing"
    site.close()


class Lost:
    """No time of day."""

    behind_s: float | None = None

    def undated(self) -> str | None:
        return "the clock says 1970"


async def test_f37_without_a_time_of_day_no_plan_and_no_command_is_obeyed_and_safety_acts(tmp_path: Path) -> None:
    """F37 (I5, I6): validity cannot be judged, so devices are in their default; an overload is shed all the same."""
    site = Site(tmp_path)
    site.cycle.take_plan(plan(), "a" * 64)
    site.cycle.take_command(command())
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
    site.cycle.take_command(command(expires_at=NOW + timedelta(seconds=5)))
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
    site.cycle.take_plan(plan(devices=[{"device_id": "bat1", "mode": "setpoint_w", "values_w": [-40e3, -40e3]}]), "a" * 64)
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
    site.cycle.take_plan(
        plan(step_s=150, devices=[{"device_id": "bat1", "mode": "setpoint_w", "values_w": [40e3, 30e3, 20e3]}]), "a" * 64
    )
    await site.run(2)
    site.cycle.take_command(command(expires_at=NOW + timedelta(seconds=60)))
    site.field.told.clear()
    await site.clock.advance(303.0)
    await site.run(1)
    told = [action for _, action in site.field.told]
    assert told == [HoldPower(20e3, 180.0)], "the plan's step of now, once"
    assert site.parts.commands.reports()[0].state is not CommandState.EFFECTIVE
    site.close()


async def test_prices_of_the_last_plan_steer_the_battery_after_its_end(tmp_path: Path) -> None:
    site = Site(tmp_path)
    object.__setattr__(
        site.parts,
        "settings",
        site.parts.settings.model_copy(
            update={"local_schedule": LocalScheduleSettings(objective="price", end_eur_per_mwh=0.0)}
        ),
    )
    prices = PriceVector(start=NOW, step_s=900, eur_per_mwh=(50.0, 50.0, 400.0, 50.0))
    site.cycle.take_plan(plan(prices=prices), "a" * 64)
    await site.run(1)
    await site.clock.advance(1800.0)
    flat = (100e3,) * 24
    site.image.put(site.field.readings(site.clock.now()))
    site.cycle.take_forecast(
        IssuedForecast(
            point=PointId("harbour/site/load_w"),
            model_id="weekly",
            issued_at=NOW,
            start=NOW,
            step_s=900,
            p10=flat,
            p50=flat,
            p90=flat,
            lo90=flat,
            hi90=flat,
        )
    )
    await site.run(2)
    assert site.ladder() is LadderStep.LOCAL_SCHEDULE
    assert site.field.power[BAT] == -60e3
    winner = site.cycle.decisions[BAT].winner
    assert winner is not None
    assert "cheapest by known prices" in winner.reason
    site.close()


async def test_without_prices_the_tariff_of_the_site_is_asked(tmp_path: Path) -> None:
    site = Site(tmp_path)
    tariff = (TariffStep(start=time(0), eur_per_mwh=80.0),)
    local = LocalScheduleSettings(objective="price", tariff=tariff)
    object.__setattr__(site.parts, "settings", site.parts.settings.model_copy(update={"local_schedule": local}))
    assert list(site.cycle._prices(NOW, 900, 3)) == [80.0] * 3
    site.close()
