"""What every store promises of what it takes in, run over every adapter of the table."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.contract.store.samples import HARBOUR, LOAD, MILL, PV, T0, frame, reading, values
from tieline_cloud.store.adapters import open_store
from tieline_cloud.store.ports import Greeting, LedgerFrame, RefusedBody, Store, Verdict
from tieline_core.errors import BadInputError
from tieline_core.frame import ReadingBatch
from tieline_core.ids import PointId
from tieline_core.messages.telemetry import Event, Severity, Skip, SkipReason, Stream


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


def test_greetings_of_many_edges_leave_epochs_documents_and_events(store: Store) -> None:
    store.grant_epoch(HARBOUR, T0)
    event = Event(event_id="hub-0001", edge_id=MILL, severity=Severity.ALARM, code="lane.new_epoch", text="why", at=T0)
    stays = Greeting(HARBOUR, None, {"hello": b"one"})
    comes = Greeting(MILL, 6, {"hello": b"two", "restored": b"three"}, (event,))
    assert store.greet([stays, comes], T0) == (None, 7)
    assert store.watermarks(HARBOUR)[Stream.MEASURE].epoch == 1
    assert {stream: (mark.epoch, mark.seq) for stream, mark in store.watermarks(MILL).items()} == dict.fromkeys(Stream, (7, 0))
    assert store.documents("hello") == {HARBOUR: b"one", MILL: b"two"}
    assert store.documents("restored") == {MILL: b"three"}
    assert [one.event_id for one in store.events()] == ["hub-0001"]
    assert store.greet([Greeting(MILL, 0, {"hello": b"four"})], T0) == (8,)
    assert store.documents("hello")[MILL] == b"four"
    assert store.greet([], T0) == ()


def test_points_are_counted_by_edge_and_unknown_ones_are_named(store: Store) -> None:
    store.grant_epoch(HARBOUR, T0)
    batch = ReadingBatch.of([reading(LOAD, 1.0, 0), reading(PV, 1.0, 0)])
    assert set(store.unknown_points([batch, batch])) == {LOAD, PV}
    assert store.points_of(HARBOUR) == 0
    store.commit([frame(1, reading(LOAD, 1.0, 0))])
    assert store.unknown_points([batch]) == [PV]
    assert (store.points_of(HARBOUR), store.points_of(MILL)) == (1, 0)


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


def test_an_import_stores_each_point_and_instant_once(store: Store) -> None:
    rows = [reading(LOAD, float(n), n) for n in range(5)]
    assert store.import_readings(ReadingBatch.of(rows), "a.parquet", T0) == 5
    assert store.import_readings(ReadingBatch.of([*rows[3:], reading(LOAD, 7.0, 7), reading(LOAD, 8.0, 7)]), "b", T0) == 1
    assert store.import_readings(ReadingBatch.of(rows), "a.parquet", T0) == 0
    assert store.import_readings(ReadingBatch.of([reading(PV, -1.0, 3)]), "c", T0) == 1
    assert values(store)[:5] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert len(values(store)) == 6
    assert store.statistics().readings == 7


def test_documents_are_replaced_by_kind_and_key(store: Store) -> None:
    store.put_document("fleet", "mill", b"{}", T0)
    store.put_document("fleet", "harbour", b"\x00\xff", T0)
    store.put_document("fleet", "mill", b"[]", T0)
    store.put_document("plan", "mill", b"1", T0)
    assert store.documents("fleet") == {"harbour": b"\x00\xff", "mill": b"[]"}
    assert store.documents("nothing") == {}


@pytest.mark.parametrize("url", ["oracle:/x", "hub.duckdb", "duckdb:"])
def test_a_url_that_names_no_store_is_refused_with_the_known_ones(url: str) -> None:
    with pytest.raises(BadInputError, match="url"):
        open_store(url)
