"""The job that fills missing intervals."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from tieline_cloud.jobs.estimate_job import estimate_kind
from tieline_cloud.jobs.model import JobFailedError, JobProgress
from tieline_cloud.quality.rule_table import RuleTable
from tieline_cloud.quality.rules import load_rules
from tieline_cloud.store.memory_store import MemoryStore
from tieline_core.clock import ManualClock
from tieline_core.frame import ReadingBatch
from tieline_core.ids import PointId
from tieline_core.timegrid import to_us

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)
LOAD, POWER, REGISTER = PointId("harbour/site/load_w"), PointId("harbour/m01/p_w"), PointId("harbour/m01/e_import_wh")
WEEKS = 4
QUARTER = timedelta(minutes=15)


def filled(store: MemoryStore, point: PointId, of: Callable[[datetime], float], gaps: list[tuple[datetime, int]]) -> None:
    """Quarter-hours of four weeks up to now, without the gaps (start, intervals)."""
    start = NOW - timedelta(weeks=WEEKS)
    instants = [start + QUARTER * n for n in range(WEEKS * 7 * 96)]
    held = [at for at in instants if not any(begin <= at < begin + QUARTER * count for begin, count in gaps)]
    at_us = np.array([to_us(at) for at in held], np.int64)
    values = np.array([of(at) for at in held])
    batch = ReadingBatch((point,), np.zeros(len(held), np.int32), at_us, values, np.zeros(len(held), np.uint8))
    store.import_readings(batch, "test", NOW)


async def run(store: MemoryStore, **params: Any) -> dict[str, Any]:
    kind = estimate_kind(store, RuleTable(load_rules()), ZoneInfo("Europe/Berlin"), ManualClock(NOW))
    return await kind.run(kind.params.model_validate(params), JobProgress(lambda _share, _message: None))


def load(at: datetime) -> float:
    return 1000.0 + at.weekday() * 100 + at.hour


def register(at: datetime) -> float:
    hours = (at - NOW + timedelta(weeks=WEEKS)).total_seconds() / 3600
    days, hour = divmod(hours, 24)
    return float(round(1e6 + days * 60_000 + min(hour, 12) * 1000 + max(0.0, hour - 12) * 4000))


SHORT, LONG = (NOW - timedelta(hours=20), 4), (NOW - timedelta(hours=60), 40)


async def test_short_gaps_get_a_line_long_ones_like_days_and_points_without_a_rule_nothing() -> None:
    store = MemoryStore()
    filled(store, LOAD, load, [SHORT, LONG])
    filled(store, POWER, load, [SHORT, LONG])
    filled(store, REGISTER, register, [SHORT, LONG])
    result = await run(store)
    assert result == {"points": 2, "estimated": {"linear": 8, "like_day": 40, "like_day_shape": 40}}
    long = store.estimates(LOAD, LONG[0], LONG[0] + QUARTER * LONG[1])
    assert [row.value for row in long] == [load(row.at) for row in long]
    drawn = store.estimates(REGISTER, LONG[0], LONG[0] + QUARTER * LONG[1])
    assert [row.value for row in drawn] == [pytest.approx(register(row.at), abs=1) for row in drawn]
    assert store.estimates(POWER, NOW - timedelta(days=4), NOW) == []


async def test_what_was_estimated_is_not_stored_again() -> None:
    store = MemoryStore()
    filled(store, LOAD, load, [SHORT])
    assert (await run(store))["estimated"] == {"linear": 4}
    assert (await run(store))["estimated"] == {}


async def test_the_newest_two_hours_and_other_points_are_left_alone() -> None:
    store = MemoryStore()
    filled(store, LOAD, load, [SHORT, (NOW - timedelta(hours=1), 2)])
    assert (await run(store, points=["mill/*"])) == {"points": 0, "estimated": {}}
    assert (await run(store, points=["harbour/site/*"]))["estimated"] == {"linear": 4}


async def test_a_span_the_wrong_way_round_is_refused() -> None:
    with pytest.raises(JobFailedError, match="must be before"):
        await run(MemoryStore(), **{"from": NOW, "to": NOW - timedelta(days=1)})
