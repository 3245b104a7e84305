"""What a device shows, judged as somebody beside it would."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from tieline_core.ids import DeviceId, EdgeId, PointId
from tieline_core.quantities import Quality, Reading
from tieline_edge.commissioning.points_check import Mark, PointCheck, check_points, in_words, writable
from tieline_edge.drivers.capabilities import Capability, DeviceSpec, Role
from tieline_edge.drivers.catalog.load import entry
from tieline_edge.drivers.plausibility import Nominal

EDGE, DEVICE = EdgeId("harbour"), DeviceId("x1")
NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
LOAD = DeviceSpec(DEVICE, Role.LOAD, frozenset({Capability.SWITCH}), 4, 0.0, 10e3, off_timer=True, min_off_s=300.0)
BAT = DeviceSpec(DEVICE, Role.STORAGE, frozenset({Capability.HOLD_POWER}), None, -60e3, 60e3, 150e3, reverts=True)
PV = DeviceSpec(DEVICE, Role.PV, frozenset({Capability.LIMIT_GENERATION}), None, -50e3, 0.0, reverts=True)
METER = DeviceSpec(DEVICE, Role.METER, frozenset({Capability.MEASURE}))
SPECS = {
    "modbus-load-switch": LOAD,
    "sunspec-storage-704": BAT,
    "sunspec-pv-704": PV,
    "sunspec-meter-203": METER,
}


def readings(values: Mapping[str, float | None], at: datetime = NOW, quality: Quality = Quality.GOOD) -> dict[str, Reading]:
    return {
        name: Reading(PointId.of(EDGE, DEVICE, name), value, at, Quality.BAD if value is None else quality)
        for name, value in values.items()
    }


def look(
    catalog: str,
    second: Mapping[str, float | None],
    first: Mapping[str, float | None] | None = None,
    *,
    age_s: float = 0.0,
    quality: Quality = Quality.GOOD,
) -> dict[str, PointCheck]:
    spec = SPECS[catalog]
    at = NOW - timedelta(seconds=age_s)
    nominal = Nominal(230.0, None, max(abs(spec.p_min_w), abs(spec.p_max_w)))
    reads = (readings(second if first is None else first, at), readings(second, at, quality))
    return {check.quantity: check for check in check_points(entry(catalog), spec, nominal, reads, NOW)}


def test_a_healthy_load_is_all_ticks_and_told_in_words() -> None:
    shown = look("modbus-load-switch", {"p_w": 9000.0, "v_v": 230.1, "e_import_wh": 12345.0, "closed": 1.0})
    assert {check.mark for check in shown.values()} == {Mark.OK}
    assert shown["p_w"].words == "drawn from the grid"
    assert shown["closed"].words == "closed"
    assert (shown["v_v"].unit, shown["v_v"].age_s, shown["v_v"].quality) == ("V", 0.0, "good")


@pytest.mark.parametrize(
    ("catalog", "quantity", "value", "mark"),
    [
        ("modbus-load-switch", "v_v", 184.0, Mark.OK),
        ("modbus-load-switch", "v_v", 183.0, Mark.ODD),
        ("modbus-load-switch", "v_v", 2301.0, Mark.BAD),
        ("modbus-load-switch", "p_w", 10.4e3, Mark.OK),
        ("modbus-load-switch", "p_w", 11e3, Mark.ODD),
        ("modbus-load-switch", "p_w", -300.0, Mark.ODD),
        ("modbus-load-switch", "p_w", 9e6, Mark.BAD),
        ("sunspec-storage-704", "p_w", -59e3, Mark.OK),
        ("sunspec-storage-704", "p_w", -70e3, Mark.ODD),
        ("sunspec-storage-704", "soc_pct", 250.0, Mark.BAD),
        ("sunspec-pv-704", "p_w", -40e3, Mark.OK),
        ("sunspec-pv-704", "p_w", 500.0, Mark.OK),
        ("sunspec-pv-704", "p_w", 20e3, Mark.ODD),
        ("sunspec-meter-203", "f_hz", 49.9, Mark.OK),
        ("sunspec-meter-203", "f_hz", 30.0, Mark.BAD),
    ],
)
def test_what_cannot_be_is_marked(catalog: str, quantity: str, value: float, mark: Mark) -> None:
    shown = look(catalog, {quantity: value})[quantity]
    assert shown.mark is mark, shown
    assert bool(shown.reason) == (mark is not Mark.OK)


def test_a_counter_against_the_power_or_backwards_is_odd() -> None:
    fed = {"p_w": 5e3, "e_import_wh": 100.0, "e_export_wh": 50.0}
    assert look("sunspec-meter-203", {**fed, "e_import_wh": 102.0}, fed)["e_import_wh"].mark is Mark.OK
    turned = look("sunspec-meter-203", {**fed, "e_export_wh": 52.0}, fed)["e_export_wh"]
    assert turned.mark is Mark.ODD
    assert "orientation" in turned.reason
    back = look("sunspec-meter-203", {**fed, "e_import_wh": 90.0}, fed)["e_import_wh"]
    assert "backwards by 10 Wh" in back.reason
    giving = {"p_w": -5e3, "e_import_wh": 100.0, "e_export_wh": 50.0}
    assert look("sunspec-meter-203", {**giving, "e_import_wh": 101.0}, giving)["e_import_wh"].mark is Mark.ODD


def test_absent_bad_old_and_doubtful_values_say_so() -> None:
    assert look("modbus-load-switch", {"p_w": 9e3})["v_v"].reason == "the device has not implemented it"
    assert look("modbus-load-switch", {"p_w": None})["p_w"].mark is Mark.BAD
    assert "clock" in look("modbus-load-switch", {"p_w": 9e3}, age_s=3600.0)["p_w"].reason
    assert "uncertain" in look("modbus-load-switch", {"p_w": 9e3}, quality=Quality.UNCERTAIN)["p_w"].reason


def test_signs_are_said_as_the_field_says_them() -> None:
    assert in_words("p_w", 1.0, BAT) == "charging: drawn from the grid"
    assert in_words("p_w", -1.0, BAT) == "discharging: delivered to the grid"
    assert in_words("p_w", -1.0, PV) == "generating: delivered to the grid"
    assert in_words("p_w", 0.0, PV) == "no power flows"
    assert in_words("q_var", -1.0, PV).startswith("capacitive")
    assert in_words("closed", 0.0, LOAD) == "open"


def test_what_can_be_asked_of_a_device_comes_with_its_range() -> None:
    assert "60000 W delivered to 60000 W drawn" in writable(BAT)[0]
    assert "at most 0 to 50000 W" in writable(PV)[0]
    assert "at least 300 s open" in writable(LOAD)[0]
    assert writable(METER) == ("nothing: it only measures",)
