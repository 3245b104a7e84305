"""Names of others as ids of ours, and what becomes of their values when the ledger is busy."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline_cloud.ingest.counters import LiveCounters
from tieline_cloud.ingest.third_party import ForeignNames, ThirdPartyHistory, admitted_nodes, id_part
from tieline_cloud.store.adapters import open_store
from tieline_cloud.store.ports import Ingested, LastValue, Store
from tieline_core.clock import ManualClock
from tieline_core.errors import TransientError
from tieline_core.frame import ReadingBatch
from tieline_core.ids import EdgeId, PointId
from tieline_core.quantities import Quality

T0 = datetime(2026, 1, 15, tzinfo=UTC)
POINT = PointId("plant-press/tr1/p_w")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("Motor/Speed (rpm)", "motor_speed_rpm"),
        ("p_w", "p_w"),
        ("--A--", "a"),
        ("x" * 48, "x" * 48),
        ("Temp °C", "temp_c-HASH"),
        ("温度", "x-HASH"),
        ("###", "x-HASH"),
        ("y" * 49, "y" * 39 + "-HASH"),
    ],
)
def test_a_name_becomes_an_id_by_rule(name: str, part: str) -> None:
    assert id_part(name) == part.replace("HASH", hashlib.sha256(name.encode()).hexdigest()[:8])


@given(st.text(max_size=300))
def test_every_name_has_a_well_formed_id(name: str) -> None:
    assert PointId.of("edge", id_part(name), id_part(name)).device == id_part(name)


@given(st.text(max_size=20), st.text(max_size=20))
def test_names_that_are_not_plain_keep_apart(first: str, second: str) -> None:
    if first != second and not (first.isascii() or second.isascii()):
        assert id_part(first) != id_part(second)


def test_admitted_nodes_have_ids_of_their_own() -> None:
    assert admitted_nodes(["plant/press", "Plant 2/Press"], ["harbour"]) == {
        ("plant", "press"): "plant-press",
        ("Plant 2", "Press"): "plant_2-press",
    }


@pytest.mark.parametrize(
    ("nodes", "own", "reason"),
    [
        (["press"], [], "'group/node' is expected"),
        (["a/b/c"], [], "'group/node' is expected"),
        (["a/+"], [], "'group/node' is expected"),
        (["tieline/mill"], [], "need no admission"),
        (["plant/press", "Plant/Press"], [], "which node 'plant/press' is already"),
        (["plant/press"], ["plant-press"], "which edge 'plant-press' is already"),
    ],
)
def test_nodes_that_cannot_be_told_apart_are_an_error(nodes: list[str], own: list[str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        admitted_nodes(nodes, own)


def test_two_devices_under_one_id_are_both_refused_from_then_on() -> None:
    names = ForeignNames(EdgeId("plant-press"))
    names.declare("Pump 1", ["speed"])
    assert names.point("Pump 1", "speed") == "plant-press/pump_1/speed"
    names.declare("pump_1", ["flow"])
    assert (names.point("Pump 1", "speed"), names.point("pump_1", "flow")) == (None, None)
    assert names.point(None, "never declared") is None


def value(number: float, seconds: int) -> LastValue:
    return LastValue(POINT, number, T0 + timedelta(seconds=seconds), Quality.GOOD)


class BusyShelf:
    """A ledger whose door for history, or both of its doors, may be shut for a while."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.busy = self.history_busy = False

    def ingest_once(self, batch: ReadingBatch, source: str, key: str, sha256: str, at: datetime) -> tuple[Ingested, int]:
        if self.busy:
            raise TransientError("disk full")
        return self.store.ingest_once(batch, source, key, sha256, at)

    def import_readings(self, batch: ReadingBatch, source: str, at: datetime) -> int:
        if self.busy or self.history_busy:
            raise TransientError("disk full")
        return self.store.import_readings(batch, source, at)

    def last(self, points: Sequence[PointId] | None = None) -> list[LastValue]:
        return self.store.last(points)


@pytest.fixture(params=["memory:", "duckdb:"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BusyShelf]:
    url = str(request.param)
    with open_store(f"{url}{tmp_path / 'hub.duckdb'}" if url == "duckdb:" else url) as store:
        yield BusyShelf(store)


def numbers(shelf: BusyShelf) -> list[float]:
    return [float(row) for row in shelf.store.series(POINT, T0 - timedelta(days=1), T0 + timedelta(days=1)).values]


async def test_a_ledger_that_is_busy_gets_everything_later_and_nothing_twice(shelf: BusyShelf) -> None:
    counters = LiveCounters()
    history = ThirdPartyHistory(shelf, ManualClock(T0), counters)
    shelf.busy = True
    for row in (value(1.0, 0), value(2.0, 1), value(3.0, 1)):
        history.add(row)
    history.add(value(0.5, -60), historical=True)
    await history.flush()
    history.add(value(4.0, 2))
    shelf.busy, shelf.history_busy = False, True
    await history.flush()
    assert numbers(shelf) == [1.0, 2.0]
    shelf.history_busy = False
    for _ in range(3):
        await history.flush()
    assert numbers(shelf) == [0.5, 1.0, 2.0, 4.0]
    assert (counters.third_party_repeated, counters.third_party_dropped) == (1, 0)


async def test_what_waits_for_the_ledger_is_bounded_and_what_is_lost_is_counted(shelf: BusyShelf) -> None:
    counters = LiveCounters()
    history = ThirdPartyHistory(shelf, ManualClock(T0), counters)
    for second in range(100_500):
        history.add(value(1.0, second))
    assert counters.third_party_dropped == 500


async def test_a_hub_that_was_started_anew_stores_nothing_it_holds(shelf: BusyShelf) -> None:
    counters = LiveCounters()
    for _life in range(2):
        history = ThirdPartyHistory(shelf, ManualClock(T0), counters)
        history.add(value(0.5, -60), historical=True)
        history.add(value(1.0, 0))
        history.add(value(2.0, 1))
        await history.flush()
    assert numbers(shelf) == [0.5, 1.0, 2.0]
    assert (counters.third_party_rows, counters.third_party_repeated) == (3, 3)
