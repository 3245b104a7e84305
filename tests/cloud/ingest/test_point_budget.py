"""One edge cannot fill the hub's memory with points it makes up."""

from __future__ import annotations

from dataclasses import replace

from tests.cloud.ingest.test_greeter import ROOMY, Bench, CountingStore
from tests.cloud.ingest.test_ledger_thread import EDGE, T0, hello
from tieline_cloud.ingest.connection import Inbound
from tieline_cloud.store.ports import Verdict
from tieline_core import topics
from tieline_core.frame import Frame, encode, encode_readings
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import FrameKind, Stream
from tieline_core.quantities import Reading


def naming(seq: int, *points: str, edge: EdgeId = EDGE) -> Inbound:
    body = encode_readings([Reading(PointId(f"{edge}/{point}/p_w"), float(seq), T0) for point in points])
    payload = encode(Frame(edge, 1, Stream.MEASURE, seq, FrameKind.READINGS, body))
    return Inbound(topics.frame(edge, "measure"), payload, False, 1, seq, 1)


def test_a_frame_above_the_budget_goes_to_quarantine_with_the_reason_and_the_stream_goes_on() -> None:
    store = CountingStore()
    bench = Bench(store, replace(ROOMY, max_points_per_edge=3))
    bench.take(hello(), naming(1, "m1", "m2"), naming(2, "m2", "m3"), naming(3, "m3", "m4"), naming(4, "m1"))
    assert bench.thread.counters.frames[Verdict.ACCEPTED] == 4
    assert store.watermarks(EDGE)[Stream.MEASURE].seq == 4
    assert [point.device for point in store.points()] == ["m1", "m2", "m3"]
    (kept,) = store.quarantined()
    assert "max_points_per_edge" in kept.reason
    assert kept.size > 0
    bench.take(naming(5, "m5"), naming(6, "m3"))
    assert store.points_of(EDGE) == 3
    assert len(store.quarantined()) == 2


def test_the_budget_of_one_edge_is_none_of_another() -> None:
    store, other = CountingStore(), EdgeId("mill")
    bench = Bench(store, replace(ROOMY, max_points_per_edge=1))
    bench.take(hello(), hello(edge=other), naming(1, "m1"), naming(1, "m1", edge=other))
    assert (store.points_of(EDGE), store.points_of(other)) == (1, 1)
    assert store.quarantined() == []
