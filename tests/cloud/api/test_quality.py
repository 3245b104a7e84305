"""Verdicts of data quality over the API."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import pytest

from tests.cloud.rooms import HARBOUR, NOW, Rooms
from tieline_cloud.quality.examiner import RuleExaminer
from tieline_cloud.quality.rule_table import RuleTable
from tieline_cloud.quality.rules import load_rules
from tieline_cloud.store.memory_store import MemoryStore
from tieline_cloud.store.ports import Estimate, LedgerFrame
from tieline_core.frame import ReadingBatch
from tieline_core.ids import PointId
from tieline_core.messages.telemetry import Stream
from tieline_core.quantities import Reading

LOAD, VOLTAGE = PointId("harbour/site/load_w"), PointId("harbour/tr1/v_v")


@pytest.fixture
def rooms(tmp_path: Any) -> Rooms:
    """Rooms whose store examines what arrives, with one bad and one misdated reading in it."""
    store = MemoryStore(RuleExaminer(RuleTable(load_rules())))
    store.grant_epoch(HARBOUR, NOW)
    at = NOW - timedelta(hours=1)
    readings = [
        Reading(VOLTAGE, 230.0, at),
        Reading(VOLTAGE, -3.0, at + timedelta(minutes=1)),
        Reading(VOLTAGE, 231.0, NOW + timedelta(days=1)),
        Reading(LOAD, 1000.0, at),
    ]
    store.commit([LedgerFrame(HARBOUR, 1, Stream.MEASURE, 1, 1, "a" * 64, NOW, ReadingBatch.of(readings))])
    return Rooms(tmp_path, store=store)


async def answer(client: httpx.AsyncClient, path: str) -> Any:
    response = await client.get(path)
    assert response.status_code == 200, response.text
    return response.json()


async def test_a_finding_has_both_times_the_number_received_unit_and_limit(client: httpx.AsyncClient) -> None:
    (found,) = await answer(client, "/v1/quality/findings?point=harbour/*&rule=negative")
    assert (found["point"], found["rule"], found["value"], found["limit"], found["unit"]) == (
        VOLTAGE,
        "negative",
        -3.0,
        0.0,
        "V",
    )
    assert (found["measured_at"], found["received_at"]) == ("2016-12-07T14:31:00Z", "2016-12-07T15:30:00Z")


async def test_findings_are_narrowed_by_point_rule_and_span(client: httpx.AsyncClient) -> None:
    assert await answer(client, "/v1/quality/findings?point=mill/*") == []
    assert await answer(client, "/v1/quality/findings?rule=spike") == []
    assert await answer(client, "/v1/quality/findings?from=2016-12-07T14:32:00Z") == []
    refused = await client.get("/v1/quality/findings?rule=odd")
    assert refused.status_code == 422
    assert "rule" in refused.json()["detail"]


async def test_a_misdated_reading_is_kept_with_both_times(client: httpx.AsyncClient) -> None:
    (row,) = await answer(client, "/v1/quality/misdated")
    assert (row["measured_at"], row["received_at"]) == ("2016-12-08T15:30:00Z", "2016-12-07T15:30:00Z")
    assert (row["value"], row["unit"], row["quality"], row["rule"]) == (231.0, "V", "good", "future")


async def test_the_rules_in_force_are_shown(client: httpx.AsyncClient) -> None:
    rules = await answer(client, "/v1/quality/rules")
    assert rules[-1]["quantities"] == ["*"]
    assert next(row for row in rules if row["name"] == "energy")["counter"]["tolerance_wh"] == 1.0


async def test_estimates_are_shown_as_substituted_only_when_asked_for(client: httpx.AsyncClient, rooms: Rooms) -> None:
    rooms.store.record_estimates(
        [Estimate(LOAD, NOW - timedelta(minutes=60 - 15 * n), 900.0 + n, "linear") for n in range(3)], NOW
    )
    plain = await answer(client, f"/v1/readings?point={LOAD}")
    assert [(row["value"], row["quality"]) for row in plain["rows"]] == [(1000.0, "good")]
    for step in ("PT15M", "raw"):
        shown = await answer(client, f"/v1/readings?point={LOAD}&substituted=true&step={step}")
        assert [(row["value"], row["quality"]) for row in shown["rows"]] == [
            (1000.0, "good"),
            (901.0, "substituted"),
            (902.0, "substituted"),
        ]
    refused = await client.get(f"/v1/readings?point={LOAD}&substituted=true&step=PT1H")
    assert refused.status_code == 422
    assert "PT15M" in refused.json()["detail"]
