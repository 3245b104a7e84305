"""A gateway whose clock is wrong, over a real broker: its good readings are stored, the others set apart with both times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.conftest import Broker
from tests.integration.test_durable_lane import POINT, T0, drained, scripted, settings
from tieline_cloud.ingest.service import Ingest
from tieline_cloud.quality.examiner import RuleExaminer
from tieline_cloud.quality.rule_table import RuleTable
from tieline_cloud.quality.rules import load_rules
from tieline_cloud.store.duckdb_store import DuckDbStore
from tieline_core.clock import ManualClock
from tieline_core.frame import encode_readings
from tieline_core.quantities import Reading

pytestmark = pytest.mark.broker

HOUR = timedelta(hours=1)


async def test_wrong_stamps_are_set_apart_and_the_rest_of_their_frame_is_stored(broker: Broker, tmp_path: Path) -> None:
    wrong = [datetime(1970, 1, 1, tzinfo=UTC), T0 + 24 * HOUR, datetime(2199, 1, 1, tzinfo=UTC)]
    right = [T0 - HOUR + timedelta(minutes=n) for n in range(10)]
    body = encode_readings([Reading(POINT, float(n), at) for n, at in enumerate([*wrong, *right])])
    path = tmp_path / "hub.duckdb"
    examiner = RuleExaminer(RuleTable(load_rules()))
    with DuckDbStore(path, examiner=examiner) as store:
        async with Ingest(settings(broker), store, ManualClock(T0)):
            await drained(scripted(broker, [body]))
        assert store.statistics().quarantined == 0
    with DuckDbStore(path, examiner=RuleExaminer(RuleTable(load_rules()))) as store:
        everything = store.series(POINT, datetime(1960, 1, 1, tzinfo=UTC), datetime(2300, 1, 1, tzinfo=UTC))
        assert everything.values.tolist() == [float(n) for n in range(3, 13)]
        set_apart = {row.measured_at: (row.value, row.rule, row.received_at) for row in store.misdated("harbour/*", 10)}
        assert set_apart == {at: (float(n), "past" if n == 0 else "future", T0) for n, at in enumerate(wrong)}
