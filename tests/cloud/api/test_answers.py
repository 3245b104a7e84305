"""What the API answers when all is well."""

from __future__ import annotations

import asyncio
import gzip
import json
from datetime import timedelta
from typing import Any

import httpx
import numpy as np
import pytest

from tests.cloud.rooms import HARBOUR, NOW, Rooms, plan, reported
from tieline_cloud.api.routes.events import _messages
from tieline_cloud.dispatch.plans import PlanCurves
from tieline_core.frame import ReadingBatch
from tieline_core.ids import PointId
from tieline_core.messages.telemetry import IssuedForecast, Severity
from tieline_core.timegrid import to_us

LOAD = PointId("harbour/site/load_w")


def store_minutes(rooms: Rooms, values: list[float]) -> None:
    at = np.array([to_us(NOW - timedelta(hours=1)) + 60_000_000 * n for n in range(len(values))], dtype=np.int64)
    quality = np.where(np.isnan(values), 4, 0).astype(np.uint8)
    batch = ReadingBatch((LOAD,), np.zeros(len(values), np.int32), at, np.array(values), quality)
    rooms.store.import_readings(batch, "test", NOW)


async def answer(client: httpx.AsyncClient, path: str) -> Any:
    response = await client.get(path)
    assert response.status_code == 200, response.text
    return response.json()


async def test_an_edge_shows_ladder_backlog_and_whether_it_runs_what_it_should(client: httpx.AsyncClient, rooms: Rooms) -> None:
    record = rooms.plans.publish(plan(), PlanCurves())
    backlog = {"measure": {"frames": 3, "bytes": 100, "oldest_at": NOW}, "alarm": {"frames": 1, "bytes": 9}}
    rooms.fleet.reported = reported(backlog=backlog, plan_id="plan-0001", plan_sha256=record.sha256)
    rooms.desired.hear(rooms.fleet.reported)
    (edge,) = await answer(client, "/v1/edges")
    assert (edge["ladder"], edge["backlog_frames"], edge["plan_id"]) == ("current_plan", 4, "plan-0001")
    assert edge["desired_confirmed"] is True
    detail = await answer(client, "/v1/edges/harbour")
    assert detail["desired"]["plan"] == record.sha256
    assert detail["reported"]["boot_id"] == "boot-1"


async def test_devices_name_their_points(client: httpx.AsyncClient) -> None:
    (device,) = await answer(client, "/v1/devices?edge=harbour")
    assert device["points"] == ["harbour/bat1/p_w", "harbour/bat1/soc_pct"]


async def test_readings_come_as_means_with_unit_and_interval_start(client: httpx.AsyncClient, rooms: Rooms) -> None:
    store_minutes(rooms, [float(n) for n in range(30)])
    series = await answer(client, f"/v1/readings?point={LOAD}")
    assert (series["unit"], series["step"], series["truncated"]) == ("W", "PT15M", False)
    assert [(row["at"], row["value"]) for row in series["rows"]] == [
        ("2016-12-07T14:30:00Z", 7.0),
        ("2016-12-07T14:45:00Z", 22.0),
    ]


async def test_raw_readings_keep_bad_ones_without_a_number_and_say_when_there_is_more(
    client: httpx.AsyncClient, rooms: Rooms
) -> None:
    store_minutes(rooms, [1.0, float("nan"), 3.0])
    series = await answer(client, f"/v1/readings?point={LOAD}&step=raw&limit=2")
    assert [(row["value"], row["quality"]) for row in series["rows"]] == [(1.0, "good"), (None, "bad")]
    assert series["truncated"] is True


async def test_last_values_have_value_unit_time_and_quality(client: httpx.AsyncClient, rooms: Rooms) -> None:
    store_minutes(rooms, [1.0, 2.0])
    assert await answer(client, "/v1/readings/last?edge=harbour") == [
        {"point": LOAD, "value": 2.0, "unit": "W", "at": "2016-12-07T14:31:00Z", "quality": "good"}
    ]


async def test_the_newest_forecast_that_reaches_into_the_span_is_given_whole(client: httpx.AsyncClient, rooms: Rooms) -> None:
    for hours in (-30, -2, -1):
        values = (float(hours),) * 4
        rooms.store.record_forecasts(
            [
                IssuedForecast(
                    point=LOAD,
                    model_id="m1",
                    issued_at=NOW + timedelta(hours=hours),
                    start=NOW + timedelta(hours=hours),
                    step_s=3600,
                    p10=values,
                    p50=values,
                    p90=values,
                    lo90=values,
                    hi90=values,
                )
            ]
        )
    found = await answer(client, f"/v1/forecasts?point={LOAD}")
    assert [issue["issued_at"] for issue in found["issues"]] == ["2016-12-07T13:30:00Z", "2016-12-07T14:30:00Z"]
    assert found["latest"]["rows"][0] == {"at": "2016-12-07T14:30:00Z"} | dict.fromkeys(
        ("p10", "p50", "p90", "lo90", "hi90"), -1.0
    )
    older = await answer(client, f"/v1/forecasts?point={LOAD}&issued_at=2016-12-07T13:30:00Z")
    assert older["latest"]["rows"][0]["p50"] == -2.0


async def test_the_current_plan_has_its_certificate_and_curves(client: httpx.AsyncClient, rooms: Rooms) -> None:
    rooms.plans.publish(plan(), PlanCurves(loading_with_pct=(60.0, 61.0)))
    current = await answer(client, "/v1/plans/current?edge=harbour")
    assert current["plan"]["certificate"]["verdict"] == current["verdict"] == "clean"
    assert current["curves"]["loading_with_pct"] == [60.0, 61.0]
    assert current["end"] == "2016-12-07T16:00:00Z"
    assert [row["plan_id"] for row in await answer(client, "/v1/plans?edge=harbour")] == ["plan-0001"]
    assert (await answer(client, "/v1/plans/plan-0001"))["sha256"] == current["sha256"]


async def test_a_command_is_accepted_sent_and_can_be_looked_up(client: httpx.AsyncClient, rooms: Rooms) -> None:
    body = {
        "edge_id": "harbour",
        "device_id": "bat1",
        "action": "setpoint_w",
        "value_w": -20000,
        "valid_for_s": 600,
        "reason": "relieve the feeder",
    }
    response = await client.post("/v1/commands", json=body)
    assert response.status_code == 202
    command = response.json()["command"]
    assert len(rooms.outbox.sent) == 1
    assert command["expires_at"] == "2016-12-07T15:40:00Z"
    assert (await answer(client, f"/v1/commands/{command['command_id']}"))["state"] == "accepted"


async def test_a_command_to_an_edge_that_is_away_says_that_nobody_heard_it(client: httpx.AsyncClient, rooms: Rooms) -> None:
    body = {"edge_id": "harbour", "device_id": "bat1", "action": "release", "valid_for_s": 600, "reason": "test"}
    assert (await client.post("/v1/commands", json=body)).json()["text"] == ""
    rooms.fleet.away = True
    told = (await client.post("/v1/commands", json=body)).json()
    assert (told["state"], told["text"]) == (
        "accepted",
        "harbour is away: unless a report comes, it has not heard it; send a new one when it is back",
    )


async def test_a_third_party_is_marked_and_never_commanded(client: httpx.AsyncClient, rooms: Rooms) -> None:
    rooms.fleet.third_party = "plant/press"
    (edge,) = await answer(client, "/v1/edges")
    assert (edge["third_party"], edge["offline_since"]) == ("plant/press", None)
    body = {"edge_id": "harbour", "device_id": "bat1", "action": "release", "valid_for_s": 600, "reason": "test"}
    response = await client.post("/v1/commands", json=body)
    assert (response.status_code, response.json()["detail"], rooms.outbox.sent) == (
        422,
        "'harbour' is the third-party node 'plant/press': Tieline reads it and never commands it",
        [],
    )


async def test_events_of_edges_and_hub_come_in_one_list_newest_first(client: httpx.AsyncClient, rooms: Rooms) -> None:
    own = rooms.events.raise_event(HARBOUR, Severity.INFORMATION, "plan.published", "a plan")
    rooms.store.record_events([own.model_copy(update={"event_id": "edge-event", "at": NOW + timedelta(seconds=1)})])
    assert [event["event_id"] for event in await answer(client, "/v1/events")] == ["edge-event", own.event_id]
    assert await answer(client, f"/v1/events?to={NOW.isoformat().replace('+00:00', 'Z')}") == []


async def test_the_event_stream_goes_on_after_the_last_one_seen(rooms: Rooms) -> None:
    first = rooms.events.raise_event(HARBOUR, Severity.INFORMATION, "one.one", "first")
    second = rooms.events.raise_event(HARBOUR, Severity.ALARM, "two.two", "second")
    parts = _messages(rooms.services(), first.event_id)
    assert await anext(parts) == b"retry: 2000\n\n"
    assert f"id: {second.event_id}\n".encode() in await anext(parts)
    waiting = asyncio.ensure_future(anext(parts))
    await asyncio.sleep(0)
    third = rooms.events.raise_event(HARBOUR, Severity.ALARM, "three.three", "third")
    assert json.loads((await waiting).split(b"data: ")[1])["event_id"] == third.event_id


async def test_the_topology_is_compressed_and_unchanged_the_second_time(client: httpx.AsyncClient) -> None:
    first = await client.get("/v1/grids/grid", headers={"Accept-Encoding": "gzip"})
    assert first.headers["content-encoding"] == "gzip"
    assert first.json() == {"buses": [], "branches": []}
    again = await client.get("/v1/grids/grid", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    plain = await client.get("/v1/grids/grid/geojson", headers={"Accept-Encoding": "identity"})
    assert plain.json()["type"] == "FeatureCollection"
    assert plain.headers["etag"] != first.headers["etag"]
    assert gzip.decompress(gzip.compress(plain.content)) == plain.content


async def test_the_grid_state_says_null_where_it_knows_nothing(client: httpx.AsyncClient) -> None:
    state = await answer(client, "/v1/grids/grid/state")
    assert (state["loading_pct"], state["vm_pu"]) == ([55.5], [1.01, None])


async def test_an_artifact_comes_as_the_bytes_that_were_put(client: httpx.AsyncClient, rooms: Rooms) -> None:
    response = await client.get(f"/v1/artifacts/{rooms.artifacts.put(b'signed')}")
    assert response.content == b"signed"
    assert "immutable" in response.headers["cache-control"]


async def test_a_job_is_queued_listed_and_cancelled(client: httpx.AsyncClient) -> None:
    posted = await client.post("/v1/jobs", json={"kind": "import", "params": {"files": ["/data/a.csv"]}})
    assert (posted.status_code, posted.json()["state"]) == (202, "queued")
    job_id = posted.json()["job_id"]
    assert [job["job_id"] for job in await answer(client, "/v1/jobs?kind=import")] == [job_id]
    assert await answer(client, "/v1/jobs?kind=train") == []
    assert (await client.delete(f"/v1/jobs/{job_id}")).json()["state"] == "cancelled"
    assert (await answer(client, f"/v1/jobs/{job_id}"))["state"] == "cancelled"


async def test_health_and_metrics_and_who_am_i(client: httpx.AsyncClient) -> None:
    health = await answer(client, "/v1/health")
    assert (health["status"], health["now"]) == ("ok", "2016-12-07T15:30:00Z")
    assert (await answer(client, "/v1/me"))["roles"] == ["operator"]
    assert (await client.get("/metrics")).text == "tieline_up 1\n"


@pytest.mark.parametrize("path", ["/v1/health", "/v1/edges/nowhere", "/metrics", "/absent"])
async def test_every_answer_has_the_security_headers(client: httpx.AsyncClient, path: str) -> None:
    headers = (await client.get(path)).headers
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert headers["x-content-type-options"] == "nosniff"
