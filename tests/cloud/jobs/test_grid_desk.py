"""The hub's network: imported, kept, drawn, estimated."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from tests.cloud.rooms import NOW, Rooms
from tieline_cloud.jobs.grid_desk import FILE, Expectation, GridDesk, with_expected
from tieline_cloud.jobs.model import JobProgress
from tieline_cloud.jobs.network_job import NetworkParams, network_kind
from tieline_cloud.jobs.pool import WorkerPool
from tieline_core.errors import BadInputError
from tieline_core.ids import PointId
from tieline_core.quantities import Quality, Reading

VILLAGE = Path(__file__).parents[1] / "gridmodel" / "village.json"
FEEDER = PointId("primary/north/p_w")


class InlinePool:
    """Calls at once, in this process."""

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


def desk(rooms: Rooms, readings: dict[str, Reading] | None = None) -> GridDesk:
    pool = cast("WorkerPool", InlinePool())
    return GridDesk("grid", rooms.folder, pool, lambda: readings or {}, rooms.clock, rooms.live, 2.0)


async def test_a_network_is_kept_and_known_after_a_restart(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path)
    first = desk(rooms)
    assert first.picture() is None
    result = await network_kind(first).run(NetworkParams(file=VILLAGE), JobProgress(lambda _share, _text: None))
    assert result["substations"] == ["harbour", "mill"]
    again = desk(rooms)
    await again.load(None)
    picture, kept = first.picture(), again.picture()
    assert picture is not None
    assert picture == kept
    assert json.loads(picture.geojson)["type"] == "FeatureCollection"
    assert len(picture.topology_hash) == 64


async def test_a_network_that_is_wrong_is_refused_and_the_one_before_stays(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path)
    held = desk(rooms)
    await held.install(VILLAGE)
    bad = tmp_path / "bad.json"
    bad.write_text("{}", encoding="utf-8")
    with pytest.raises(BadInputError):
        await held.install(bad)
    assert held.grid is not None
    assert (tmp_path / FILE).read_bytes() == VILLAGE.read_bytes()


async def test_an_estimate_reaches_the_live_socket_in_the_order_of_the_arrays(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path)
    held = desk(rooms)
    await held.install(VILLAGE)
    await held._estimate()
    values, picture = held.values(), held.picture()
    assert values is not None
    assert picture is not None
    arrays = json.loads(picture.arrays_json)
    assert len(values.loading_pct) == len(arrays["branches"]["id"]) == len(values.quality)
    assert len(values.vm_pu) == len(arrays["nodes"]["id"])
    frame = rooms.live._newest["grid/grid"]
    assert isinstance(frame, bytes)
    seq, branches, at, buses, digest = struct.unpack_from("<IIdI12s", frame)
    assert (seq, branches, at, buses) == (1, len(values.loading_pct), NOW.timestamp(), len(values.vm_pu))
    assert digest.hex() == picture.topology_hash[:24]


async def test_powers_without_a_solution_are_a_problem_and_not_the_end(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path)
    point = PointId("harbour/tr1/p_w")
    held = desk(rooms, {point: Reading(point, 1e12, NOW)})
    await held.install(VILLAGE)
    await held._estimate()
    assert held.problem is not None
    assert held.values() is None


def test_expectations_stand_in_only_for_what_is_missing_or_stale() -> None:
    expected = Expectation(NOW, timedelta(minutes=15), {FEEDER: (1.0, 2.0)}).readings(NOW + timedelta(minutes=20))
    assert expected[FEEDER].value == 2.0
    assert expected[FEEDER].quality is Quality.SUBSTITUTED
    now = NOW + timedelta(minutes=20)
    fresh = {str(FEEDER): Reading(FEEDER, 9.0, NOW)}
    stale = {str(FEEDER): Reading(FEEDER, 9.0, NOW - timedelta(hours=1))}
    assert with_expected(fresh, dict(expected), now) == (fresh, frozenset())
    merged, areas = with_expected(stale, dict(expected), now)
    assert (merged[FEEDER].value, areas) == (2.0, {"north"})


def test_nothing_is_expected_outside_the_horizon() -> None:
    expected = Expectation(NOW, timedelta(minutes=15), {FEEDER: (1.0, 2.0)})
    assert expected.readings(NOW - timedelta(seconds=1)) == {}
    assert expected.readings(NOW + timedelta(minutes=30)) == {}
