"""The OpenAPI document is kept true: every operation answers only what it documents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cloud.rooms import HARBOUR, NOW, Rooms, plan
from tieline_cloud.api.app import ROUTERS, create_app
from tieline_cloud.dispatch.plans import PlanCurves
from tieline_cloud.settings import SourceSettings
from tieline_core.frame import ReadingBatch
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Severity
from tieline_core.quantities import Quality, Reading

TOKEN = "0123456789abcdef" * 2
#: Values that make each operation succeed; every parameter name of the document must be here.
GOOD = {
    "edge_id": "harbour",
    "edge": "harbour",
    "plan_id": "plan-0001",
    "command_id": "command-1",
    "job_id": "JOB",
    "sha256": "SHA",
    "grid_id": "grid",
    "point": "harbour/bat1/p_w",
    "like": "*/p_w",
    "source": "mdm",
    "device": "bat1",
    "Idempotency-Key": "key-1",
    "authorization": f"Bearer {TOKEN}",
}
BAD = {
    "edge_id": "Nowhere!",
    "edge": "nowhere",
    "plan_id": "none",
    "command_id": "none",
    "job_id": "none",
    "sha256": "zz",
    "grid_id": "none",
    "point": "no point",
    "limit": "-1",
    "from": "yesterday",
    "to": "never",
    "step": "often",
    "points": "a,b",
    "issued_at": "once",
    "like": "no/such*",
    "function": "median",
    "group_by": "colour",
    "source": "nobody",
    "device": "NO NAME",
    "at": "noon",
    "replay": "perhaps",
    "Idempotency-Key": "two words",
    "authorization": "Bearer of bad news",
}
SPAN = {"from": "2016-12-07T00:00:00Z", "to": "2016-12-08T00:00:00Z"}
BODIES: dict[str, list[Any]] = {
    "/v1/commands": [
        {
            "command_id": "command-1",
            "edge_id": "harbour",
            "device_id": "bat1",
            "action": "open",
            "valid_for_s": 5,
            "reason": "contract",
        },
        {},
        [1],
        "text",
    ],
    "/v1/edges/{edge_id}/config": [{"text": "edge_id: harbour\n"}, {"text": "edge_id: mill\n"}, {"text": "{"}, {}, [1]],
    "/v1/edges/{edge_id}/policy": [{"text": "classes: {bat1: 3}\n"}, {"text": "{"}, {}, [1]],
    "/v1/edges/{edge_id}/reconcile": [SPAN, {}, [1]],
    "/v1/edges/{edge_id}/backfill": [SPAN, {"from": "never"}, [1]],
    "/v1/ingest/{source}": [
        {"rows": [{"point": "mdm/m1/p_w", "measured_at": "2016-12-07T12:00:00Z", "value": 1.5}]},
        {"rows": [{"point": "harbour/m1/p_w", "measured_at": "2016-12-07T12:00:00Z", "value": 1.5}]},
        {"rows": 7},
        "text",
        None,
    ],
    "/v1/jobs": [{"kind": "import", "params": {"files": ["/a.csv"]}}, {"kind": "none"}, {}, None],
}


class Known:
    """A hub that knows one of everything."""

    def __init__(self, folder: Path) -> None:
        (folder / "mdm.token").write_text(TOKEN + "\n", encoding="ascii")
        (folder / "mdm.token").chmod(0o600)
        self.rooms = Rooms(folder, sources={EdgeId("mdm"): SourceSettings(token_file=folder / "mdm.token")})
        record = self.rooms.plans.publish(plan(), PlanCurves())
        job = self.rooms.jobs.submit("import", {"files": ["/a.csv"]})
        self.rooms.events.raise_event(HARBOUR, Severity.ALARM, "test.event", "an event")
        reading = Reading(PointId(GOOD["point"]), 1.0, NOW - timedelta(hours=1), Quality.GOOD)
        self.rooms.store.import_readings(ReadingBatch.of([reading]), "test", NOW)
        self.good = GOOD | {"JOB": job.job_id, "job_id": job.job_id, "sha256": record.sha256}
        self.app = create_app(self.rooms.services())
        self.document: dict[str, Any] = self.app.openapi()


@pytest.fixture
def known(tmp_path: Path) -> Known:
    return Known(tmp_path)


@pytest.fixture
async def client(known: Known) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(known.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://hub") as session:
        yield session


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(method, path, operation) for path, item in document["paths"].items() for method, operation in item.items()]


def resolve(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    return schema


def check_shape(document: dict[str, Any], schema: dict[str, Any], body: Any) -> None:
    """Required and known keys, down to the items of lists."""
    schema = resolve(document, schema)
    if schema.get("type") == "array":
        for item in body:
            check_shape(document, schema["items"], item)
    elif "properties" in schema:
        assert set(schema.get("required", [])) <= set(body) <= set(schema["properties"]), body


async def send(
    client: httpx.AsyncClient, method: str, path: str, operation: dict[str, Any], values: dict[str, str], body: Any
) -> httpx.Response:
    query, headers = {}, {}
    for parameter in operation.get("parameters", []):
        name = parameter["name"]
        if parameter["in"] == "path":
            path = path.replace("{" + name + "}", values[name])
        elif parameter["in"] == "query" and name in values:
            query[name] = values[name]
        elif parameter["in"] == "header" and name in values:
            headers[name] = values[name]
    return await client.request(method, path, params=query, headers=headers, json=body)


def check(document: dict[str, Any], response: httpx.Response, operation: dict[str, Any]) -> None:
    status = str(response.status_code)
    documented = operation["responses"]
    assert status in documented, f"{operation['operationId']} answered {status}: {response.text}"
    kind = response.headers.get("content-type", "").split(";")[0]
    if response.content:
        assert kind in documented[status]["content"], f"{operation['operationId']} {status} is {kind}"
        schema = documented[status]["content"][kind].get("schema")
        if schema and kind.endswith("json"):
            check_shape(document, schema, response.json())


async def test_every_operation_answers_what_it_documents(known: Known, client: httpx.AsyncClient) -> None:
    tried = 0
    for method, path, operation in operations(known.document):
        if path == "/v1/events/stream":  # endless; tested by itself
            continue
        for values in (known.good, {**known.good, **BAD}, *({**known.good, name: bad} for name, bad in BAD.items())):
            for body in BODIES.get(path, [None]) if method == "post" else [None]:
                check(known.document, await send(client, method, path, operation, values, body), operation)
                tried += 1
    assert tried > 200


async def test_each_operation_succeeds_with_good_values(known: Known, client: httpx.AsyncClient) -> None:
    for method, path, operation in sorted(operations(known.document), key=lambda row: row[0] != "post"):
        # The first is endless, the second needs an edge that answers; each is tested by itself.
        if path in ("/v1/events/stream", "/v1/edges/{edge_id}/why"):
            continue
        body = BODIES.get(path, [None])[0] if method == "post" else None
        response = await send(client, method, path, operation, known.good, body)
        assert response.status_code in (200, 202), f"{method} {path}: {response.text}"


def test_every_operation_is_described_tagged_and_named_once(known: Known) -> None:
    rows = operations(known.document)
    assert len({operation["operationId"] for _, _, operation in rows}) == len(rows)
    tags = {tag["name"] for tag in known.document["tags"]}
    for _, path, operation in rows:
        assert operation["summary"], path
        assert operation["description"], path
        assert set(operation["tags"]) <= tags, path
        assert "500" in operation["responses"], path


def test_the_routes_of_the_contract_are_there(known: Known) -> None:
    expected = {
        "/v1/health",
        "/v1/me",
        "/v1/edges",
        "/v1/edges/{edge_id}",
        "/v1/edges/{edge_id}/config",
        "/v1/edges/{edge_id}/policy",
        "/v1/edges/{edge_id}/reconcile",
        "/v1/edges/{edge_id}/backfill",
        "/v1/edges/{edge_id}/why",
        "/v1/devices",
        "/v1/readings",
        "/v1/readings/last",
        "/v1/readings/rollups",
        "/v1/readings/aggregate",
        "/v1/forecasts",
        "/v1/plans",
        "/v1/plans/current",
        "/v1/plans/{plan_id}",
        "/v1/commands",
        "/v1/commands/{command_id}",
        "/v1/events",
        "/v1/events/stream",
        "/v1/grids/{grid_id}",
        "/v1/grids/{grid_id}/geojson",
        "/v1/grids/{grid_id}/state",
        "/v1/artifacts/{sha256}",
        "/v1/ingest/{source}",
        "/v1/jobs",
        "/v1/jobs/{job_id}",
        "/v1/models",
        "/v1/quality/findings",
        "/v1/quality/misdated",
        "/v1/quality/rules",
    }
    assert set(known.document["paths"]) == expected
    assert len(ROUTERS) == 19
