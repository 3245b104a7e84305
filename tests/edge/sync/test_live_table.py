"""What the live lane says when devices come and go while it runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tieline_core.ids import DeviceId, PointId
from tieline_core.quantities import Quality, Reading
from tieline_edge.sync.live_state import LiveTable, LiveView

NOW = datetime(2016, 12, 7, 16, tzinfo=UTC)
BAT, LOAD = DeviceId("bat1"), DeviceId("load01")


def view(*devices: DeviceId) -> LiveView:
    points = [PointId(f"harbour/{device}/p_w") for device in devices]
    return LiveView({point: Reading(point, 1.0, NOW, Quality.GOOD) for point in points}, dict.fromkeys(devices, "load"))


def said(table: LiveTable, seen: LiveView, second: int) -> list[tuple[str, DeviceId | None]]:
    return [(one.kind, one.device) for one in table.changes(seen, NOW + timedelta(seconds=second))]


def test_a_device_that_joins_is_born_and_one_that_leaves_dies_once() -> None:
    table = LiveTable(timedelta(minutes=5))
    assert [(one.kind, one.device) for one in table.births(view(BAT), 1, NOW)] == [("NBIRTH", None), ("DBIRTH", BAT)]
    assert said(table, view(BAT, LOAD), 1) == [("DBIRTH", LOAD)]
    assert said(table, view(LOAD), 2) == [("DDEATH", BAT)]
    assert said(table, view(LOAD), 3) == []
    assert said(table, view(BAT, LOAD), 4) == [("DBIRTH", BAT)]
