"""Laws of the examiner, against the slow judge that goes row by row."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cloud.quality.arrivals import arrival
from tests.cloud.quality.row_by_row import Row, RowByRow
from tieline_cloud.quality.examiner import RuleExaminer
from tieline_cloud.quality.rule_table import RuleTable
from tieline_cloud.quality.rules import MeasurementClass
from tieline_cloud.store.ports import Examined
from tieline_core.quantities import Quality

NAMES = {0: "a/m1/v_v", 1: "a/m1/e_import_wh", 2: "a/m2/f_hz", 3: "a/m2/other", 7: "b/m1/e_import_wh", 2500: "b/m1/v_v"}
CLASSES: list[dict[str, Any]] = [
    {
        "name": "voltage",
        "quantities": ["v_v"],
        "maximum": 40.0,
        "negative": False,
        "spike": {"step": 4.0, "share_pct": 10.0, "per_second": 0.5},
        "stuck": {"longer_than_s": 5, "zero_may_stay": True},
        "gap": {"periods": 2, "at_least_s": 3},
    },
    {
        "name": "frequency",
        "quantities": ["f_hz"],
        "spike": {"step": 2.0},
        "gap": {"periods": 3, "at_least_s": 1, "period_s": 2},
    },
    {
        "name": "small_register",
        "quantities": ["e_import_wh"],
        "points": ["b/*"],
        "counter": {"modulus_wh": 32.0, "reset_below_wh": 2.0, "largest_w": 7200.0, "tolerance_wh": 1.0},
        "stuck": {"longer_than_s": 4},
    },
    {"name": "register", "quantities": ["e_import_wh"], "counter": {"reset_below_wh": 3.0, "largest_w": 3600.0}},
    {"name": "other", "quantities": ["*"], "future_s": 2, "past_days": 1},
]
TABLE = RuleTable([MeasurementClass.model_validate(row) for row in CLASSES])
NOW_US = 1_700_000_000_000_000
SECOND_US = 1_000_000

values = st.one_of(
    st.integers(-2, 45).map(float), st.sampled_from([0.0, -0.0, 10.0, 10.5, 30.0, math.nan, 1e308, -1e308, math.inf, 5e-324])
)
instants = st.one_of(st.integers(0, 40), st.integers(0, 40), st.sampled_from([-(10**7), 10**7]))
readings = st.builds(
    lambda point, second, value, quality: Row(
        point, NOW_US + second * SECOND_US, value, Quality.BAD if math.isnan(value) else quality, NOW_US + 20 * SECOND_US
    ),
    st.sampled_from(list(NAMES)),
    instants,
    values,
    st.sampled_from([Quality.GOOD, Quality.GOOD, Quality.GOOD, Quality.GOOD, Quality.UNCERTAIN, Quality.STALE]),
)


def found(examined: Examined) -> list[tuple[int, str]]:
    """Findings as pairs of row and rule."""
    return list(zip(examined.findings.rows.tolist(), examined.findings.rules, strict=True))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(readings, max_size=40), max_size=4))
def test_arrivals_in_any_order_are_judged_as_row_by_row(arrivals: list[list[Row]]) -> None:
    examiner, judge = RuleExaminer(TABLE), RowByRow(TABLE, NAMES)
    for rows in arrivals:
        examined, expected = examiner.examine(arrival(rows, NAMES)), judge.examine(rows)
        assert sorted(found(examined)) == expected.found
        assert examined.quality.tolist() == [expected.quality[index] for index in range(len(rows))]
        assert set(np.flatnonzero(~examined.dated).tolist()) == expected.misdated
        examiner.settle(examined)


@st.composite
def streams(draw: st.DrawFn) -> list[Row]:
    """Readings of a few points, each in the order of time, interleaved."""
    rows = []
    for point in NAMES:
        seconds = sorted(draw(st.lists(st.integers(0, 60), max_size=30, unique=True)))
        numbers = draw(st.lists(st.sampled_from([0.0, 1.0, 10.0, 10.0, 11.0, 30.0, 31.0]), min_size=30, max_size=30))
        at = [NOW_US + second * SECOND_US for second in seconds]
        rows += [Row(point, us, number, Quality.GOOD, us) for us, number in zip(at, numbers, strict=False)]
    return sorted(rows, key=lambda row: row.at_us)


@settings(max_examples=200, deadline=None)
@given(streams(), st.lists(st.integers(0, 180), max_size=8))
def test_findings_do_not_depend_on_how_a_stream_is_cut_into_arrivals(rows: list[Row], cuts: list[int]) -> None:
    whole = RuleExaminer(TABLE).examine(arrival(rows, NAMES))
    examiner, parts, qualities = RuleExaminer(TABLE), [], []
    borders = sorted({0, len(rows), *(min(cut, len(rows)) for cut in cuts)})
    for start, end in pairwise(borders):
        examined = examiner.examine(arrival(rows[start:end], NAMES))
        examiner.settle(examined)
        parts += [(row + start, rule) for row, rule in found(examined)]
        qualities += examined.quality.tolist()
    assert parts == found(whole)
    assert qualities == whole.quality.tolist()
    expected = RowByRow(TABLE, NAMES).examine(rows)
    assert expected.found == sorted(parts)
    assert [expected.quality[index] for index in range(len(rows))] == qualities


@settings(max_examples=100, deadline=None)
@given(st.lists(readings, max_size=30), st.lists(readings, max_size=30), st.lists(readings, max_size=30))
def test_an_arrival_that_was_rolled_back_leaves_no_trace(first: list[Row], lost: list[Row], then: list[Row]) -> None:
    touched, untouched = RuleExaminer(TABLE), RuleExaminer(TABLE)
    for examiner in (touched, untouched):
        examiner.settle(examiner.examine(arrival(first, NAMES)))
    others = dict.fromkeys(NAMES, NAMES[7])  # numbers are given anew after a rollback
    touched.examine(arrival(lost, others))
    after, expected = touched.examine(arrival(then, NAMES)), untouched.examine(arrival(then, NAMES))
    assert found(after) == found(expected)
    assert after.quality.tolist() == expected.quality.tolist()
    assert touched.counts() == untouched.counts()


@settings(max_examples=100, deadline=None)
@given(st.lists(readings, max_size=60))
def test_findings_never_change_a_number_but_take_an_impossible_one_out(rows: list[Row]) -> None:
    given_rows = arrival(rows, NAMES)
    received, quality = given_rows.values.copy(), given_rows.quality.copy()
    examined = RuleExaminer(TABLE).examine(given_rows)
    np.testing.assert_array_equal(given_rows.values, received)
    np.testing.assert_array_equal(given_rows.quality, quality)
    taken_out = np.zeros(len(rows), np.bool_)
    taken_out[[row for row, rule in found(examined) if rule in ("impossible", "negative")]] = True
    np.testing.assert_array_equal(examined.values[~taken_out], received[~taken_out])
    assert np.isnan(examined.values[taken_out]).all()
    assert (examined.quality[taken_out] == Quality.BAD).all()


@settings(max_examples=100, deadline=None)
@given(streams(), streams())
def test_a_backlog_older_than_what_is_known_changes_nothing_of_what_follows(older: list[Row], rows: list[Row]) -> None:
    half = len(rows) // 2
    newest = {row.point: row.at_us for row in rows[:half]}
    backlog = [
        Row(row.point, newest[row.point] - (60 - (row.at_us - NOW_US) // SECOND_US) * SECOND_US, row.value, 0, NOW_US)
        for row in older
        if row.point in newest
    ]
    plain, drained = RuleExaminer(TABLE), RuleExaminer(TABLE)
    for examiner in (plain, drained):
        examiner.settle(examiner.examine(arrival(rows[:half], NAMES)))
    drained.settle(drained.examine(arrival(backlog, NAMES)))
    tail = arrival(rows[half:], NAMES)
    assert found(plain.examine(tail)) == found(drained.examine(tail))
