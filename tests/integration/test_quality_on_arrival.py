"""Frames in; findings, readings set apart and numbers out: a store with its examiner, through restarts and rollbacks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from tieline_cloud.jobs.estimate_job import estimate_kind
from tieline_cloud.jobs.model import JobProgress
from tieline_cloud.quality.counters import interval_energy_wh
from tieline_cloud.quality.estimation import with_estimates
from tieline_cloud.quality.examiner import RuleExaminer
from tieline_cloud.quality.rule_table import RuleTable
from tieline_cloud.quality.rules import MeasurementClass, load_rules
from tieline_cloud.store.adapters import open_store
from tieline_cloud.store.ports import LedgerFrame, Store, Verdict
from tieline_core.clock import ManualClock
from tieline_core.frame import ReadingBatch
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Stream
from tieline_core.quantities import Quality, Reading

EDGE = EdgeId("harbour")
VOLTAGE, FREQUENCY = PointId("harbour/m01/v_v"), PointId("harbour/tr1/f_hz")
REGISTER = PointId("harbour/m01/e_import_wh")
START = datetime(2026, 11, 16, tzinfo=UTC)  # a Monday
REGISTER_CLASS = MeasurementClass.model_validate(
    {
        "name": "household",
        "quantities": ["e_import_wh"],
        "counter": {"modulus_wh": 1e8, "largest_w": 50_000},
        "estimate": {"step_s": 900},
    }
)
TABLE = RuleTable([REGISTER_CLASS, *load_rules()])


class Harbour:
    """Opens one store again and again, and sends frames in sequence."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.seq = 0

    def open(self) -> tuple[Store, RuleExaminer]:
        examiner = RuleExaminer(TABLE)
        store = open_store(self.url, examiner)
        if self.seq == 0:
            store.grant_epoch(EDGE, START)
        return store, examiner

    def frame(self, readings: list[Reading], received_at: datetime) -> LedgerFrame:
        self.seq += 1
        sha256 = hashlib.sha256(str(self.seq).encode()).hexdigest()
        batch = ReadingBatch.of(readings)
        return LedgerFrame(EDGE, 1, Stream.MEASURE, self.seq, self.seq, sha256, received_at, batch)


@pytest.fixture
def harbour(tmp_path: Path) -> Harbour:
    return Harbour(f"duckdb:{tmp_path / 'hub.duckdb'}")


def minutes(point: PointId, values: list[float], start: datetime) -> list[Reading]:
    return [Reading(point, value, start + timedelta(minutes=n)) for n, value in enumerate(values)]


def found(store: Store) -> list[tuple[PointId, datetime, str, float | None]]:
    rows = store.findings(None, None, START - timedelta(days=1), START + timedelta(days=9), 1000)
    return sorted((row.point, row.measured_at, row.rule, row.value) for row in rows)


def test_frames_in_findings_out_and_misdated_ones_set_apart(harbour: Harbour) -> None:
    store, examiner = harbour.open()
    wrong_clock = [
        Reading(VOLTAGE, 231.0, datetime(1970, 1, 1, tzinfo=UTC)),
        Reading(VOLTAGE, 232.0, START + timedelta(hours=2)),
    ]
    with store:
        readings = minutes(VOLTAGE, [230.0, -4.0, 231.0], START) + minutes(FREQUENCY, [50.0, 75.0, 50.01], START) + wrong_clock
        committed = store.commit([harbour.frame(readings, START + timedelta(minutes=3))])
        assert committed.verdicts == (Verdict.ACCEPTED,)
        assert found(store) == [
            (VOLTAGE, START + timedelta(minutes=1), "negative", -4.0),
            (FREQUENCY, START + timedelta(minutes=1), "spike", 75.0),
        ]
        misdated = store.misdated("*/v_v", 10)
        assert {(row.rule, row.value) for row in misdated} == {("past", 231.0), ("future", 232.0)}
        assert {row.received_at for row in misdated} == {START + timedelta(minutes=3)}
        voltage = store.series(VOLTAGE, datetime(1960, 1, 1, tzinfo=UTC), START + timedelta(days=1))
        assert voltage.quality.tolist() == [Quality.GOOD, Quality.BAD, Quality.GOOD]
        assert np.isnan(voltage.values).tolist() == [False, True, False]
        frequency = store.series(FREQUENCY, START, START + timedelta(days=1))
        assert frequency.values.tolist() == [50.0, 75.0, 50.01]
        assert frequency.quality.tolist() == [Quality.GOOD, Quality.UNCERTAIN, Quality.GOOD]
        assert examiner.counts()[0] == len(readings)


def test_after_a_restart_the_first_reading_is_judged_against_the_last_of_before(harbour: Harbour) -> None:
    with harbour.open()[0] as store:
        store.commit([harbour.frame(minutes(REGISTER, [99_999_800.0, 99_999_900.0], START), START + timedelta(minutes=2))])
    with harbour.open()[0] as store:
        later = START + timedelta(minutes=2)
        store.commit([harbour.frame(minutes(REGISTER, [20.0, 120.0], later), later + timedelta(minutes=2))])
        assert found(store) == [(REGISTER, later, "rollover", 20.0)]
        series = store.series(REGISTER, START, START + timedelta(days=1))
        findings = store.findings(REGISTER, None, START, START + timedelta(days=1), 100)
        assert REGISTER_CLASS.counter is not None
        energy = interval_energy_wh(series, findings, REGISTER_CLASS.counter)
        assert energy[1:].tolist() == [100.0, 120.0, 100.0]


def test_a_frame_that_is_not_taken_is_not_remembered(harbour: Harbour) -> None:
    store, examiner = harbour.open()
    with store:
        store.commit([harbour.frame(minutes(FREQUENCY, [50.0], START), START)])
        ahead = harbour.frame(minutes(FREQUENCY, [75.0, 75.0], START + timedelta(minutes=1)), START + timedelta(minutes=3))
        harbour.seq -= 1
        gap = LedgerFrame(EDGE, 1, Stream.MEASURE, 9, 9, "f" * 64, ahead.received_at, ahead.readings)
        assert store.commit([gap]).verdicts == (Verdict.GAP,)
        store.commit([harbour.frame(minutes(FREQUENCY, [50.0], START + timedelta(minutes=5)), START + timedelta(minutes=5))])
        assert found(store) == []
        assert examiner.counts()[0] == 2


def test_a_backlog_behind_live_data_neither_disturbs_nor_is_lost(harbour: Harbour) -> None:
    noon = START + timedelta(hours=12)
    with harbour.open()[0] as store:
        store.commit([harbour.frame(minutes(REGISTER, [5_000.0, 5_010.0], noon), noon + timedelta(minutes=2))])
        backlog = minutes(REGISTER, [1_000.0, 1_010.0, 1_020.0], START)
        store.commit([harbour.frame(backlog, noon + timedelta(minutes=3))])
        onward = minutes(REGISTER, [5_020.0], noon + timedelta(minutes=2))
        store.commit([harbour.frame(onward, noon + timedelta(minutes=4))])
        assert found(store) == []
        assert len(store.series(REGISTER, START, START + timedelta(days=1)).at_us) == 6


def quarters(of: Callable[[int], float], first: int, end: int) -> list[Reading]:
    return [Reading(REGISTER, of(n), START + timedelta(minutes=15 * n)) for n in range(first, end)]


async def test_a_gap_is_filled_apart_from_the_readings_and_the_true_reading_takes_its_place(harbour: Harbour) -> None:
    def register(n: int) -> float:
        return 1000.0 + 100.0 * n

    now = START + timedelta(hours=30)
    store, _ = harbour.open()
    with store:
        store.commit([harbour.frame([*quarters(register, 0, 40), *quarters(register, 46, 110)], now)])
        kind = estimate_kind(store, TABLE, ZoneInfo("UTC"), ManualClock(now))
        for expected in ({"linear": 6}, {}):
            result = await kind.run(kind.params(), JobProgress(lambda _share, _text: None))
            assert result == {"points": 1, "estimated": expected}
        estimates = store.estimates(REGISTER, START, now)
        assert [(row.at, row.value, row.method) for row in estimates] == [
            (START + timedelta(minutes=15 * n), register(n), "linear") for n in range(40, 46)
        ]
        series = store.series(REGISTER, START, now)
        assert len(series.at_us) == 104
        shown = with_estimates(series, estimates, 900_000_000)
        assert np.flatnonzero(shown.quality == Quality.SUBSTITUTED).tolist() == list(range(40, 46))
        store.commit([harbour.frame([Reading(REGISTER, 5_111.0, START + timedelta(minutes=15 * 41))], now)])
        shown = with_estimates(store.series(REGISTER, START, now), estimates, 900_000_000)
        assert shown.values[39:43].tolist() == [register(39), register(40), 5_111.0, register(42)]
        assert shown.quality[41] == Quality.GOOD
