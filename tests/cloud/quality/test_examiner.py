"""Each rule of data quality by example, with the delivered table and with own rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from tests.cloud.quality.arrivals import arrival
from tests.cloud.quality.row_by_row import Row
from tieline_cloud.quality.examiner import RuleExaminer
from tieline_cloud.quality.rule_table import RuleTable
from tieline_cloud.quality.rules import MeasurementClass, Rule, load_rules
from tieline_cloud.store.ports import Examined, LastValue
from tieline_core.ids import PointId
from tieline_core.quantities import Quality
from tieline_core.timegrid import to_us

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
POINT = {0: "harbour/m01/v_v"}


def table(**rule: Any) -> RuleTable:
    """One class for everything."""
    return RuleTable([MeasurementClass.model_validate({"name": "all", "quantities": ["*"], **rule})])


def series(values: list[float], step_s: float = 60, start: datetime = NOW) -> list[Row]:
    """Readings of point 0, received a second after they were measured."""
    at = [to_us(start + timedelta(seconds=step_s * index)) for index in range(len(values))]
    return [Row(0, us, value, Quality.GOOD, us + 1_000_000) for us, value in zip(at, values, strict=True)]


def judged(rules: RuleTable, rows: list[Row], names: dict[int, str] | None = None) -> Examined:
    return RuleExaminer(rules).examine(arrival(rows, names or POINT))


def told(examined: Examined) -> list[tuple[int, str]]:
    return list(zip(examined.findings.rows.tolist(), examined.findings.rules, strict=True))


@pytest.mark.parametrize(
    ("at", "rule"),
    [
        (NOW + timedelta(seconds=301), "future"),
        (datetime(2150, 1, 1, tzinfo=UTC), "future"),
        (datetime(1970, 1, 1, tzinfo=UTC), "past"),
        (datetime(1999, 12, 31, 23, 59, tzinfo=UTC), "past"),
        (NOW - timedelta(days=367), "past"),
    ],
)
def test_an_instant_that_cannot_be_believed_is_set_apart(at: datetime, rule: str) -> None:
    row = Row(0, to_us(at), 230.0, Quality.GOOD, to_us(NOW))
    examined = judged(RuleTable(load_rules()), [row, *series([230.0])])
    assert told(examined) == [(0, rule)]
    assert examined.dated.tolist() == [False, True]


@pytest.mark.parametrize("at", [NOW + timedelta(seconds=299), NOW - timedelta(days=365)])
def test_tolerated_skew_and_a_long_backlog_are_believed(at: datetime) -> None:
    examined = judged(RuleTable(load_rules()), [Row(0, to_us(at), 230.0, Quality.GOOD, to_us(NOW))])
    assert told(examined) == []
    assert examined.dated.all()


def test_no_clock_however_wrong_makes_a_difference_of_instants_overflow() -> None:
    extremes = [np.iinfo(np.int64).min, np.iinfo(np.int64).max]
    examined = judged(RuleTable(load_rules()), [Row(0, at, 230.0, Quality.GOOD, to_us(NOW)) for at in extremes])
    assert told(examined) == [(0, "past"), (1, "future")]


@pytest.mark.parametrize(("value", "rule"), [(-0.5, "negative"), (2e6, "impossible"), (math.inf, "impossible")])
def test_a_number_that_cannot_be_is_bad_and_stays_in_the_finding_only(value: float, rule: str) -> None:
    rows = series([230.0, value, 231.0])
    examined = judged(RuleTable(load_rules()), rows)
    assert told(examined) == [(1, rule)]
    assert examined.quality.tolist() == [Quality.GOOD, Quality.BAD, Quality.GOOD]
    assert np.isnan(examined.values).tolist() == [False, True, False]


def test_a_number_whose_sums_are_none_is_impossible_in_every_class() -> None:
    table = RuleTable((MeasurementClass(name="everything", quantities=("*",)),))
    assert told(judged(table, series([1.0, 1.7e308, -1.7e308, 1e99]))) == [(1, "impossible"), (2, "impossible")]


def test_minus_zero_and_denormal_numbers_are_numbers() -> None:
    assert told(judged(RuleTable(load_rules()), series([-0.0, 5e-324, 0.0]))) == []


@pytest.mark.parametrize(
    ("values", "spikes"),
    [
        ([50, 50, 90, 50, 50], [2]),
        ([50, 50, 90, 90, 90, 90], [2]),
        ([50, 90, 10, 50, 50], [1, 2]),
        ([50, 90, 50, 90, 50], [1, 3]),
        ([50, 52, 54, 52, 50], []),
    ],
)
def test_a_spike_is_found_and_a_step_is_believed_from_its_second_reading_on(values: list[float], spikes: list[int]) -> None:
    examined = judged(table(spike={"step": 5, "share_pct": 5}), series(values))
    assert told(examined) == [(row, "spike") for row in spikes]
    assert np.flatnonzero(examined.quality == Quality.UNCERTAIN).tolist() == spikes
    assert examined.values.tolist() == values


def test_a_jump_has_to_pass_the_absolute_the_relative_and_the_rate_limit() -> None:
    rules = table(spike={"step": 5, "share_pct": 20, "per_second": 0.5})
    assert told(judged(rules, series([100, 115], step_s=1))) == []
    assert told(judged(rules, series([100, 125], step_s=1))) == [(1, "spike")]
    assert told(judged(rules, series([100, 125], step_s=60))) == []
    assert judged(rules, series([100, 125], step_s=1)).findings.limits.tolist() == [20.0]


def test_a_stuck_number_is_uncertain_after_its_time_and_told_once_in_that_time() -> None:
    examined = judged(table(stuck={"longer_than_s": 300}), series([7.0] * 16 + [8.0]))
    assert told(examined) == [(6, "stuck"), (11, "stuck")]
    assert np.flatnonzero(examined.quality == Quality.UNCERTAIN).tolist() == list(range(6, 16))


def test_zero_may_stay_where_the_class_says_so() -> None:
    outage = series([230.0, 0.0, *[0.0] * 20])
    assert told(judged(table(stuck={"longer_than_s": 300, "zero_may_stay": True}), outage)) == []
    assert told(judged(table(stuck={"longer_than_s": 300}), outage))[0] == (7, "stuck")


def test_a_gap_is_told_at_the_first_reading_after_it() -> None:
    rows = series([1, 2, 3, 4]) + series([5, 6], start=NOW + timedelta(minutes=30))
    examined = judged(table(gap={"periods": 3, "at_least_s": 120}), rows)
    assert told(examined) == [(4, "gap")]
    assert examined.findings.limits.tolist() == [180.0]
    assert (examined.quality == Quality.GOOD).all()


def test_a_slower_period_is_a_gap_twice_and_then_usual() -> None:
    rows = series([1, 2, 3, 4, 5]) + series([6, 7, 8, 9, 10], step_s=900, start=NOW + timedelta(minutes=20))
    assert told(judged(table(gap={"periods": 3, "at_least_s": 120}), rows)) == [(5, "gap"), (6, "gap")]


COUNTER = {"modulus_wh": 1e8, "reset_below_wh": 1000, "largest_w": 1e6, "tolerance_wh": 1}


@pytest.mark.parametrize(
    ("values", "rules"),
    [
        ([99_999_900, 99_999_990, 80, 170], [(2, "rollover")]),
        ([5_000_000, 5_000_090, 40, 130], [(2, "reset")]),
        ([5_000_000, 5_000_090, 731_000, 731_090], [(2, "exchange")]),
        ([5_000_000, 5_000_090, 9_000_000, 9_000_090], [(2, "exchange")]),
        ([5_000_000, 4_999_999, 5_000_100, 5_000_100], []),
    ],
)
def test_a_counter_rolls_over_is_reset_or_exchanged(values: list[float], rules: list[tuple[int, str]]) -> None:
    examined = judged(table(counter=COUNTER), series(values))
    assert told(examined) == rules
    assert examined.values.tolist() == values
    doubted = [row for row, rule in rules if rule == "exchange"]
    assert np.flatnonzero(examined.quality == Quality.UNCERTAIN).tolist() == doubted


def test_readings_that_came_uncertain_or_bad_neither_judge_nor_are_judged_in_sequence() -> None:
    rows = series([50, 90, 51, math.nan, 52])
    rows[1].quality, rows[3].quality = Quality.UNCERTAIN, Quality.BAD
    examined = judged(table(spike={"step": 5}), rows)
    assert told(examined) == []
    assert examined.quality.tolist() == [0, Quality.UNCERTAIN, 0, Quality.BAD, 0]


def test_state_is_restored_from_good_last_values_only() -> None:
    def last(point: str, value: float | None, quality: Quality) -> LastValue:
        return LastValue(PointId(point), value, NOW, quality)

    names = {0: "a/m1/f_hz", 1: "a/m2/f_hz", 2: "a/m3/f_hz"}
    numbers = {PointId(name): number for number, name in names.items()}
    examiner = RuleExaminer(table(spike={"step": 5}))
    held = [
        last("a/m1/f_hz", 50.0, Quality.GOOD),
        last("a/m2/f_hz", 50.0, Quality.UNCERTAIN),
        last("a/m3/f_hz", None, Quality.BAD),
    ]
    examiner.restore([*held, last("a/gone/f_hz", 1.0, Quality.GOOD)], numbers.get)
    at = to_us(NOW) + 1_000_000
    examined = examiner.examine(arrival([Row(number, at, 90.0, Quality.GOOD, at) for number in names], names))
    assert told(examined) == [(0, "spike")]


def test_only_what_is_durable_is_counted() -> None:
    examiner = RuleExaminer(table(maximum=100))
    examined = examiner.examine(arrival(series([1, 200, 3]), POINT))
    assert examiner.counts() == (0, dict.fromkeys(Rule, 0))
    examiner.settle(examined)
    assert examiner.counts()[0] == 3
    assert examiner.counts()[1][Rule.IMPOSSIBLE] == 1


def test_settling_something_else_is_refused() -> None:
    empty = judged(table(), [])
    with pytest.raises(TypeError, match="examine of this examiner"):
        RuleExaminer(table()).settle(Examined(empty.values, empty.quality, empty.dated, empty.findings, "state"))


#: What a field does honestly: crisis steps of a feeder, a contactor that opens, a PV ramp, a surge of load, a dead bus.
HONEST: dict[str, Callable[[int], float]] = {
    "harbour/tr1/p_w": lambda n: 779_115.0 if n > 50 else 137_689.3,
    "harbour/load01/p_w": lambda n: 0.0 if 20 < n < 90 else 30_511.0,
    "harbour/load01/closed": lambda n: 0.0 if 20 < n < 90 else 1.0,
    "harbour/load01/v_v": lambda n: 0.0 if 60 < n < 70 else 230.0 + math.sin(n),
    "harbour/pv1/p_w": lambda n: -50_000.0 * max(0.0, math.sin(n / 30)),
    "harbour/tr1/i_a": lambda n: 1152.7 if n > 50 else 197.8,
    "harbour/tr1/f_hz": lambda n: 49.2 if n == 51 else 50.0 + 0.01 * math.sin(n),
    "harbour/bat1/soc_pct": lambda n: 100.0 if n > 30 else 65.0,
    "harbour/tr1/oil_temp_degc": lambda n: 39.0 + n / 10,
    "harbour/load01/e_import_wh": lambda n: 100.0 + 930.0 * n,
    "harbour/pv1/e_export_wh": lambda _: 0.0,
}


@pytest.mark.parametrize("step_s", [1, 60, 900])
def test_the_delivered_rules_find_nothing_in_what_a_field_does_honestly(step_s: int) -> None:
    names = dict(enumerate(HONEST))
    rows = [
        Row(number, at, HONEST[point](index), Quality.GOOD, at + 500_000)
        for index in range(120)
        for number, point in names.items()
        for at in [to_us(NOW) + index * step_s * 1_000_000 + number]
    ]
    assert told(judged(RuleTable(load_rules()), rows, names)) == []
