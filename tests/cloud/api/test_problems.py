"""Every error leaves as a problem body (RFC 9457)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.cloud.rooms import Rooms
from tieline_cloud.api.app import MAX_BODY_BYTES

COMMAND: dict[str, Any] = {
    "command_id": "command-1",
    "edge_id": "harbour",
    "device_id": "bat1",
    "action": "setpoint_w",
    "value_w": 1.0,
    "valid_for_s": 60,
    "reason": "testing it",
}


def check(response: httpx.Response, status: int, part: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert (body["status"], body["instance"]) == (status, response.request.url.path)
    assert body["type"].startswith("urn:tieline:problem:")
    assert part in body["detail"]


@pytest.mark.parametrize(
    ("path", "status", "part"),
    [
        ("/v1/edges/harbor", 404, "there is no edge 'harbor'; known edges: harbour"),
        ("/v1/nothing", 404, "there is nothing at /v1/nothing"),
        ("/v1/devices?edge=absent", 404, "no edge 'absent'"),
        ("/v1/readings", 422, "query.point: Field required"),
        ("/v1/readings?point=Harbour", 422, "is no PointId"),
        ("/v1/readings?point=harbour/bat1/p_w", 404, "nothing was ever stored"),
        ("/v1/readings?point=harbour/bat1/p_w&step=15min", 422, "write it like 'PT15M'"),
        ("/v1/readings?point=harbour/bat1/p_w&step=PT1S&from=2016-01-01T00:00:00Z", 422, "more than 10000 intervals"),
        ("/v1/readings?point=harbour/bat1/p_w&from=2016-01-02T00:00:00Z&to=2016-01-01T00:00:00Z", 422, "must be before to"),
        ("/v1/readings?point=harbour/bat1/p_w&from=2016-01-02T00:00:00", 422, "query.from"),
        ("/v1/readings?point=harbour/bat1/p_w&from=0001-01-01T00:00:00Z", 422, "from 2000 to 2199"),
        ("/v1/readings?point=harbour/bat1/p_w&to=9999-12-31T23:59:59Z", 422, "from 2000 to 2199"),
        ("/v1/forecasts?point=harbour/bat1/p_w&from=9999-12-31T23:59:59Z", 422, "from 2000 to 2199"),
        ("/v1/readings/last?points=a", 422, "is no PointId"),
        ("/v1/plans/current?edge=harbour", 404, "no plan was published"),
        ("/v1/plans/absent", 404, "there is no plan"),
        ("/v1/commands/absent", 404, "there is no command"),
        ("/v1/jobs/absent", 404, "there is no job"),
        ("/v1/artifacts/abc", 422, "path.sha256"),
        (f"/v1/artifacts/{'0' * 64}", 404, "there is no artifact"),
        ("/v1/grids/other", 404, "the hub's grid is 'grid'"),
        ("/v1/events?limit=0", 422, "query.limit"),
    ],
)
async def test_a_read_that_cannot_be_answered_says_why(client: httpx.AsyncClient, path: str, status: int, part: str) -> None:
    check(await client.get(path), status, part)


@pytest.mark.parametrize(
    ("change", "status", "part"),
    [
        ({"edge_id": "absent"}, 404, "no edge 'absent'"),
        ({"device_id": "bat9"}, 404, "it has bat1"),
        ({"value_w": None}, 422, "needs value_w"),
        ({"valid_for_s": 0}, 422, "body.valid_for_s"),
        ({"colour": "red"}, 422, "body.colour: Extra inputs"),
    ],
)
async def test_a_command_that_makes_no_sense_is_refused(
    client: httpx.AsyncClient, change: dict[str, Any], status: int, part: str
) -> None:
    check(await client.post("/v1/commands", json=COMMAND | change), status, part)


async def test_an_id_used_twice_for_different_commands_is_a_conflict(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/commands", json=COMMAND)).status_code == 202
    check(await client.post("/v1/commands", json=COMMAND | {"value_w": 2.0}), 409, "used for another instruction")


async def test_without_a_broker_a_command_asks_to_try_again(client: httpx.AsyncClient, rooms: Rooms) -> None:
    rooms.outbox.away = True
    response = await client.post("/v1/commands", json=COMMAND)
    check(response, 503, "not connected")
    assert response.headers["retry-after"] == "2"


async def test_an_unknown_job_and_a_wrong_parameter_are_named(client: httpx.AsyncClient) -> None:
    check(await client.post("/v1/jobs", json={"kind": "dance"}), 422, "kinds are backfill, export, import")
    check(await client.post("/v1/jobs", json={"kind": "import", "params": {}}), 422, "params.files")


async def test_a_method_that_does_not_work_is_said(client: httpx.AsyncClient) -> None:
    check(await client.put("/v1/edges"), 405, "PUT does not work on /v1/edges")


async def test_a_page_of_another_origin_cannot_write(client: httpx.AsyncClient) -> None:
    check(await client.post("/v1/commands", json=COMMAND, headers={"Origin": "http://evil"}), 403, "another origin")
    assert (await client.post("/v1/commands", json=COMMAND, headers={"Origin": "http://hub"})).status_code == 202


async def test_an_origin_that_is_none_cannot_write_either(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", json={"kind": "plan"}, headers={"origin": "http://["})
    assert answer.status_code == 403


async def test_a_body_that_is_too_long_is_refused_unread(client: httpx.AsyncClient) -> None:
    check(await client.post("/v1/jobs", content=b"x" * (MAX_BODY_BYTES + 1)), 413, "at most")


async def test_an_error_nobody_foresaw_tells_nothing_of_the_inside(client: httpx.AsyncClient, rooms: Rooms) -> None:
    def broken() -> list[Any]:
        raise RuntimeError("secret detail")

    rooms.fleet.edges = broken  # type: ignore[method-assign]  # to break it
    response = await client.get("/v1/edges")
    check(response, 500, "its log says why")
    assert "secret" not in response.text


async def test_without_a_network_the_grid_says_what_to_do(client: httpx.AsyncClient, rooms: Rooms) -> None:
    rooms.grid.known = False
    check(await client.get("/v1/grids/grid"), 404, "post a job of kind 'network'")
