"""The thermal rule with a snapshot of the site and a stored memory."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tieline_core.ids import DeviceId, EdgeId, PointId
from tieline_core.quantities import Quality, Reading
from tieline_core.shedding import ThermalOverloadParameters
from tieline_edge.control.facts import AgeLimits, gather
from tieline_edge.drivers.capabilities import Capability, DeviceSpec, Role
from tieline_edge.settings import SheddingSettings
from tieline_edge.shedding.rule import RuleSite, RuleView
from tieline_edge.shedding.thermal_overload import ThermalOverload
from tieline_edge.snapshot import ProcessImage

START = datetime(2016, 12, 7, 18, tzinfo=UTC)
BAT = DeviceId("bat1")
RATED = 100e3
LEVELS = ThermalOverloadParameters(hold_s=10, severe_hold_s=5)
EDGE, TR = EdgeId("harbour"), DeviceId("tr1")


def site(levels: ThermalOverloadParameters = LEVELS) -> RuleSite:
    specs = {
        TR: DeviceSpec(TR, Role.TRANSFORMER, frozenset({Capability.MEASURE})),
        BAT: DeviceSpec(BAT, Role.STORAGE, frozenset({Capability.HOLD_POWER})),
        DeviceId("l41"): DeviceSpec(DeviceId("l41"), Role.LOAD, frozenset({Capability.SWITCH}), 4),
        DeviceId("l01"): DeviceSpec(DeviceId("l01"), Role.LOAD, frozenset({Capability.SWITCH}), 0),
    }
    return RuleSite(EDGE, RATED, specs, SheddingSettings(transformer=TR, thermal_overload=levels))


def view_of(loading: float | None, now: datetime, quality: Quality = Quality.GOOD, age_s: float = 0.0) -> RuleView:
    image = ProcessImage()
    measured = now - timedelta(seconds=age_s)
    image.put(
        [
            Reading(PointId.of(EDGE, TR, "loading_pct"), loading, measured, quality),
            Reading(PointId.of(EDGE, TR, "p_w"), 110e3, measured),
            Reading(PointId.of(EDGE, TR, "q_var"), 10e3, measured),
            Reading(PointId.of(EDGE, DeviceId("l41"), "p_w"), 30e3, now),
            Reading(PointId.of(EDGE, DeviceId("l41"), "closed"), 1.0, now),
            Reading(PointId.of(EDGE, DeviceId("l01"), "p_w"), 30e3, now),
        ]
    )
    ages = AgeLimits(4.0)
    snapshot = image.freeze(now)
    return RuleView(now, snapshot, gather(snapshot, EDGE, site().specs, ages), ages)


def drive(rule: ThermalOverload, loading: float, seconds: int) -> list[str]:
    codes: list[str] = []
    for second in range(seconds):
        result = rule.step(view_of(loading, START + timedelta(seconds=second)))
        codes.extend(event.code for event in result.events)
    return codes


def test_the_rule_sheds_from_a_snapshot_and_never_the_vital_load() -> None:
    rule = ThermalOverload(site(), TR, random.Random(1))
    assert drive(rule, 112.0, 12) == ["shed.thermal"]
    assert rule.shed == ("l41",)
    assert set(rule.parameters.loads) == {"l41"}
    assert rule.parameters.storages == (BAT,)


@pytest.mark.parametrize(
    "blind",
    [
        lambda now: view_of(None, now, Quality.BAD),
        lambda now: view_of(112.0, now, Quality.STALE),
        lambda now: view_of(112.0, now, Quality.GOOD, 5.0),
    ],
)
def test_bad_stale_and_old_loadings_shed_nothing(blind: Callable[[datetime], RuleView]) -> None:
    rule = ThermalOverload(site(), TR, random.Random(1))
    for second in range(40):
        rule.step(blind(START + timedelta(seconds=second)))
    assert rule.shed == ()


def test_memory_survives_a_restart_and_what_has_become_vital_is_let_go() -> None:
    rule = ThermalOverload(site(), TR, random.Random(1))
    drive(rule, 112.0, 12)
    again = ThermalOverload(site(), TR, random.Random(2))
    again.load(rule.dump())
    assert again.memory == rule.memory
    now_vital = site()
    specs = {**now_vital.specs, DeviceId("l41"): replace(now_vital.specs[DeviceId("l41")], priority_class=0)}
    freed = ThermalOverload(replace(now_vital, specs=specs), TR, random.Random(2))
    freed.load(rule.dump())
    assert freed.shed == ()
    with pytest.raises(ValueError, match="validation error"):
        again.load('{"shed": 3}')
