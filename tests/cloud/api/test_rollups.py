"""Roll-ups and groups over the API."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import httpx
import pytest

from tests.cloud.rooms import NOW, Rooms
from tieline_core.frame import ReadingBatch
from tieline_core.ids import PointId
from tieline_core.quantities import Quality, Reading


async def get(client: httpx.AsyncClient, path: str, query: Mapping[str, str], status: int = 200) -> Any:
    response = await client.get(path, params=query)
    assert response.status_code == status, response.text
    return response.json()


def store(rooms: Rooms, point: str, values: list[float | None], minutes: int = 15) -> None:
    start, step = NOW - timedelta(hours=4), timedelta(minutes=minutes)
    rows = [
        Reading(PointId(point), value, start + n * step, Quality.BAD if value is None else Quality.GOOD)
        for n, value in enumerate(values)
    ]
    rooms.store.import_readings(ReadingBatch.of(rows), "test", NOW)


async def test_a_roll_up_shows_counts_extremes_and_quality(client: httpx.AsyncClient, rooms: Rooms) -> None:
    store(rooms, "harbour/tr1/p_w", [1.0, 2.0, None, 9.0, 5.0])
    series = await get(client, "/v1/readings/rollups", {"point": "harbour/tr1/p_w", "step": "PT1H"})
    assert (series["unit"], series["step"], series["time_zone"], series["truncated"]) == ("W", "PT1H", "UTC", False)
    expected = [("11:00", 2, 2, 1, 2, 1.5, 2, "good"), ("12:00", 2, 2, 5, 9, 7, 5, "bad")]
    columns = ("count", "good", "minimum", "maximum", "mean", "last", "quality")
    assert [(row["at"][11:16], *(row[name] for name in columns)) for row in series["rows"]] == expected
    first = await get(client, "/v1/readings/rollups", {"point": "harbour/tr1/p_w", "step": "PT1H", "limit": "1"})
    assert (len(first["rows"]), first["truncated"]) == (1, True)


async def test_numbers_whose_sum_no_float_holds_are_shown_as_none(client: httpx.AsyncClient, rooms: Rooms) -> None:
    store(rooms, "harbour/tr1/odd", [1.7e308] * 4)
    for path, query in (
        ("/v1/readings", {"point": "harbour/tr1/odd", "step": "PT1H"}),
        ("/v1/readings/rollups", {"point": "harbour/tr1/odd", "step": "PT1H"}),
    ):
        rows = (await get(client, path, query))["rows"]
        assert rows
        assert all(row.get("mean") is None and row.get("value") is None for row in rows)
    await get(client, "/v1/readings/aggregate", {"like": "harbour/tr1/odd", "step": "PT1H"})


@pytest.mark.parametrize(("days", "step"), [(1, "PT1M"), (2, "PT15M"), (14, "PT15M"), (30, "PT1H"), (90, "P1D")])
async def test_the_step_follows_the_span(client: httpx.AsyncClient, rooms: Rooms, days: int, step: str) -> None:
    store(rooms, "harbour/tr1/p_w", [1.0])
    start = (NOW - timedelta(days=days)).isoformat()
    series = await get(client, "/v1/readings/rollups", {"point": "harbour/tr1/p_w", "from": start})
    assert series["step"] == step
    assert len(series["rows"]) == 1


async def test_points_are_summed_by_edge_device_or_all(client: httpx.AsyncClient, rooms: Rooms) -> None:
    for place, values in {"harbour/m01": [1.0, 1.0], "harbour/m02": [2.0], "mill/m01": [4.0, 4.0]}.items():
        store(rooms, f"{place}/p_w", list(values))
    by_edge = await get(client, "/v1/readings/aggregate", {"like": "*/m*/p_w", "step": "PT15M"})
    assert [(group["group"], group["points"]) for group in by_edge["groups"]] == [("harbour", 2), ("mill", 1)]
    assert [(row["value"], row["quality"]) for row in by_edge["groups"][0]["rows"]] == [(3.0, "good"), (1.0, "uncertain")]
    both = await get(client, "/v1/readings/aggregate", {"like": "*/p_w", "step": "PT1H", "group_by": "all", "function": "max"})
    assert [[row["value"] for row in group["rows"]] for group in both["groups"]] == [[4.0]]
    each = await get(
        client, "/v1/readings/aggregate", {"like": "harbour/*", "group_by": "device", "function": "mean", "step": "P1D"}
    )
    assert [group["group"] for group in each["groups"]] == ["harbour/m01", "harbour/m02"]


@pytest.mark.parametrize(
    ("path", "query", "status", "words"),
    [
        ("rollups", {"point": "no/such/p_w"}, 404, "nothing was ever stored"),
        ("rollups", {"point": "harbour/m01/p_w", "step": "PT1M", "from": "2016-01-01T00:00:00Z"}, 422, "longer step"),
        ("rollups", {"point": "harbour/m01/p_w", "step": "PT7M"}, 422, "step"),
        ("aggregate", {"like": "nobody/*"}, 404, "no point matches"),
        ("aggregate", {"like": "harbour/*"}, 422, "different units (V, W)"),
        ("aggregate", {"like": "harbour/*/p_w", "function": "median"}, 422, "function"),
    ],
)
async def test_a_question_that_cannot_be_answered_says_why(
    client: httpx.AsyncClient, rooms: Rooms, path: str, query: dict[str, str], status: int, words: str
) -> None:
    store(rooms, "harbour/m01/p_w", [1.0])
    store(rooms, "harbour/m01/v_v", [230.0])
    problem = await get(client, f"/v1/readings/{path}", query, status)
    assert words in str(problem)
