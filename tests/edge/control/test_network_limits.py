"""The network's limits as claims of an isolated edge, worked out by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tieline_core.ids import DeviceId, EdgeId, PointId
from tieline_core.messages.network import Measured, NetworkElement, NetworkTable, Sensitivity
from tieline_core.quantities import Reading
from tieline_edge.control.claims import NO_LIMIT, Band, Claim, Interval
from tieline_edge.control.facts import AgeLimits, DeviceFacts, SiteFacts
from tieline_edge.control.network_limits import NetworkLimits, Pull, shares, step_of
from tieline_edge.drivers.capabilities import Capability, DeviceSpec, Role
from tieline_edge.shedding.rule import RuleView
from tieline_edge.snapshot import ProcessImage

EDGE = EdgeId("harbour")
NOW = datetime(2016, 12, 7, 16, tzinfo=UTC)
BAT, PV, LOAD = map(DeviceId, ("bat1", "pv1", "load01"))
SPECS = {
    BAT: DeviceSpec(BAT, Role.STORAGE, frozenset({Capability.HOLD_POWER}), None, -100e3, 100e3),
    PV: DeviceSpec(PV, Role.PV, frozenset({Capability.LIMIT_GENERATION}), None, -100e3, 0.0),
    LOAD: DeviceSpec(LOAD, Role.LOAD, frozenset({Capability.SWITCH}), 3),
}


def element(
    per_mw: float,
    value: float,
    *,
    low: float | None = None,
    high: float | None = None,
    devices: tuple[DeviceId, ...] = (BAT,),
    seen: bool = True,
    quantity: str = "loading_pct",
) -> NetworkElement:
    rows = [{"device_id": name, "per_mw": [per_mw] * 4, "per_mvar": [0.0] * 4} for name in devices]
    measured = (
        {"device_id": "tr1", "quantity": quantity if quantity == "loading_pct" else "v_v", "scale": 1.0} if seen else None
    )
    return NetworkElement.model_validate(
        {
            "element": "tr1",
            "quantity": quantity,
            "low": low,
            "high": high,
            "value": [value] * 4,
            "measured": measured,
            "sensitivities": rows,
        }
    )


def table(*elements: NetworkElement, expected_w: float = 0.0) -> NetworkTable:
    powers = dict.fromkeys(SPECS, (expected_w,) * 4)
    return NetworkTable(start=NOW, step_s=900, p_w=powers, elements=elements)


def limits(
    made: NetworkTable | None,
    *,
    power_w: float | None = 20e3,
    loading: float | None = None,
    at: datetime = NOW,
    pv_w: float = -50e3,
) -> dict[DeviceId, Interval | None]:
    image = ProcessImage()
    if loading is not None:
        image.put([Reading(PointId.of(EDGE, DeviceId("tr1"), "loading_pct"), loading, at)])
    facts = SiteFacts({BAT: DeviceFacts(power_w), PV: DeviceFacts(pv_w), LOAD: DeviceFacts(5e3, closed=True)})
    view = RuleView(at, image.freeze(at), facts, AgeLimits(10.0))
    found: list[Claim] = list(NetworkLimits(EDGE, lambda: made, lambda: SPECS).claims(view))
    assert all(one.band is Band.ENVELOPE and one.expires_at == at + timedelta(seconds=10) for one in found)
    return {one.device: one.limit for one in found}


def test_headroom_over_sensitivity_is_what_may_be_drawn_more() -> None:
    # 9 points up to the limit less the margin of 1, at 160 points a megawatt: 56.25 kW more than the 20 kW of now.
    assert limits(table(element(160.0, 50.0, high=100.0)), loading=90.0) == {BAT: Interval(hi=76e3)}


def test_a_crossed_limit_is_a_limit_below_the_power_of_now() -> None:
    assert limits(table(element(160.0, 50.0, high=100.0)), loading=107.0) == {BAT: Interval(hi=-30e3)}


def test_much_room_says_so_in_so_many_words() -> None:
    assert limits(table(element(160.0, 50.0, high=100.0)), loading=20.0) == {BAT: NO_LIMIT}


def test_what_is_not_measured_is_expected_and_corrected_by_what_the_device_does_otherwise() -> None:
    # Expected 90 with 0 W; 20 kW are drawn: 93.2; 5.8 points are left, 36.25 kW.
    made = table(element(160.0, 90.0, high=100.0, seen=False))
    assert limits(made) == {BAT: Interval(hi=56e3)}
    stale = table(element(160.0, 90.0, high=100.0))
    assert limits(stale) == {BAT: Interval(hi=56e3)}, "a meter that is silent is none"


def test_a_low_voltage_bars_charging_and_a_high_one_generation() -> None:
    low = element(-0.05, 0.905, low=0.9, quantity="vm_pu", seen=False)
    assert limits(table(low, expected_w=20e3)) == {BAT: Interval(hi=80e3)}
    high = element(-0.05, 1.097, high=1.1, quantity="vm_pu", seen=False, devices=(PV,))
    # A thousandth is left at the planned 30 kW of generation; 50 kW are delivered, which took it: not a watt more.
    assert limits(table(high, expected_w=-30e3)) == {PV: Interval(lo=-50e3)}


def test_a_crossing_the_hub_expected_anyway_is_not_made_worse_and_the_plan_is_kept() -> None:
    crossed = element(160.0, 104.0, high=100.0, seen=False)
    assert limits(table(crossed, expected_w=20e3)) == {BAT: Interval(hi=20e3)}, "planned with 20 kW: no more than these"
    assert limits(table(crossed, expected_w=0.0)) == {BAT: Interval(hi=0.0)}, "20 kW more than planned: back to the plan"


def test_where_the_devices_here_are_not_felt_they_are_left_alone() -> None:
    faint = element(-0.01, 0.85, low=0.9, quantity="vm_pu", seen=False)
    assert limits(table(faint, expected_w=20e3)) == {}


def test_a_plant_is_no_help_where_drawing_more_hurts_and_a_contactor_is_not_asked() -> None:
    found = limits(table(element(160.0, 50.0, high=100.0, devices=(BAT, PV, LOAD))), loading=95.0)
    assert found == {BAT: Interval(hi=45e3)}


def test_headroom_is_shared_by_what_each_could_do() -> None:
    assert shares(8.0, [Pull(BAT, 2e-4, 100e3), Pull(PV, 2e-4, 300e3)]) == {BAT: 10e3, PV: 30e3}
    assert shares(8.0, [Pull(BAT, -2e-4, 100e3)]) == {BAT: -40e3}
    assert shares(8.0, [Pull(BAT, 0.0, 100e3)]) == {}


@given(
    st.floats(-50, 50),
    st.lists(st.tuples(st.floats(1e-6, 1e-3), st.sampled_from([-1, 1]), st.floats(1e3, 1e6)), min_size=1, max_size=6),
)
def test_shares_use_the_headroom_up_and_no_more(headroom: float, rows: list[tuple[float, int, float]]) -> None:
    pulls = [Pull(DeviceId(f"d{number}"), sign * size, reach) for number, (size, sign, reach) in enumerate(rows)]
    moves = shares(headroom, pulls)
    assert sum(one.per_w * moves[one.device] for one in pulls) == pytest.approx(headroom)


def test_two_elements_leave_the_narrower_and_contradictions_the_first() -> None:
    tight, wide = element(160.0, 95.0, high=100.0, seen=False), element(160.0, 60.0, high=100.0, seen=False)
    assert limits(table(wide, tight, expected_w=20e3)) == {BAT: Interval(hi=45e3)}
    above, below = element(160.0, 95.0, high=90.0), element(160.0, 95.0, low=99.0)
    assert limits(table(above, below), loading=97.0) == {BAT: Interval(hi=-30e3)}


def test_beyond_its_end_the_table_tells_of_the_same_time_of_its_last_day() -> None:
    made = table(element(160.0, 90.0, high=100.0, seen=False))
    assert step_of(made, 4, NOW - timedelta(seconds=1)) is None
    assert step_of(made, 4, NOW + timedelta(minutes=50)) == 3
    assert step_of(made, 4, NOW + timedelta(hours=2)) is None, "an hour of another day that the table does not hold"
    assert step_of(made, 4, NOW + timedelta(days=3, minutes=20)) == 1
    assert limits(made, at=NOW + timedelta(hours=2)) == {}


def test_without_a_table_or_a_power_nothing_is_claimed() -> None:
    assert limits(None) == {}
    assert limits(table(element(160.0, 90.0, high=100.0, seen=False)), power_w=None) == {}


def test_an_element_needs_a_limit_and_rows_of_one_length() -> None:
    with pytest.raises(ValidationError, match="neither a low nor a high"):
        element(1.0, 1.0)
    row = Sensitivity(device_id=BAT, per_mw=(1.0,), per_mvar=(1.0,))
    with pytest.raises(ValidationError, match="same number of steps"):
        NetworkElement(
            element="tr1",
            quantity="vm_pu",
            low=0.9,
            value=(1.0, 1.0),
            measured=Measured(device_id=BAT, quantity="v_v"),
            sensitivities=(row,),
        )


@pytest.mark.parametrize(
    "made",
    [
        element(100.0, 1e12, high=-1e12),
        element(1e12, -1e12, low=-1e12, high=1e12),
        element(1e-310, 50.0, high=100.0, devices=(BAT,)).model_copy(
            update={
                "sensitivities": (
                    *element(1e-310, 0.0, high=1.0).sensitivities,
                    *element(1e2, 0.0, high=1.0, devices=(PV,)).sensitivities,
                )
            }
        ),
    ],
)
@pytest.mark.parametrize("loading", [None, 90.0, 1e308])
def test_no_number_of_a_table_and_none_of_the_field_stops_the_loop(made: NetworkElement, loading: float | None) -> None:
    for expected_w in (0.0, 1e12, -1e12):
        for limit in limits(table(made, expected_w=expected_w), loading=loading).values():
            assert limit is not None
            assert limit.meet(Interval(-100e3, 100e3)) is not None, "whatever is asked lies inside the rating"


@pytest.mark.parametrize(
    "wrong",
    [
        {"step_s": 86_401},
        {"start": datetime(9999, 12, 31, tzinfo=UTC)},
        {"p_w": {"bat1": [0.0]}},
        {"p_w": {"bat1": [1e300] * 4}},
    ],
)
def test_a_table_that_leaves_the_calendar_or_its_own_rows_is_refused(wrong: dict[str, object]) -> None:
    good = table(element(100.0, 50.0, high=100.0))
    with pytest.raises(ValidationError):
        NetworkTable.model_validate({**good.model_dump(), **wrong})
