"""Examination on arrival, deliveries by key, digests, replay and estimates, run over every adapter of the table."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from tests.contract.store.samples import END, HARBOUR, LOAD, MILL, PV, T0, frame, reading, values
from tieline_cloud.store.adapters import open_store
from tieline_cloud.store.ports import (
    Arrival,
    Estimate,
    Examined,
    Finding,
    Findings,
    Ingested,
    LastValue,
    LedgerFrame,
    Misdated,
    Store,
    Verdict,
)
from tieline_core.frame import ReadingBatch
from tieline_core.ids import PointId
from tieline_core.messages.telemetry import Event, Severity, Skip, Stream
from tieline_core.quantities import Quality, Reading
from tieline_core.reconcile import by_hour
from tieline_core.timegrid import from_us, to_us

SPIKE_W, MINUTE = 1000.0, timedelta(minutes=1)


class Warden:
    """An examiner that finds numbers above 1 kW and does not believe instants ahead of their reception."""

    def __init__(self) -> None:
        self.restored: list[LastValue] = []
        self.named: list[PointId] = []
        self.settled: list[object] = []
        self.number: Callable[[PointId], int | None] = lambda _point: None

    def restore(self, last: Sequence[LastValue], number: Callable[[PointId], int | None]) -> None:
        self.restored, self.number = list(last), number

    def examine(self, arrival: Arrival) -> Examined:
        self.named = [arrival.name(int(number)) for number in arrival.numbers]
        spike, future = arrival.values > SPIKE_W, arrival.at_us > arrival.received_us
        rows = np.concatenate([np.flatnonzero(spike), np.flatnonzero(future)])
        order = np.argsort(rows, kind="stable")
        rules = ["spike"] * int(spike.sum()) + ["future"] * int(future.sum())
        findings = Findings(
            rows[order],
            tuple(rules[n] for n in order),
            np.array([SPIKE_W if rules[n] == "spike" else np.nan for n in order]),
        )
        values = np.where(spike, np.nan, arrival.values)
        quality = np.where(spike, np.uint8(Quality.BAD), arrival.quality).astype(np.uint8)
        return Examined(values, quality, ~future, findings, state=len(self.named))

    def settle(self, examined: Examined) -> None:
        self.settled.append(examined.state)


ROWS = (reading(LOAD, 500.0, -60), reading(LOAD, 5000.0, -30), reading(PV, -1.0, 3600), reading(PV, 2000.0, 7200))


@pytest.mark.parametrize("door", ["frame", "delivery"])
def test_what_an_examiner_finds_is_stored_with_the_number_received(store_url: str, door: str) -> None:
    warden = Warden()
    with open_store(store_url, warden) as store:
        if door == "frame":
            store.grant_epoch(HARBOUR, T0)
            outcome = store.commit([frame(1, *ROWS[:2]), frame(2, *ROWS[2:])])
            assert (outcome.rows, outcome.verdicts) == (2, (Verdict.ACCEPTED, Verdict.ACCEPTED))
        else:
            assert store.ingest_once(ReadingBatch.of(ROWS), "head-end", "1", "a" * 64, T0) == (Ingested.STORED, 2)
        assert warden.named == [LOAD, LOAD, PV, PV]
        assert warden.settled == [4]
        series = store.series(LOAD, T0 - timedelta(days=1), END)
        assert np.array_equal(series.values, [500.0, np.nan], equal_nan=True)
        assert series.quality.tolist() == [Quality.GOOD, Quality.BAD]
        assert values(store, PV) == []
        found = Finding(LOAD, T0 - timedelta(seconds=30), T0, "spike", 5000.0, SPIKE_W)
        assert store.findings(None, None, T0 - timedelta(hours=1), END, 10) == [found]
        aside = [
            Misdated(PV, T0 + timedelta(hours=2), T0, 2000.0, Quality.GOOD, "spike"),
            Misdated(PV, T0 + timedelta(hours=1), T0, -1.0, Quality.GOOD, "future"),
        ]
        assert store.misdated(None, 10) == aside
        assert store.misdated("*/pv1/*", 1) == aside[:1]
        assert store.misdated("*/site/*", 10) == []
        assert [row.point for row in store.last()] == [LOAD]
        counted = store.statistics()
        assert (counted.readings, counted.findings, counted.misdated) == (2, 1, 2)


def test_findings_are_asked_for_by_point_rule_and_span(store_url: str) -> None:
    with open_store(store_url, Warden()) as store:
        store.grant_epoch(HARBOUR, T0)
        rows = [reading(point, 2000.0 + second, second - 100) for point in (LOAD, PV) for second in range(3)]
        store.commit([frame(1, *rows)])
        assert [row.value for row in store.findings(None, "spike", T0 - MINUTE * 5, T0, 3)] == [2002.0, 2002.0, 2001.0]
        assert [row.point for row in store.findings("harbour/pv1/*", None, T0 - MINUTE * 5, T0, 9)] == [PV] * 3
        assert store.findings(None, "stuck", T0 - MINUTE * 5, T0, 9) == []
        assert store.findings(None, None, T0, END, 9) == []


def test_a_commit_that_is_not_taken_is_not_examined(store_url: str) -> None:
    warden = Warden()
    with open_store(store_url, warden) as store:
        store.grant_epoch(HARBOUR, T0)
        store.commit([frame(1, *ROWS[:1])])
        store.commit([frame(1, *ROWS[:1]), frame(3, *ROWS[:1])])
        assert warden.settled == [1]
        # History from outside was examined by whoever metered it.
        store.import_readings(ReadingBatch.of(ROWS[1:2]), "old.csv", T0)
        assert warden.settled == [1]
        assert values(store) == [500.0, 5000.0]


def test_an_examiner_begins_with_the_last_values(store_url: str) -> None:
    with open_store(store_url) as store:
        store.grant_epoch(HARBOUR, T0)
        store.commit([frame(1, *ROWS[:2])])
    warden = Warden()
    with open_store(store_url, warden) as store:
        assert warden.restored == store.last()
        assert warden.number(LOAD) == (None if store_url == "memory:" else 0)
        assert warden.number(PV) is None


def test_a_delivery_is_stored_once_by_its_source_and_key(store: Store) -> None:
    batch = ReadingBatch.of([reading(LOAD, 1.0, 1), reading(LOAD, 2.0, 2)])
    assert store.ingest_once(batch, "head-end", "day-1", "a" * 64, T0) == (Ingested.STORED, 2)
    assert store.ingest_once(batch, "head-end", "day-1", "a" * 64, T0) == (Ingested.REPEATED, 0)
    assert store.ingest_once(batch, "head-end", "day-1", "b" * 64, T0) == (Ingested.CONFLICT, 0)
    assert store.ingest_once(ReadingBatch.of([]), "other", "day-1", "c" * 64, T0) == (Ingested.STORED, 0)
    assert values(store) == [1.0, 2.0]


def test_the_newest_estimate_counts_and_readings_stay_as_they_are(store: Store) -> None:
    store.grant_epoch(HARBOUR, T0)
    store.commit([frame(1, reading(LOAD, 1.0, 1))])
    first = [Estimate(LOAD, T0 + n * MINUTE, 10.0 + n, "linear") for n in range(3)]
    better = Estimate(LOAD, T0 + MINUTE, 99.0, "like_day")
    store.record_estimates([*first, Estimate(PV, T0, -3.0, "linear")], T0)
    store.record_estimates([better], T0)
    store.record_estimates([], T0)
    assert store.estimates(LOAD, T0, END) == [first[0], better, first[2]]
    assert store.estimates(LOAD, T0 + MINUTE, T0 + 2 * MINUTE) == [better]
    assert store.estimates(PV, T0, END) == [Estimate(PV, T0, -3.0, "linear")]
    assert store.estimates(PointId("no/such/p_w"), T0, END) == []
    assert values(store) == [1.0]
    assert [row.point for row in store.last()] == [LOAD]


def test_frames_are_counted_and_hashed_by_the_hour_of_their_oldest_instant(store: Store) -> None:
    store.grant_epoch(HARBOUR, T0)
    hour = timedelta(hours=1)
    rows = [
        frame(1, reading(LOAD, 1.0, 3600), reading(LOAD, 1.0, -1)),
        frame(2, reading(LOAD, 2.0, 5)),
        frame(3, reading(LOAD, 3.0, 7)),
    ]
    event = Event(event_id="event-0001", edge_id=HARBOUR, severity=Severity.ALARM, code="a.bc", text="x", at=T0 + hour)
    alarm = LedgerFrame(HARBOUR, 1, Stream.ALARM, 1, 1, "d" * 64, T0, events=(event,))
    skip = LedgerFrame(HARBOUR, 1, Stream.MEASURE, 4, 4, "e" * 64, T0, skip=Skip(first=4, last=4, reason="evicted", readings=1))
    store.commit([*rows, alarm, skip])
    store.grant_epoch(HARBOUR, T0)
    store.commit([replace(rows[2], epoch=2, first_seq=1, seq=1)])
    oldest = [(to_us(T0) - 1_000_000, 2), (to_us(T0) + 5_000_000, 1), (to_us(T0) + 7_000_000, 1)]
    expected = by_hour((us, row.sha256, count) for row, (us, count) in zip(rows, oldest, strict=True))
    assert [(row.frames, row.readings) for row in expected] == [(1, 2), (2, 2)]
    assert store.frame_digests(HARBOUR, Stream.MEASURE, T0 - hour, END) == expected
    assert store.frame_digests(HARBOUR, Stream.MEASURE, T0 + MINUTE, T0 + 2 * MINUTE) == expected[1:]
    assert [(row.frames, row.readings) for row in store.frame_digests(HARBOUR, Stream.ALARM, T0, END)] == [(1, 0)]
    assert store.frame_digests(MILL, Stream.MEASURE, T0, END) == []


def test_held_content_is_recognised_however_far_apart_its_hours_lie(store: Store) -> None:
    store.grant_epoch(HARBOUR, T0)
    rows = [frame(n + 1, reading(LOAD, float(n), -n * 86_400.0)) for n in range(30)]
    gone = LedgerFrame(
        HARBOUR, 1, Stream.MEASURE, 31, 31, "f" * 64, T0, skip=Skip(first=31, last=31, reason="evicted", readings=1)
    )
    assert set(store.commit([*rows, gone]).verdicts) == {Verdict.ACCEPTED}
    again = [replace(row, first_seq=32 + n, seq=32 + n) for n, row in enumerate([*rows[::-1], gone])]
    assert set(store.commit(again).verdicts) == {Verdict.REPEATED}
    assert store.statistics().readings == 30
    assert len(store.skips()) == 1


def test_readings_are_replayed_in_the_order_they_were_stored(store: Store) -> None:
    store.grant_epoch(HARBOUR, T0)
    assert store.replay(0, 100)[1].readings() == []
    one = [reading(LOAD, 1.0, 50), reading(PV, None, 1, Quality.BAD)]
    two, three, four = [reading(LOAD, 2.0, 2)], [reading(PV, 3.0, 3)], [reading(PV, 4.0, 4)]
    store.commit([frame(1, *one)])
    store.import_readings(ReadingBatch.of(two), "a", T0)
    store.ingest_once(ReadingBatch.of(three), "b", "k", hashlib.sha256(b"").hexdigest(), T0)
    store.commit([frame(2, *four)])
    position, batch = store.replay(0, 1)
    assert sorted(batch.readings(), key=lambda row: row.point) == sorted(one, key=lambda row: row.point)
    reached, batch = store.replay(position, 2)
    assert batch.readings() == [*two, *three]
    end, batch = store.replay(reached, 10)
    assert batch.readings() == four
    assert store.replay(end, 10)[0] == end
    assert len(store.replay(end, 10)[1]) == 0
    whole: list[Reading] = store.replay(0, 1000)[1].readings()
    assert len(whole) == 5
    assert from_us(int(store.replay(0, 1)[1].at_us.max())) == T0 + timedelta(seconds=50)
