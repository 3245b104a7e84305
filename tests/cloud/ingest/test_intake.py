"""The door: limits before parsing, turns, and PUBACK in order."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from tests.cloud.ingest.test_rates import Seconds
from tieline_cloud.ingest.connection import Inbound
from tieline_cloud.ingest.counters import DurableCounters
from tieline_cloud.ingest.intake import Intake, announced_readings, sender_of
from tieline_cloud.ingest.rates import Rate
from tieline_cloud.ingest.settings import BrokerAddress, EdgeRates, IngestSettings
from tieline_core import topics
from tieline_core.frame import Frame, encode, encode_readings
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import FrameKind, Stream
from tieline_core.quantities import Reading

BASE = IngestSettings(BrokerAddress("127.0.0.1", 1, insecure=True), commit_after_s=0.0)


def message(edge: str, mid: int, payload: bytes = b"x") -> Inbound:
    return Inbound(topics.frame(edge, "measure"), payload, False, 1, mid, 1)


def hello(edge: str, mid: int) -> Inbound:
    return Inbound(topics.hello(edge), b"{}", False, 1, mid, 1)


def door(rates: EdgeRates | None = None, **bounds: int) -> tuple[Intake, DurableCounters, Seconds]:
    seconds, counters = Seconds(), DurableCounters()
    settings = replace(BASE, rates=rates or EdgeRates(), **bounds)  # type: ignore[arg-type]  # bounds are its integer fields
    return Intake(settings, counters, seconds), counters, seconds


def test_an_edge_that_is_too_fast_is_turned_away_and_others_are_not() -> None:
    intake, counters, seconds = door(EdgeRates(frames=Rate(1.0, 2.0)))
    assert [intake.offer(message("loud", n)) for n in range(4)] == [True, True, False, False]
    assert intake.offer(message("calm", 9))
    seconds.now_s = 1.0
    assert intake.offer(message("loud", 5))
    assert counters.turned_away["frame_rate"] == 2


def test_bytes_count_before_anything_is_parsed() -> None:
    intake, counters, _ = door(EdgeRates(bytes=Rate(10.0, 100.0)))
    assert intake.offer(message("loud", 1, b"x" * 90))
    assert not intake.offer(message("loud", 2, b"x" * 20))
    assert counters.turned_away["byte_rate"] == 1


def test_a_flood_of_hellos_stays_outside_and_frames_pass() -> None:
    intake, counters, _ = door(EdgeRates(hellos=Rate(1.0, 3.0)))
    assert sum(intake.offer(hello("loud", n)) for n in range(500)) == 3
    assert intake.offer(message("loud", 1000))
    assert counters.turned_away["hello_rate"] == 497


def test_one_edge_holds_no_more_than_its_share_of_the_queue() -> None:
    intake, counters, _ = door(max_pending=10, max_pending_per_edge=4)
    assert sum(intake.offer(message("loud", n)) for n in range(50)) == 4
    assert all(intake.offer(message(f"calm-{n}", 100 + n)) for n in range(6))
    assert counters.turned_away["queue"] == 46
    assert counters.pending == 10


def test_what_was_turned_away_is_acknowledged_behind_what_came_before_it() -> None:
    intake, _, _ = door(EdgeRates(frames=Rate(1.0, 1.0)))
    intake.offer(message("a", 1))
    intake.offer(message("a", 2))  # turned away
    intake.offer(message("b", 3))
    assert intake.acknowledgeable() == []
    batch = intake.gather()
    intake.settle([receipt for receipt in batch if receipt.message.mid == 3])
    assert intake.acknowledgeable() == []
    intake.settle(batch)
    assert [ready.mid for ready in intake.acknowledgeable()] == [1, 2, 3]


@given(st.lists(st.sampled_from("abc"), max_size=40))
def test_pubacks_go_out_in_the_order_of_arrival_whatever_the_turns_were(edges: list[str]) -> None:
    intake, _, _ = door(commit_frames=3, max_pending_per_edge=5)
    for mid, edge in enumerate(edges):
        intake.offer(message(edge, mid))
    acknowledged: list[int] = []
    while len(acknowledged) < len(edges):
        intake.settle(intake.gather())
        acknowledged += [ready.mid for ready in intake.acknowledgeable()]
    assert acknowledged == list(range(len(edges)))


def test_a_commit_is_bounded_by_the_readings_its_frames_announce() -> None:
    intake, _, _ = door(commit_readings=3000)
    at = datetime(2026, 1, 15, tzinfo=UTC)
    body = encode_readings([Reading(PointId("harbour/m1/p_w"), float(n), at) for n in range(1000)])
    payload = encode(Frame(EdgeId("harbour"), 1, Stream.MEASURE, 1, FrameKind.READINGS, body))
    assert announced_readings(payload) == 1000
    for mid in range(20):
        intake.offer(message(f"edge-{mid}", mid, payload))
    assert len(intake.gather()) == 3


@given(st.binary(max_size=80), st.text(max_size=40))
def test_sizing_up_a_message_never_fails(payload: bytes, topic: str) -> None:
    assert announced_readings(payload) >= 0
    assert isinstance(sender_of(topic), str)
