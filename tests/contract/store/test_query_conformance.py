"""What every store answers, run over every adapter of the table."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from tests.contract.store.samples import END, HARBOUR, LOAD, MILL, PV, T0, frame, reading
from tieline_cloud.store.ports import LedgerFrame, Store
from tieline_core.frame import ReadingBatch
from tieline_core.ids import PointId
from tieline_core.messages.telemetry import Event, IssuedForecast, Severity, Stream
from tieline_core.quantities import Quality
from tieline_core.timegrid import from_us, to_us


def test_absent_values_and_qualities_come_back_as_they_went_in(store: Store) -> None:
    store.grant_epoch(HARBOUR, T0)
    rows = [
        reading(LOAD, 0.0, 1),
        reading(LOAD, None, 2, Quality.BAD),
        reading(LOAD, 7.25, 3, Quality.STALE),
        reading(LOAD, -1e9, 4, Quality.SUBSTITUTED),
    ]
    store.commit([frame(1, *rows)])
    series = store.series(LOAD, T0, END)
    assert ReadingBatch((LOAD,), np.zeros(4, np.int32), series.at_us, series.values, series.quality).readings() == rows


def test_a_range_holds_its_start_and_not_its_end_and_is_sorted(store: Store) -> None:
    store.grant_epoch(HARBOUR, T0)
    store.commit([frame(1, reading(LOAD, 3.0, 3), reading(LOAD, 1.0, 1)), frame(2, reading(LOAD, 2.0, 2))])
    inside = store.series(LOAD, T0 + timedelta(seconds=1), T0 + timedelta(seconds=3))
    assert inside.values.tolist() == [1.0, 2.0]
    assert store.series(LOAD, T0, END, limit=1).values.tolist() == [1.0]
    nowhere = store.series(PointId("no/such/p_w"), T0, END)
    assert len(nowhere.at_us) == len(nowhere.values) == len(nowhere.quality) == 0


def test_means_take_good_readings_of_whole_intervals_only(store: Store) -> None:
    store.grant_epoch(HARBOUR, T0)
    rows = [
        reading(LOAD, 1.0, 0),
        reading(LOAD, 3.0, 59.999999),
        reading(LOAD, 100.0, 30, Quality.STALE),
        reading(LOAD, 200.0, 31, Quality.SUBSTITUTED),
        reading(LOAD, None, 32, Quality.BAD),
        reading(LOAD, 8.0, 120),
        reading(PV, -4.0, 61),
    ]
    store.commit([frame(1, *rows)])
    means = store.means([LOAD, PV, PointId("no/such/p_w")], T0, T0 + timedelta(seconds=180), 60)
    assert means[LOAD].values.tolist() == [2.0, 8.0]
    assert [from_us(int(at)) for at in means[LOAD].at_us] == [T0, T0 + timedelta(seconds=120)]
    assert means[PV].at_us.tolist() == [to_us(T0) + 60_000_000]
    assert means[PointId("no/such/p_w")].values.tolist() == []
    # The interval that starts before the span is left out whole, the one that starts inside is taken whole.
    off_grid = store.means([LOAD], T0 + timedelta(seconds=1), T0 + timedelta(seconds=121), 60)
    assert off_grid[LOAD].values.tolist() == [8.0]


def test_the_last_value_is_the_newest_measured_not_the_newest_arrived(store: Store) -> None:
    store.grant_epoch(HARBOUR, T0)
    store.commit([frame(1, reading(LOAD, 9.0, 9), reading(LOAD, 5.0, 5), reading(PV, None, 1, Quality.BAD))])
    store.commit([frame(2, reading(LOAD, 2.0, 2))])
    last = store.last()
    assert [(row.point, row.value, row.quality) for row in last] == [
        (PV, None, Quality.BAD),
        (LOAD, 9.0, Quality.GOOD),
    ]
    assert last[1].at == T0 + timedelta(seconds=9)
    assert [row.point for row in store.last([LOAD, PointId("no/such/p_w")])] == [LOAD]


def test_points_are_listed_by_edge_and_by_pattern(store: Store) -> None:
    store.grant_epoch(HARBOUR, T0)
    store.grant_epoch(MILL, T0)
    store.commit([frame(1, reading(LOAD, 1.0, 1), reading(PV, 1.0, 1))])
    store.commit([frame(1, reading(PointId("mill/site/load_w"), 1.0, 1), edge=MILL)])
    assert store.points() == [PV, LOAD, PointId("mill/site/load_w")]
    assert store.points(edge="harbour") == [PV, LOAD]
    assert store.points(like="*/site/load_w") == [LOAD, PointId("mill/site/load_w")]


def test_events_come_newest_first_and_once(store: Store) -> None:
    store.grant_epoch(HARBOUR, T0)
    events = [
        Event(
            event_id=f"event-{n:04d}",
            edge_id=HARBOUR if n else MILL,
            severity=Severity.ALARM,
            code="shed.thermal",
            text="load shed",
            at=T0 + timedelta(seconds=n),
            data={"w": 4.5},
        )
        for n in range(4)
    ]
    store.commit([LedgerFrame(HARBOUR, 1, Stream.ALARM, 1, 1, "d" * 64, T0, events=tuple(events[1:]))])
    store.record_events([events[0], events[1]])
    assert store.events() == events[::-1]
    assert store.events(edge="mill") == [events[0]]
    assert store.events(since=T0 + timedelta(seconds=1), until=T0 + timedelta(seconds=3)) == [events[2], events[1]]
    assert store.events(limit=1) == [events[3]]


def test_issued_forecasts_are_found_by_point_and_issue(store: Store) -> None:
    issues = [
        IssuedForecast(
            point=LOAD,
            model_id="ridge",
            issued_at=T0 + timedelta(hours=n),
            start=T0 + timedelta(hours=n),
            step_s=900,
            p10=(1.0,),
            p50=(2.0,),
            p90=(3.0,),
            lo90=(0.5,),
            hi90=(3.5,),
        )
        for n in range(3)
    ]
    store.grant_epoch(HARBOUR, T0)
    store.commit([LedgerFrame(HARBOUR, 1, Stream.BULK, 1, 1, "e" * 64, T0, forecasts=(issues[2], issues[0]))])
    store.record_forecasts([issues[1]])
    assert store.forecasts(LOAD, T0, END) == issues
    assert store.forecasts(LOAD, T0 + timedelta(hours=1), T0 + timedelta(hours=2)) == [issues[1]]
    assert store.forecasts(PV, T0, END) == []


def test_an_export_holds_all_readings_sorted_with_units_of_time_and_words_of_quality(store: Store, tmp_path: Path) -> None:
    store.grant_epoch(HARBOUR, T0)
    store.commit([frame(1, reading(LOAD, 2.0, 2), reading(PV, -1.5, 2), reading(PV, None, 1, Quality.BAD))])
    store.import_readings(ReadingBatch.of([reading(PointId("mill/site/load_w"), 4.0, 0)]), "x", T0)
    path = tmp_path / "out.parquet"
    assert store.export(path, T0, END) == 4
    assert pq.read_table(path).to_pylist() == [
        {"point": "harbour/pv1/p_w", "measured_at": T0 + timedelta(seconds=1), "value": None, "quality": "bad"},
        {"point": "harbour/pv1/p_w", "measured_at": T0 + timedelta(seconds=2), "value": -1.5, "quality": "good"},
        {"point": "harbour/site/load_w", "measured_at": T0 + timedelta(seconds=2), "value": 2.0, "quality": "good"},
        {"point": "mill/site/load_w", "measured_at": T0, "value": 4.0, "quality": "good"},
    ]
    assert store.export(path, T0, END, edge="mill") == 1
    assert store.export(path, T0 + timedelta(seconds=2), END) == 2
    assert store.export(path, END, END) == 0


def test_statistics_count_what_is_kept(store: Store) -> None:
    store.grant_epoch(HARBOUR, T0)
    store.commit([frame(1, reading(LOAD, 2.0, 2), reading(PV, -1.5, 2))])
    counted = store.statistics()
    assert (counted.points, counted.readings, counted.frames, counted.quarantined) == (2, 2, 1, 0)
