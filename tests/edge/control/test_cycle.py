"""The whole control loop on a fake field: overload, shedding, commands, plans, policies."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.edge.control.site import BAT, EDGE, LOAD, NOW, SPECS, VITAL, Site, command, plan, settings
from tieline_core.clock import ManualClock
from tieline_core.errors import BadInputError
from tieline_core.messages.command import CommandState
from tieline_core.messages.desired import LadderStep
from tieline_core.messages.policy import Policy
from tieline_core.messages.telemetry import Event
from tieline_edge.control.claims import Band, Claim, Interval
from tieline_edge.control.cycle import ControlCycle
from tieline_edge.control.explain import explain
from tieline_edge.control.plan_book import PlanRefusedError
from tieline_edge.control.words import explanation_words
from tieline_edge.shedding.rule import RuleSite, RuleView, VitalLoadError
from tieline_edge.shedding.rules import load_rules


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


async def test_a_plan_is_followed_safety_bars_charging_and_the_plan_comes_back(tmp_path: Path) -> None:
    site = Site(tmp_path)
    await site.cycle.take_plan(plan(), "a" * 64)
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
    await site.cycle.take_plan(plan(), "a" * 64)
    assert (await site.cycle.take_command(command())).state is CommandState.ACCEPTED
    await site.run(3)
    assert site.field.power[BAT] == -30e3
    assert site.parts.commands.reports()[0].state is CommandState.EFFECTIVE
    refused = await site.cycle.take_command(command(command_id="command-2", device_id="load10", action="open", value_w=None))
    assert refused.state is CommandState.REFUSED
    assert "command.refused" in site.events or site.outlet._queue.qsize()
    site.close()


class Tag:
    """A speaker that keeps the battery at rest."""

    def claims(self, view: RuleView) -> list[Claim]:
        return [Claim(BAT, Band.INTERLOCK, "tag", "somebody works on it", limit=Interval(0.0, 0.0))]


async def test_a_speaker_is_heard_in_every_cycle(tmp_path: Path) -> None:
    site = Site(tmp_path, speakers=(Tag(),))
    await site.cycle.take_plan(plan(), "a" * 64)
    await site.run(3)
    assert site.field.power[BAT] == 0.0
    assert [claim.source for claim in site.cycle.decisions[BAT].limits if claim.source == "tag"] == ["tag"]
    site.close()


async def test_a_refused_command_writes_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path)
    await site.cycle.take_command(command(value_w=999e3))
    await site.run(3)
    assert site.field.told == []
    site.close()


async def test_a_refused_plan_leaves_the_old_one_in_force(tmp_path: Path) -> None:
    site = Site(tmp_path)
    await site.cycle.take_plan(plan(), "a" * 64)
    with pytest.raises(PlanRefusedError):
        await site.cycle.take_plan(plan(plan_id="plan-002", edge_id="mill"), "b" * 64)
    await site.run(1)
    assert site.cycle.standing.reason.startswith("plan plan-001")
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


async def test_another_configuration_is_taken_without_a_restart(tmp_path: Path) -> None:
    site = Site(tmp_path)
    await site.run(1)
    fewer = {device: spec for device, spec in SPECS.items() if device != LOAD}
    site.cycle.take_site(replace(site.parts.rule_site, specs=fewer), dict.fromkeys(fewer, 30.0))
    assert set(site.cycle.specs) == set(fewer)
    assert site.cycle.ages().of(BAT) == 90.0
    refused = await site.cycle.take_command(command(device_id="load01", action="open", value_w=None))
    assert refused.state is CommandState.REFUSED
    vital = site.parts.settings.shedding.model_copy(update={"vital": (LOAD,)})
    with pytest.raises(VitalLoadError):
        site.cycle.take_site(replace(site.parts.rule_site, settings=vital), {})
    assert set(site.cycle.specs) == set(fewer), "a refused one changes nothing"
    site.close()
