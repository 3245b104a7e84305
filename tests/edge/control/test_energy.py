"""Energy of storages: ends with a margin, and the reserve that plans leave alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tieline_core.ids import DeviceId
from tieline_edge.control.arbiter import decide
from tieline_edge.control.claims import Band, Claim, Failsafe, Interval
from tieline_edge.control.energy import looked, window
from tieline_edge.control.facts import DeviceFacts, SiteFacts
from tieline_edge.control.memory import ArbiterMemory, PowerMemory
from tieline_edge.drivers.capabilities import Capability, DeviceSpec, HoldPower, Role

NOW = datetime(2016, 12, 7, 16, tzinfo=UTC)
BAT = DeviceId("bat1")
SPEC = DeviceSpec(
    BAT,
    Role.STORAGE,
    frozenset({Capability.HOLD_POWER}),
    p_min_w=-60e3,
    p_max_w=60e3,
    energy_wh=150e3,
    soc_min_pct=10.0,
    soc_max_pct=90.0,
    soc_reserve_pct=20.0,
)


def powers(socs: list[float | None], claims: list[Claim]) -> list[float]:
    memory, out = ArbiterMemory({BAT: PowerMemory(sign=0)}), []
    for second, soc in enumerate(socs):
        facts = SiteFacts({BAT: DeviceFacts(0.0, soc)})
        judged = decide({BAT: SPEC}, claims, memory, facts, NOW + timedelta(seconds=second), 180.0)
        memory = judged.memory
        action = judged.by_device[BAT].action
        assert isinstance(action, HoldPower)
        out.append(action.power_w)
    return out


def wish(power_w: float, band: Band = Band.PLAN) -> Claim:
    return Claim(BAT, band, "s", "r", setpoint_w=power_w, expires_at=NOW + timedelta(hours=1))


@pytest.mark.parametrize(
    ("power_w", "socs", "band"),
    [(-30e3, [10.4, 10.0, 10.05, 10.9, 11.2], Band.SAFETY), (30e3, [89.6, 90.0, 89.95, 89.1, 88.8], Band.PLAN)],
)
def test_an_end_is_left_only_with_a_margin(power_w: float, socs: list[float | None], band: Band) -> None:
    assert powers(socs, [wish(power_w, band)]) == [power_w, 0.0, 0.0, 0.0, power_w]


def test_an_unknown_state_of_charge_rests_and_forgets_nothing() -> None:
    assert powers([10.0, None, 10.5, 11.5], [wish(-30e3, Band.SAFETY)]) == [0.0, 0.0, 0.0, -30e3]


def test_the_margin_fits_into_a_narrow_window() -> None:
    narrow = DeviceSpec(BAT, Role.STORAGE, frozenset(), soc_min_pct=50.0, soc_max_pct=52.0)
    memory = looked(narrow, DeviceFacts(soc_pct=50.0), PowerMemory())
    assert memory.at_end == -1
    assert looked(narrow, DeviceFacts(soc_pct=50.3), memory).at_end == 0
    assert window(narrow, DeviceFacts(soc_pct=51.0), PowerMemory()) is None


@pytest.mark.parametrize(
    ("band", "power_w"), [(Band.PLAN, 0.0), (Band.DEFAULT, 0.0), (Band.OPERATOR, -30e3), (Band.SAFETY, -30e3)]
)
def test_the_reserve_is_for_safety_and_operators_only(band: Band, power_w: float) -> None:
    assert powers([25.0], [wish(-30e3, band)]) == [power_w]


def test_the_reserve_lets_plans_charge_and_opens_with_a_margin() -> None:
    assert powers([30.0], [wish(20e3)]) == [20e3]
    assert powers([30.0, 30.5, 31.5], [wish(-20e3)]) == [0.0, 0.0, -20e3]


def test_a_limit_that_demands_a_discharge_is_stronger_than_the_reserve() -> None:
    limit = Interval(-60e3, -5e3)
    must = Claim(BAT, Band.SAFETY, "f", "r", limit=limit, expires_at=NOW + timedelta(hours=1), failsafe=Failsafe(limit, 1.0))
    assert powers([25.0], [must, wish(10e3)]) == [-5e3]
