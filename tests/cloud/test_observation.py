"""What the hub knows now: the ledger and the live lane, whichever is newer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tieline_cloud.observation import newest_readings, newest_values
from tieline_cloud.store.ports import LastValue
from tieline_core.ids import PointId
from tieline_core.quantities import Quality

AT = datetime(2016, 12, 14, 17, tzinfo=UTC)
POINT, OTHER = PointId("harbour/tr1/p_w"), PointId("mill/tr1/p_w")


def value(number: float | None, after_s: float, point: PointId = POINT, quality: Quality = Quality.GOOD) -> LastValue:
    return LastValue(point, number, AT + timedelta(seconds=after_s), quality)


@pytest.mark.parametrize(
    ("stored", "live", "expected"),
    [
        pytest.param([value(1.0, 0)], [value(2.0, 60)], 2.0, id="a_backlog_is_draining"),
        pytest.param([value(1.0, 60)], [value(2.0, 0)], 1.0, id="the_live_lane_is_behind"),
        pytest.param([value(1.0, 0)], [], 1.0, id="only_stored"),
        pytest.param([], [value(2.0, 0)], 2.0, id="only_live"),
    ],
)
def test_the_newer_of_both_lanes_is_shown(stored: list[LastValue], live: list[LastValue], expected: float) -> None:
    assert newest_values(stored, live)[POINT].value == expected


def test_each_point_is_judged_by_itself() -> None:
    newest = newest_values([value(1.0, 0), value(3.0, 9, OTHER)], [value(2.0, 5)])
    assert {point: row.value for point, row in newest.items()} == {POINT: 2.0, OTHER: 3.0}


def test_a_value_that_contradicts_its_quality_is_no_reading() -> None:
    assert newest_readings([value(None, 0), value(5.0, 0, OTHER, Quality.STALE)], []) == {}
