"""What the registry learns, what it forgets, and what it says about it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tieline_cloud.fleet.registry import FleetRegistry, read_reported
from tieline_cloud.fleet.views import EdgeStatus
from tieline_core.clock import ManualClock
from tieline_core.errors import BadInputError
from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.desired import LadderStep, Reported
from tieline_core.messages.telemetry import Hello

T0 = datetime(2026, 1, 15, tzinfo=UTC)
HARBOUR, MILL = EdgeId("harbour"), EdgeId("mill")
TR1 = DeviceId("tr1")


class Kept:
    """Documents as a store would keep them."""

    def __init__(self) -> None:
        self.documents: dict[str, bytes] = {}
        self.writes = 0

    def __call__(self, edge: str, body: bytes, at: datetime) -> None:
        self.documents[edge] = body
        self.writes += 1


def hello(nonce: str = "n" * 16) -> Hello:
    return Hello(edge_id=HARBOUR, epoch=0, boot_id="b", nonce=nonce, streams={}, software="1.2", at=T0)


def reported(ladder: LadderStep = LadderStep.CURRENT_PLAN, at: datetime = T0) -> Reported:
    return Reported(
        edge_id=HARBOUR, at=at, software="1.2", boot_id="b", monitor_only=False, ladder=ladder, ladder_reason="as planned"
    )


def test_an_edge_is_online_on_the_durable_lane_until_it_is_silent() -> None:
    clock = ManualClock(T0)
    wall_s = 100.0
    changes: list[bool] = []
    fleet = FleetRegistry(clock, silence_s=60.0, monotonic=lambda: wall_s)
    fleet.on_change(lambda status: changes.append(status.online_durable))
    fleet.hello(hello(), 3)
    status = fleet.edge(HARBOUR)
    assert status is not None
    assert (status.online_durable, status.epoch, status.nonce, status.software) == (True, 3, "n" * 16, "1.2")
    fleet.review()
    wall_s = 161.0
    assert [edge.online_durable for edge in fleet.edges()] == [False]
    changes.clear()
    fleet.review()
    fleet.review()
    assert changes == [False]
    clock.step((T0 + timedelta(seconds=5) - clock.now()).total_seconds())
    fleet.durable_heard(HARBOUR)
    assert changes == [False, True]
    assert [(edge.online_durable, edge.last_heard) for edge in fleet.edges()] == [(True, clock.now())]


def test_a_death_on_the_live_lane_makes_the_durable_one_prove_itself() -> None:
    fleet = FleetRegistry(ManualClock(T0))
    fleet.node_born(HARBOUR, T0)
    fleet.durable_heard(HARBOUR)
    fleet.node_died(HARBOUR)
    assert [(edge.online_live, edge.online_durable) for edge in fleet.edges()] == [(False, False)]
    fleet.durable_heard(HARBOUR)
    assert [(edge.online_live, edge.online_durable) for edge in fleet.edges()] == [(False, True)]


def test_when_the_hub_loses_its_broker_every_edge_has_to_be_heard_again() -> None:
    changes: list[EdgeStatus] = []
    fleet = FleetRegistry(ManualClock(T0))
    fleet.hello(hello(), 1)
    fleet.on_change(changes.append)
    fleet.durable_lost()
    assert [(change.edge_id, change.online_durable) for change in changes] == [(HARBOUR, False)]


def test_births_make_devices_and_a_death_takes_them_offline_but_keeps_them() -> None:
    fleet = FleetRegistry(ManualClock(T0))
    fleet.node_born(HARBOUR, T0)
    fleet.device_born(HARBOUR, TR1, ["p_w", "v_v"], T0)
    fleet.device_born(MILL, TR1, ["p_w"], T0)
    assert [(d.edge_id, d.online, d.metrics) for d in fleet.devices()] == [
        (HARBOUR, True, ("p_w", "v_v")),
        (MILL, True, ("p_w",)),
    ]
    fleet.device_died(HARBOUR, TR1)
    assert [device.online for device in fleet.devices(HARBOUR)] == [False]
    fleet.device_born(HARBOUR, TR1, ["p_w", "v_v"], T0)
    fleet.node_died(HARBOUR)
    assert [device.online for device in fleet.devices(HARBOUR)] == [False]
    assert [device.online for device in fleet.devices(MILL)] == [True]
    harbour = fleet.edge(HARBOUR)
    assert harbour is not None
    assert not harbour.online_live


def test_a_retained_report_says_how_an_edge_stood_and_not_that_it_is_there() -> None:
    fleet = FleetRegistry(ManualClock(T0))
    fleet.reported(reported(), retained=True)
    status = fleet.edge(HARBOUR)
    assert status is not None
    assert (status.online_durable, status.last_heard, status.reported) == (False, None, reported())
    fleet.reported(reported(LadderStep.LAST_PLAN, T0 + timedelta(seconds=1)))
    fleet.reported(reported(at=T0))
    status = fleet.edge(HARBOUR)
    assert status is not None
    assert status.reported is not None
    assert (status.online_durable, status.reported.ladder) == (True, LadderStep.LAST_PLAN)


def test_listeners_hear_of_changes_and_not_of_repetitions() -> None:
    changes: list[EdgeStatus] = []
    fleet = FleetRegistry(ManualClock(T0))
    fleet.on_change(changes.append)
    fleet.reported(reported())
    heard = len(changes)
    assert heard >= 1
    fleet.reported(reported())
    fleet.durable_heard(HARBOUR)
    assert len(changes) == heard
    fleet.reported(reported(LadderStep.DEVICE_DEFAULT))
    assert changes[-1].reported == reported(LadderStep.DEVICE_DEFAULT)


def test_what_was_learned_outlasts_the_hub_and_presence_does_not() -> None:
    kept = Kept()
    fleet = FleetRegistry(ManualClock(T0), keep=kept)
    fleet.hello(hello(), 4)
    fleet.node_born(HARBOUR, T0)
    fleet.device_born(HARBOUR, TR1, ["p_w"], T0, role="transformer")
    fleet.reported(reported())
    again = FleetRegistry(ManualClock(T0), kept.documents)
    status = again.edge(HARBOUR)
    assert status is not None
    assert (status.epoch, status.nonce, status.reported) == (4, "n" * 16, reported())
    assert (status.online_durable, status.online_live) == (False, False)
    devices = [(device.device_id, device.online, device.metrics, device.role) for device in again.devices()]
    assert devices == [(TR1, False, ("p_w",), "transformer")]


def test_being_heard_a_thousand_times_writes_little() -> None:
    kept = Kept()
    clock = ManualClock(T0)
    fleet = FleetRegistry(clock, keep=kept)
    for second in range(120):
        clock.step((T0 + timedelta(seconds=second) - clock.now()).total_seconds())
        fleet.durable_heard(HARBOUR)
    assert kept.writes == 2


def test_a_report_has_to_come_on_its_own_topic_and_within_its_limits() -> None:
    body = reported().to_bytes()
    assert read_reported("t", body, HARBOUR) == reported()
    with pytest.raises(BadInputError, match="came on the topic of 'mill'"):
        read_reported("t", body, MILL)
    with pytest.raises(BadInputError, match="at most"):
        read_reported("t", b" " * 300_000, HARBOUR)
    with pytest.raises(BadInputError, match="ladder"):
        read_reported("t", body.replace(b'"ladder":0', b'"ladder":9'), HARBOUR)


def test_a_third_party_is_known_before_it_speaks_and_after_a_restart() -> None:
    kept: dict[str, bytes] = {}
    fleet = FleetRegistry(ManualClock(T0), keep=lambda edge, body, _at: kept.update({edge: body}))
    fleet.admit(EdgeId("plant-press"), "plant/press")
    fleet.node_born(EdgeId("plant-press"), T0)
    fleet.device_born(EdgeId("plant-press"), TR1, ["p_w"], T0)
    fleet.keep_births()
    again = FleetRegistry(ManualClock(T0), kept)
    (edge,) = again.edges()
    assert (edge.third_party, edge.online_live, [d.device_id for d in again.devices()]) == ("plant/press", False, ["tr1"])


async def test_what_has_died_says_since_when_and_only_the_first_death_counts() -> None:
    clock = ManualClock(T0)
    fleet = FleetRegistry(clock)
    fleet.node_born(EdgeId("harbour"), T0)
    fleet.device_born(EdgeId("harbour"), TR1, ["p_w"], T0)
    fleet.device_died(EdgeId("harbour"), DeviceId("tr1"))
    await clock.advance(60)
    for _ in range(2):
        fleet.node_died(EdgeId("harbour"))
        await clock.advance(60)
    (edge,), (device,) = fleet.edges(), fleet.devices()
    assert (edge.offline_since, device.offline_since) == (T0 + timedelta(seconds=60), T0)
    fleet.node_born(EdgeId("harbour"), T0)
    assert fleet.edges()[0].offline_since is None


def test_a_thousand_births_are_kept_as_one_document() -> None:
    kept = Kept()
    fleet = FleetRegistry(ManualClock(T0), keep=kept)
    for number in range(1000):
        fleet.device_born(HARBOUR, DeviceId(f"m{number}"), ["p_w"], T0)
    before = kept.writes
    fleet.review()
    fleet.review()
    assert kept.writes == before + 1
    assert len(FleetRegistry(ManualClock(T0), kept.documents).devices(HARBOUR)) == 1000
