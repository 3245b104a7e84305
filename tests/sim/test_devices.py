"""Batteries, PV inverters, meter and contactors: registers, limits, losses, reversion timers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sim.conftest import Instant
from tieline_sim.devices.battery import Battery, Battery124, Battery704
from tieline_sim.devices.contactor import Contactor
from tieline_sim.devices.meter import BusbarMeter
from tieline_sim.devices.pv import Panel, Pv123, Pv704
from tieline_sim.devices.sunspec import BASE_ADDRESS, ModbusRefusal, SunSpecDevice, decode, encode
from tieline_sim.devices.sunspec_models import Point, layout
from tieline_sim.scenario import BatterySpec, PvSpec, SheddableSpec

SPEC = BatterySpec("bat1", 60.0, 150.0, 50.0)


def address(device: SunSpecDevice, model: int, name: str) -> int:
    base = next(base for base, row in device._bases if row.number == model)
    return base + device.models[model].points[name].offset


def put(device: SunSpecDevice, model: int, name: str, value: float) -> None:
    point = device.models[model].points[name]
    device.write(address(device, model, name), encode(point, value, device.models[model].exponent(point)))


def get(device: SunSpecDevice, model: int, name: str) -> float | None:
    point = device.models[model].points[name]
    words, _ = device.read(address(device, model, name), point.size)
    return decode(point, words, device.models[model].exponent(point))


@pytest.fixture
def now() -> Instant:
    return Instant(1_000_000.0)


@pytest.fixture
def bat1(now: Instant) -> Battery704:
    return Battery704(Battery(SPEC), "sn1", now, lambda: 50.0)


@pytest.fixture
def bat2(now: Instant) -> Battery124:
    return Battery124(Battery(SPEC), "sn2", now, lambda: 50.0)


@pytest.mark.parametrize(
    ("model", "length"), [(1, 66), (103, 50), (123, 24), (124, 24), (203, 105), (701, 153), (704, 65), (713, 7), (802, 62)]
)
def test_layouts_have_the_length_the_standard_gives(model: int, length: int) -> None:
    last = layout(model)[-1]
    assert last.offset + last.size - 2 == length


def test_the_chain_begins_with_suns_and_ends_with_ffff(bat1: Battery704) -> None:
    words, carried = bat1.read(BASE_ADDRESS, 4)
    assert words == [0x5375, 0x6E53, 1, 66]
    assert carried == {}
    words, _ = bat1.read(bat1._end - 2, 2)
    assert words == [0xFFFF, 0]
    with pytest.raises(ModbusRefusal, match="exception 2"):
        bat1.read(bat1._end - 1, 2)
    with pytest.raises(ModbusRefusal, match="exception 2"):
        bat1.read(BASE_ADDRESS - 1, 1)


def test_what_a_device_does_not_have_reads_not_implemented(bat1: Battery704) -> None:
    words, _ = bat1.read(address(bat1, 701, "TmpAmb"), 1)
    assert words == [0x8000]
    assert get(bat1, 704, "WMaxLimPctEna") is None
    words, _ = bat1.read(address(bat1, 701, "TotVarhInj"), 4)
    assert words == [0xFFFF] * 4


def test_704_counts_generation_positive_and_inside_charging_is_positive(bat1: Battery704) -> None:
    put(bat1, 704, "WSet", 30000)
    assert bat1.target_w() == 0, "not enabled yet"
    put(bat1, 704, "WSetEna", 1)
    assert bat1.target_w() == -30000
    bat1.battery.step(10, bat1.target_w())
    assert bat1.battery.p_w == -30000
    assert get(bat1, 701, "W") == 30000
    put(bat1, 704, "WSetMod", 0)
    put(bat1, 704, "WSetPct", -50)
    assert bat1.target_w() == 30000


def test_704_reverts_after_its_time_in_simulated_seconds(bat1: Battery704, now: Instant) -> None:
    put(bat1, 704, "WSetRvrtTms", 90)
    put(bat1, 704, "WSetEna", 1)
    put(bat1, 704, "WSet", 20000)
    now.seconds += 60
    assert get(bat1, 704, "WSetRvrtRem") == 30
    put(bat1, 704, "WSet", 25000)
    now.seconds += 60
    assert bat1.target_w() == -25000, "each write starts the timer over"
    now.seconds += 31
    assert bat1.target_w() == 0
    assert get(bat1, 704, "WSetEna") == 0
    assert get(bat1, 704, "WSetRvrtRem") == 0


def test_704_reverts_to_its_reversion_setpoint_when_told_so(bat1: Battery704, now: Instant) -> None:
    for name, value in (("WSetRvrt", -5000), ("WSetEnaRvrt", 1), ("WSetRvrtTms", 10), ("WSetEna", 1), ("WSet", 20000)):
        put(bat1, 704, name, value)
    now.seconds += 11
    assert bat1.target_w() == 5000


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [("WSet", 60001, 3), ("WSet", -60001, 3), ("WSetEna", 2, 3), ("WSetRvrtRem", 5, 2), ("WMaxLimPct", 50, 2), ("W_SF", 0, 2)],
)
def test_writes_out_of_range_or_to_read_only_points_are_refused_and_change_nothing(
    bat1: Battery704, name: str, value: float, code: int
) -> None:
    model = 701 if name == "W_SF" else 704
    before, _ = bat1.read(address(bat1, 704, "ID"), 67)
    with pytest.raises(ModbusRefusal, match=f"exception {code}"):
        put(bat1, model, name, value)
    assert bat1.read(address(bat1, 704, "ID"), 67)[0] == before


def test_half_a_32_bit_point_and_a_write_that_is_partly_wrong_are_refused_whole(bat1: Battery704) -> None:
    with pytest.raises(ModbusRefusal, match="exception 3"):
        bat1.write(address(bat1, 704, "WSet"), [0])
    with pytest.raises(ModbusRefusal, match="exception 3"):
        bat1.write(address(bat1, 704, "WSetEna"), [1, 7])
    assert get(bat1, 704, "WSetEna") == 0


def test_124_holds_power_in_its_window(bat2: Battery124) -> None:
    assert bat2.target_w() == 0
    put(bat2, 124, "OutWRte", 80)
    put(bat2, 124, "InWRte", -80)
    assert bat2.target_w() == 0, "no limit is active"
    put(bat2, 124, "StorCtl_Mod", 3)
    assert bat2.target_w() == -48000, "a negative charge rate makes it discharge"
    put(bat2, 124, "InWRte", 25)
    put(bat2, 124, "OutWRte", -25)
    assert bat2.target_w() == 15000
    put(bat2, 124, "OutWRte", 10)
    assert bat2.target_w() == 0, "inside the window it rests"
    put(bat2, 124, "WChaMax", 30000)
    put(bat2, 124, "OutWRte", -25)
    assert bat2.target_w() == 7500


def test_124_reverts_by_giving_up_its_limits(bat2: Battery124, now: Instant) -> None:
    for name, value in (("InOutWRte_RvrtTms", 30), ("InWRte", -50), ("OutWRte", 50), ("StorCtl_Mod", 3)):
        put(bat2, 124, name, value)
    now.seconds += 29
    assert bat2.target_w() == -30000
    now.seconds += 2
    assert bat2.target_w() == 0
    assert get(bat2, 124, "StorCtl_Mod") == 0


@given(steps=st.lists(st.tuples(st.floats(0.1, 600), st.floats(-90000, 90000)), min_size=1, max_size=40))
def test_a_battery_keeps_to_its_limits_and_never_makes_energy(steps: list[tuple[float, float]]) -> None:
    battery = Battery(SPEC)
    start = battery.soc_wh
    for seconds, target in steps:
        battery.step(seconds, target)
        assert abs(battery.p_w) <= battery.rating_w
        assert SPEC.soc_min_pct - 1e-6 <= battery.soc_pct <= SPEC.soc_max_pct + 1e-6
    expected = start + battery.absorbed_wh * SPEC.efficiency - battery.injected_wh / SPEC.efficiency
    assert battery.soc_wh == pytest.approx(expected, abs=1e-3)


def test_a_battery_takes_seconds_to_reach_its_setpoint() -> None:
    battery = Battery(SPEC)
    battery.step(1, -60000)
    assert battery.p_w == pytest.approx(-20000)
    battery.step(2, -60000)
    assert battery.p_w == pytest.approx(-60000)


def test_pv_704_limits_and_reverts(now: Instant) -> None:
    inverter = Pv704(Panel(PvSpec("pv1", 50.0)), "sn", now, lambda: 50.0)
    assert inverter.limit_w() == 50000
    for name, value in (("WMaxLimPctRvrtTms", 60), ("WMaxLimPct", 40), ("WMaxLimPctEna", 1)):
        put(inverter, 704, name, value)
    inverter.panel.step(3600, 35000, inverter.limit_w())
    assert get(inverter, 701, "W") == 20000
    assert get(inverter, 701, "TotWhInj") == 20000
    now.seconds += 61
    assert inverter.limit_w() == 50000


def test_pv_123_limits_disconnects_and_reverts_each_by_itself(now: Instant) -> None:
    inverter = Pv123(Panel(PvSpec("pv2", 30.0)), "sn", now, lambda: 50.0)
    for name, value in (("WMaxLimPct_RvrtTms", 60), ("WMaxLimPct", 50), ("WMaxLim_Ena", 1)):
        put(inverter, 123, name, value)
    assert inverter.limit_w() == 15000
    put(inverter, 123, "Conn_RvrtTms", 20)
    put(inverter, 123, "Conn", 0)
    assert inverter.limit_w() == 0
    now.seconds += 21
    assert inverter.limit_w() == 15000
    now.seconds += 40
    assert inverter.limit_w() == 30000


def test_the_busbar_meter_counts_import_positive_and_rounds_to_its_scale() -> None:
    meter = BusbarMeter("sn")
    meter.p_w, meter.q_var, meter.volt_ln, meter.imported_wh = 412_345.0, 61_000.0, 231.234, 1_234_567.0
    _, carried = meter.read(BASE_ADDRESS + 70, 107)
    assert carried["203.W"] == 412_300
    assert carried["203.VAR"] == 61_000
    assert carried["203.PhV"] == 231.23
    assert carried["203.TotWhImp"] == 1_234_567
    meter.p_w = -3600.0
    meter.step(10)
    assert meter.exported_wh == 10


def test_only_whole_points_count_as_transmitted(bat1: Battery704) -> None:
    bat1.battery.soc_wh = 75000
    start = address(bat1, 802, "SoC")
    assert bat1.read(start, 1)[1] == {"802.SoC": 50.0}
    energy = address(bat1, 701, "TotWhInj")
    assert "701.TotWhInj" not in bat1.read(energy, 3)[1]
    assert bat1.read(energy, 4)[1] == {"701.TotWhInj": 0.0}


@given(value=st.integers(-32767, 32767), exponent=st.integers(-3, 3))
def test_what_is_encoded_decodes_to_the_same(value: int, exponent: int) -> None:
    point = Point("x", "i16", 0, 1, "SF")
    number = value * 10.0**exponent
    assert decode(point, encode(point, number, exponent), exponent) == pytest.approx(number)


def test_a_number_out_of_reach_is_not_implemented_and_not_another_number() -> None:
    assert encode(Point("x", "i16", 0, 1, None), 40000, 0) == [0x8000]
    assert encode(Point("x", "u16", 0, 1, None), -1, 0) == [0xFFFF]
    assert encode(Point("x", "a32", 0, 2, None), 2**32 + 5, 0) == [0, 5], "accumulators roll over"


def contactor(now: Instant, unit: int) -> tuple[Contactor, list[tuple[int, bool, str]]]:
    moves: list[tuple[int, bool, str]] = []
    made = Contactor(SheddableSpec(unit, 3, 0.06), 37800.0, now, lambda *move: moves.append(move))
    made.step(0, 25000.4, 229.96)
    return made, moves


def test_a_contactor_reads_as_its_map_says(now: Instant) -> None:
    load, _ = contactor(now, 3)
    words, carried = load.read(4, 0, 5)
    assert words == [0, 25000, 2300, 0, 0]
    assert carried == {"p_w": 25000.0, "v_v": 230.0, "e_wh": 0.0}
    assert load.read(2, 0, 1) == ([1], {"closed": 1.0})
    assert load.read(1, 0, 1) == ([1], {})
    assert load.read(3, 0, 4)[0] == [1, 0, 3, 3780]
    load.write(5, 0, [0])
    assert load.read(4, 0, 2)[0] == [0, 0]


def test_the_off_timer_closes_an_odd_contactor_by_itself(now: Instant) -> None:
    load, moves = contactor(now, 3)
    load.write(6, 1, [300])
    load.write(5, 0, [0])
    now.seconds += 200
    load.write(5, 0, [0])
    now.seconds += 299
    assert load.read(2, 0, 1)[0] == [0], "the last write of the coil counts"
    now.seconds += 1
    assert load.read(2, 0, 1)[0] == [1]
    assert moves == [(3, False, "write"), (3, True, "off-timer")]


def test_an_even_contactor_is_latched_and_has_no_off_timer(now: Instant) -> None:
    load, _ = contactor(now, 4)
    with pytest.raises(ModbusRefusal, match="exception 2"):
        load.read(3, 1, 1)
    with pytest.raises(ModbusRefusal, match="exception 2"):
        load.write(6, 1, [300])
    load.write(5, 0, [0])
    now.seconds += 1_000_000
    assert load.read(2, 0, 1)[0] == [0]


@pytest.mark.parametrize(
    ("function", "place", "value", "code"), [(6, 1, 7201, 3), (6, 0, 0, 2), (6, 2, 1, 2), (5, 1, 1, 2), (6, 4, 1, 2)]
)
def test_contactors_refuse_what_is_not_theirs(now: Instant, function: int, place: int, value: int, code: int) -> None:
    load, _ = contactor(now, 3)
    with pytest.raises(ModbusRefusal, match=f"exception {code}"):
        load.write(function, place, [value])
