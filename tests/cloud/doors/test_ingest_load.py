"""Many head-end systems at once over a real socket into a real ledger: every delivery twice, every reading once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from tests.cloud.rooms import Rooms
from tieline_cloud.api.app import create_app
from tieline_cloud.api.server import http_server
from tieline_cloud.doors.deliveries import FRAME
from tieline_cloud.settings import SourceSettings
from tieline_cloud.store.duckdb_store import DuckDbStore
from tieline_core.frame import encode_readings
from tieline_core.ids import EdgeId, PointId
from tieline_core.quantities import Reading

TOKEN = "0123456789abcdef" * 2
START = datetime(2026, 11, 20, tzinfo=UTC)
ROWS = 1000


def body(number: int) -> bytes:
    point = PointId(f"mdm/m{number}/p_w")
    return encode_readings([Reading(point, float(row), START + timedelta(seconds=row)) for row in range(ROWS)])


async def test_deliveries_sent_twice_at_once_by_many_are_stored_once(tmp_path: Path) -> None:
    token = tmp_path / "mdm.token"
    token.write_text(TOKEN, encoding="ascii")
    token.chmod(0o600)
    waiting = [(f"k{number}", body(number)) for number in range(40)] * 2
    refused = 0
    with DuckDbStore(tmp_path / "hub.duckdb") as store:
        rooms = Rooms(tmp_path, deliveries=store, sources={EdgeId("mdm"): SourceSettings(token_file=token)})
        async with http_server(create_app(rooms.services()), "127.0.0.1", 0) as port:
            headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": FRAME}
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60) as client:

                async def sender() -> None:
                    nonlocal refused
                    while waiting:
                        key, content = waiting.pop()
                        answer = await client.post("/v1/ingest/mdm", content=content, headers={"Idempotency-Key": key})
                        if answer.status_code == 503:
                            refused += 1
                            assert int(answer.headers["retry-after"]) >= 1
                            waiting.append((key, content))
                            await asyncio.sleep(0.05)
                        else:
                            assert answer.status_code == 200, answer.text
                            assert answer.json()["readings"] == ROWS

                async with asyncio.TaskGroup() as group:
                    for _ in range(16):
                        group.create_task(sender())
        assert store.statistics().readings == 40 * ROWS
    assert refused > 0, "sixteen senders never met a busy desk: this shows nothing of back-pressure"
