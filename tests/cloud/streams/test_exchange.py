"""Both directions at once over the real ledger, as the hub runs them: what comes in on one topic leaves on the other."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cloud.streams.conftest import Cluster
from tests.cloud.streams.test_consumer import body
from tieline_cloud.exchange import Exchange
from tieline_cloud.settings import HubSettings
from tieline_cloud.store.duckdb_store import DuckDbStore
from tieline_core.clock import SystemClock


async def test_what_is_committed_from_one_topic_leaves_on_another(cluster: Cluster, tmp_path: Path) -> None:
    tree = {
        "data_dir": tmp_path,
        "mqtt": {"host": "127.0.0.1"},
        "signing_key": tmp_path / "k",
        "kafka": {
            **cluster.settings(
                consumer={"topics": ["meters"], "sources": ["mdm"]}, producer={"topic": "out", "poll_s": 0.05}
            ).model_dump(),
        },
    }
    cluster.send("meters", [*(body(n) for n in range(20)), b"poison"])
    with DuckDbStore(tmp_path / "hub.duckdb") as store, ExitStack() as stack:
        exchange = Exchange.of(HubSettings.model_validate(tree), store, SystemClock(), stack)
        duties = exchange.duties()
        assert set(duties) == {"kafka consumer", "kafka producer"}
        tasks = [asyncio.create_task(duty(), name=name) for name, duty in duties.items()]
        assert exchange.producer is not None
        for _ in range(600):
            if exchange.producer.counters.readings == 40 and store.quarantined():
                break
            await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        for task in tasks:
            with pytest.raises(asyncio.CancelledError):
                await task
        assert store.statistics().readings == 40
        assert [row.topic for row in store.quarantined()] == ["kafka/meters/0@20"]
        assert all(part["ok"] for part in exchange.health().values())
        samples = {sample.name: sample.value for sample in exchange.samples()}
        assert samples["kafka_consumer_poison_total"] == 1
        assert samples["kafka_producer_readings_total"] == 40
    rows = [json.loads(message.value())["columns"] for message in await asyncio.to_thread(cluster.read, "out", 1)]
    assert sum(len(columns["point"]) for columns in rows) == 40
