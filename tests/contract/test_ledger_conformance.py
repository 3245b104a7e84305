"""What every store promises, run over every adapter of the table."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tieline_cloud.store.adapters import ADAPTERS, open_store
from tieline_cloud.store.ports import LedgerFrame, RefusedBody, Store, Verdict
from tieline_core.errors import BadInputError
from tieline_core.frame import ReadingBatch
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Event, IssuedForecast, Severity, Skip, SkipReason, Stream
from tieline_core.quantities import Quality, Reading
from tieline_core.timegrid import from_us, to_us

T0 = datetime(2026, 1, 15, 12, tzinfo=UTC)
HARBOUR, MILL = EdgeId("harbour"), EdgeId("mill")
LOAD, PV = PointId("harbour/site/load_w"), PointId("harbour/pv1/p_w")
END = T0 + timedelta(days=1)


@pytest.fixture(params=sorted(ADAPTERS))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres")
    else:
        url = {"duckdb": f"duckdb:{tmp_path}/hub.duckdb", "memory": "memory:"}[request.param]
    with open_store(url) as opened:
        yield opened


def reading(point: PointId, value: float | None, second: float, quality: Quality = Quality.GOOD) -> Reading:
    return Reading(point, value, T0 + timedelta(seconds=second), quality)


def frame(seq: int, *readings: Reading, epoch: int = 1, edge: EdgeId = HARBOUR, text: str | None = None) -> LedgerFrame:
    content = text if text is not None else f"{edge}/{seq}/{readings}"
    return LedgerFrame(
        edge,
        epoch,
        Stream.MEASURE,
        seq,
        seq,
        hashlib.sha256(content.encode()).hexdigest(),
        T0,
        ReadingBatch.of(readings) if readings else None,
    )


def values(store: Store, point: PointId = LOAD) -> list[float]:
    return [float(value) for value in store.series(point, T0 - timedelta(days=1), END).values]


def test_an_edge_that_was_never_seen_has_no_watermarks_and_its_frames_are_foreign(store: Store) -> None:
    assert store.watermarks(HARBOUR) == {}
    outcome = store.commit([frame(1, reading(LOAD, 5.0, 0))])
    assert outcome.verdicts == (Verdict.FOREIGN,)
    assert outcome.watermarks == {}
    assert values(store) == []


def test_data_and_watermark_move_together(store: Store) -> None:
    assert store.grant_epoch(HARBOUR, T0) == 1
    outcome = store.commit([frame(1, reading(LOAD, 5.0, 0)), frame(2, reading(LOAD, 6.0, 1), reading(PV, -2.5, 1))])
    assert outcome.verdicts == (Verdict.ACCEPTED, Verdict.ACCEPTED)
    assert outcome.rows == 3
    assert outcome.watermarks[HARBOUR, Stream.MEASURE].seq == 2
    assert store.watermarks(HARBOUR)[Stream.MEASURE] == outcome.watermarks[HARBOUR, Stream.MEASURE]
    assert store.watermarks(HARBOUR)[Stream.ALARM].seq == 0
    assert values(store) == [5.0, 6.0]


def test_a_frame_that_comes_again_is_a_duplicate_and_one_too_far_is_a_gap(store: Store) -> None:
    store.grant_epoch(HARBOUR, T0)
    one, two, three = (frame(seq, reading(LOAD, float(seq), seq)) for seq in (1, 2, 3))
    assert store.commit([one, three, one, two, three]).verdicts == (
        Verdict.ACCEPTED,
        Verdict.GAP,
        Verdict.DUPLICATE,
        Verdict.ACCEPTED,
        Verdict.ACCEPTED,
    )
    assert store.commit([two]).verdicts == (Verdict.DUPLICATE,)
    assert values(store) == [1.0, 2.0, 3.0]


def test_another_content_under_a_committed_label_is_a_conflict(store: Store) -> None:
    store.grant_epoch(HARBOUR, T0)
    store.commit([frame(1, reading(LOAD, 1.0, 1))])
    assert store.commit([frame(1, reading(LOAD, 99.0, 1))]).verdicts == (Verdict.CONFLICT,)
    assert values(store) == [1.0]


def test_a_new_epoch_starts_at_zero_and_content_already_held_is_not_stored_twice(store: Store) -> None:
    store.grant_epoch(HARBOUR, T0)
    store.commit([frame(seq, reading(LOAD, float(seq), seq), text=f"body {seq}") for seq in (1, 2)])
    assert store.grant_epoch(HARBOUR, T0) == 2
    assert store.watermarks(HARBOUR)[Stream.MEASURE].seq == 0
    again = [
        frame(1, reading(LOAD, 2.0, 2), epoch=2, text="body 2"),
        frame(2, reading(LOAD, 3.0, 3), epoch=2, text="body 3"),
    ]
    assert store.commit(again).verdicts == (Verdict.REPEATED, Verdict.ACCEPTED)
    assert store.commit([frame(3, reading(LOAD, 7.0, 7))]).verdicts == (Verdict.FOREIGN,)
    assert values(store) == [1.0, 2.0, 3.0]
    assert store.watermarks(HARBOUR)[Stream.MEASURE].seq == 2


def test_the_same_content_of_another_edge_is_its_own(store: Store) -> None:
    store.grant_epoch(HARBOUR, T0)
    store.grant_epoch(MILL, T0)
    mine = frame(1, reading(LOAD, 1.0, 1), text="same")
    other = frame(1, reading(PointId("mill/site/load_w"), 1.0, 1), text="same", edge=MILL)
    assert store.commit([mine, other]).verdicts == (Verdict.ACCEPTED, Verdict.ACCEPTED)


def test_an_epoch_is_above_every_epoch_the_edge_claims(store: Store) -> None:
    assert store.grant_epoch(HARBOUR, T0, above=7) == 8
    assert store.grant_epoch(HARBOUR, T0) == 9


def test_a_committed_frame_can_be_asked_for_by_its_label(store: Store) -> None:
    store.grant_epoch(HARBOUR, T0)
    one = frame(1, reading(LOAD, 1.0, 1))
    store.commit([one])
    assert store.frame_sha256(HARBOUR, Stream.MEASURE, 1, 1) == one.sha256
    assert store.frame_sha256(HARBOUR, Stream.MEASURE, 2, 1) is None
    assert store.frame_sha256(HARBOUR, Stream.ALARM, 1, 1) is None


def test_a_skip_moves_the_watermark_over_what_is_gone_and_is_kept(store: Store) -> None:
    store.grant_epoch(HARBOUR, T0)
    skip = Skip(first=1, last=4, reason=SkipReason.EVICTED, readings=900)
    gone = LedgerFrame(HARBOUR, 1, Stream.MEASURE, 1, 4, "a" * 64, T0, skip=skip)
    five = frame(5, reading(LOAD, 5.0, 5))
    assert store.commit([gone, five]).verdicts == (Verdict.ACCEPTED, Verdict.ACCEPTED)
    assert store.skips() == [skip]
    assert store.skips("mill") == []
    late = LedgerFrame(HARBOUR, 1, Stream.MEASURE, 5, 5, "b" * 64, T0, skip=Skip(first=5, last=5, reason="evicted", readings=1))
    assert store.commit([late]).verdicts == (Verdict.DUPLICATE,)
    assert values(store) == [5.0]


def test_a_refused_body_goes_to_quarantine_and_the_stream_goes_on(store: Store) -> None:
    store.grant_epoch(HARBOUR, T0)
    refused = RefusedBody("tieline/v1/harbour/up/frame/measure", b"\x00" * 10, "zstd: bad magic")
    outcome = store.commit([LedgerFrame(HARBOUR, 1, Stream.MEASURE, 1, 1, "c" * 64, T0, refused=refused)])
    assert outcome.watermarks[HARBOUR, Stream.MEASURE].seq == 1
    store.quarantine("mill", "x/y", b"123", "no frame", T0 + timedelta(seconds=1))
    assert [(row.edge, row.size, row.reason) for row in store.quarantined()] == [
        ("mill", 3, "no frame"),
        ("harbour", 10, "zstd: bad magic"),
    ]
    assert store.quarantined(limit=1)[0].at == T0 + timedelta(seconds=1)


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


def test_an_import_stores_each_point_and_instant_once(store: Store) -> None:
    rows = [reading(LOAD, float(n), n) for n in range(5)]
    assert store.import_readings(ReadingBatch.of(rows), "a.parquet", T0) == 5
    assert store.import_readings(ReadingBatch.of([*rows[3:], reading(LOAD, 7.0, 7), reading(LOAD, 8.0, 7)]), "b", T0) == 1
    assert store.import_readings(ReadingBatch.of(rows), "a.parquet", T0) == 0
    assert store.import_readings(ReadingBatch.of([reading(PV, -1.0, 3)]), "c", T0) == 1
    assert values(store)[:5] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert len(values(store)) == 6
    assert store.statistics().readings == 7


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


def test_documents_are_replaced_by_kind_and_key(store: Store) -> None:
    store.put_document("fleet", "mill", b"{}", T0)
    store.put_document("fleet", "harbour", b"\x00\xff", T0)
    store.put_document("fleet", "mill", b"[]", T0)
    store.put_document("plan", "mill", b"1", T0)
    assert store.documents("fleet") == {"harbour": b"\x00\xff", "mill": b"[]"}
    assert store.documents("nothing") == {}


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


@pytest.mark.parametrize("url", ["oracle:/x", "hub.duckdb", "duckdb:"])
def test_a_url_that_names_no_store_is_refused_with_the_known_ones(url: str) -> None:
    with pytest.raises(BadInputError, match="url"):
        open_store(url)
