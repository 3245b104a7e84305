"""History, issuing, fallback, learning and restart of the edge's forecaster."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from tests.edge.forecasting.conftest import Parcel
from tieline_core.errors import PermanentError
from tieline_core.forecast_gate import MIN_DAYS, ScoreBook
from tieline_core.forecast_inputs import DAY_STEPS, HORIZON_STEPS, STEP, LoadHistory, NotEnoughHistoryError
from tieline_core.ids import PointId
from tieline_core.quantities import Quality, Reading
from tieline_core.timegrid import to_us
from tieline_edge.forecasting.forecaster import Forecaster
from tieline_edge.forecasting.graph_check import ModelRefusedError
from tieline_edge.forecasting.history import KEPT, HistoryStore, OpenInterval
from tieline_edge.forecasting.runtime import LoadModel
from tieline_edge.forecasting.store import ModelStore

POINT = PointId("harbour/site/load_w")
START = datetime(2016, 12, 1, tzinfo=UTC)


@pytest.fixture
async def history(tmp_path: Path) -> AsyncIterator[HistoryStore]:
    """An open, empty history."""
    async with HistoryStore(tmp_path / "forecast.db") as store:
        yield store


def _forecaster(tmp_path: Path, history: HistoryStore) -> Forecaster:
    return Forecaster(POINT, ModelStore(tmp_path / "models"), history)


async def _install(forecaster: Forecaster, parcel: Parcel) -> None:
    await forecaster.install(parcel.manifest, parcel.onnx, parcel.seed, parcel.envelope)


def _load(instant: datetime) -> float:
    hour = instant.hour + instant.minute / 60
    return 4e5 + 1e5 * float(np.sin((hour - 9) / 24 * 2 * np.pi))


async def _measure(history: HistoryStore, start: datetime, steps: int) -> None:
    rows = np.array([_load(start + STEP * place) for place in range(steps)])
    await history.seed(POINT, LoadHistory(start, rows, np.zeros(steps, dtype=bool)))


def test_an_interval_closes_into_its_time_weighted_mean() -> None:
    running, us = OpenInterval(), to_us(START)
    assert running.add(us, 100.0) == []
    assert running.add(us + 300_000_000, 400.0) == []
    assert running.add(us - 1, 9.0) == []
    assert running.add(us + 900_000_000, 50.0) == [(us // 900_000_000, 300.0)]
    assert running.close_before(us + 901_000_000) == []
    assert running.close_before(us + 1_800_000_000) == [(us // 900_000_000 + 1, 50.0)]


def test_a_long_silence_leaves_a_gap_not_a_held_value() -> None:
    running, us = OpenInterval(), to_us(START)
    running.add(us, 100.0)
    closed = running.add(us + 86_400_000_000, 200.0)
    assert closed == [(us // 900_000_000, 100.0)]
    assert OpenInterval().close_before(us) == []


async def test_readings_become_quarter_hours_and_bad_ones_leave_gaps(history: HistoryStore) -> None:
    for second in range(0, 3600, 60):
        instant = START + timedelta(seconds=second)
        await history.add(Reading(POINT, 100.0 + second // 900, instant))
        await history.add(Reading(POINT, None, instant, Quality.BAD))
        await history.add(Reading(POINT, 1e9, instant, Quality.STALE))
    await history.close_before(POINT, START + timedelta(hours=1))
    kept = await history.before(POINT, START + timedelta(hours=1))
    np.testing.assert_allclose(kept.values, [100.0, 101.0, 102.0, 103.0])
    assert not kept.substituted.any()
    with pytest.raises(NotEnoughHistoryError):
        await history.before(PointId("harbour/site/pv_w"), START)


async def test_sixty_days_are_kept(history: HistoryStore) -> None:
    await _measure(history, START - KEPT - timedelta(days=3), 10)
    await _measure(history, START - timedelta(hours=5), 20)
    for quarter in range(3):
        await history.add(Reading(POINT, 5.0, START + STEP * quarter))
    kept = await history.before(POINT, START + STEP)
    assert kept.start == START - timedelta(hours=5)


async def test_a_seed_never_overwrites_what_was_measured_here(history: HistoryStore) -> None:
    for quarter in range(3):
        await history.add(Reading(POINT, 5.0, START + STEP * quarter))
    await _measure(history, START - STEP * 8, 12)
    kept = await history.before(POINT, START + STEP * 2)
    assert kept.values[-2:].tolist() == [5.0, 5.0]
    assert kept.values[0] == _load(START - STEP * 8)


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path / "deep" / "forecast.db")
    with pytest.raises(PermanentError, match="not open"):
        await store.before(POINT, START)
    async with store:
        pass
    await store.__aexit__(None, None, None)


async def test_a_new_edge_forecasts_at_once_from_the_seed(tmp_path: Path, history: HistoryStore, parcel: Parcel) -> None:
    forecaster = _forecaster(tmp_path, history)
    await forecaster.start()
    assert forecaster.model_sha256 is None
    await _install(forecaster, parcel)
    manifest = parcel.read
    issued = await forecaster.issue(manifest.trained_to + timedelta(minutes=7))
    assert issued is not None
    assert issued.model_id == manifest.model_id
    assert issued.issued_at == issued.start == manifest.trained_to
    assert len(issued.p50) == HORIZON_STEPS
    assert all(
        a <= b <= c <= d <= e
        for a, b, c, d, e in zip(issued.lo90, issued.p10, issued.p50, issued.p90, issued.hi90, strict=True)
    )
    assert forecaster.fallback_reason is None
    assert forecaster.model_sha256 == parcel.envelope


async def test_the_model_and_the_history_survive_a_restart(tmp_path: Path, parcel: Parcel) -> None:
    now = parcel.read.trained_to
    async with HistoryStore(tmp_path / "forecast.db") as history:
        forecaster = _forecaster(tmp_path, history)
        await _install(forecaster, parcel)
        before = await forecaster.issue(now)
    async with HistoryStore(tmp_path / "forecast.db") as history:
        forecaster = _forecaster(tmp_path, history)
        await forecaster.start()
        assert await forecaster.issue(now) == before


async def test_without_a_model_the_weekly_naive_speaks_and_says_so(tmp_path: Path, history: HistoryStore) -> None:
    forecaster = _forecaster(tmp_path, history)
    assert await forecaster.issue(START) is None
    await _measure(history, START - timedelta(hours=5), 20)
    assert await forecaster.issue(START) is None
    await _measure(history, START - timedelta(days=2), 2 * DAY_STEPS)
    day = await forecaster.issue(START)
    await _measure(history, START - timedelta(days=20), 20 * DAY_STEPS)
    week = await forecaster.issue(START)
    assert day is not None
    assert week is not None
    assert (day.model_id, week.model_id) == ("fallback:last-day", "fallback:weekly-naive")
    assert week.p50[0] == pytest.approx(_load(START), abs=0.1)
    assert forecaster.fallback_reason is not None


async def test_a_model_that_breaks_falls_back_and_comes_back(
    tmp_path: Path, history: HistoryStore, parcel: Parcel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    forecaster = _forecaster(tmp_path, history)
    await _install(forecaster, parcel)
    now = parcel.read.trained_to

    def broken(_self: LoadModel, _inputs: object) -> None:
        raise ModelRefusedError("run", "planted")

    with monkeypatch.context() as fault:
        fault.setattr(LoadModel, "run", broken)
        for _ in range(3):
            issued = await forecaster.issue(now)
            assert issued is not None
            assert issued.model_id == "fallback:weekly-naive"
    assert forecaster.fallback_reason == "model refused (run): planted"
    assert caplog.text.count("falls back") == 1
    recovered = await forecaster.issue(now)
    assert recovered is not None
    assert recovered.model_id == parcel.read.model_id


async def test_a_hole_in_the_window_falls_back_to_the_day_that_is_there(
    tmp_path: Path, history: HistoryStore, parcel: Parcel
) -> None:
    forecaster = _forecaster(tmp_path, history)
    await _install(forecaster, parcel)
    late = parcel.read.trained_to + timedelta(days=20)
    assert await forecaster.issue(late) is None
    assert "missing" in str(forecaster.fallback_reason)
    await _measure(history, late - timedelta(days=2), 2 * DAY_STEPS)
    issued = await forecaster.issue(late)
    assert issued is not None
    assert issued.model_id == "fallback:last-day"
    assert issued.p50[5] == pytest.approx(_load(late + STEP * 5), abs=0.1)


async def test_a_refused_model_leaves_the_present_one_in_use(tmp_path: Path, history: HistoryStore, parcel: Parcel) -> None:
    forecaster = _forecaster(tmp_path, history)
    await _install(forecaster, parcel)
    with pytest.raises(ModelRefusedError):
        await forecaster.install(parcel.manifest, parcel.onnx[:-1], parcel.seed, "f" * 64)
    assert forecaster.model_sha256 == parcel.envelope
    issued = await forecaster.issue(parcel.read.trained_to)
    assert issued is not None
    assert issued.model_id == parcel.read.model_id


async def test_reverting_uses_the_previous_model(tmp_path: Path, history: HistoryStore, parcel: Parcel) -> None:
    forecaster = _forecaster(tmp_path, history)
    assert not await forecaster.revert()
    await _install(forecaster, parcel)
    second = parcel.changed(model_id="load-second")
    await forecaster.install(second.manifest, second.onnx, second.seed, "f" * 64)
    assert await forecaster.revert()
    assert forecaster.model_sha256 == parcel.envelope


async def test_gate_and_bands_are_learned_from_issued_forecasts_and_survive_a_restart(tmp_path: Path, parcel: Parcel) -> None:
    now = parcel.read.trained_to
    shift = timedelta(days=1)
    async with HistoryStore(tmp_path / "forecast.db") as history:
        forecaster = _forecaster(tmp_path, history)
        await _install(forecaster, parcel)
        for day in range(MIN_DAYS + 3):
            at = now + shift * day
            await forecaster.issue(at)
            # From the day of issue on the load is a flat 400 kW.
            flat = LoadHistory(at, np.full(DAY_STEPS, 4e5), np.zeros(DAY_STEPS, dtype=bool))
            await history.seed(POINT, flat)
        learned = await forecaster.issue(now + shift * (MIN_DAYS + 3))
        await forecaster.add(Reading(PointId("harbour/site/pv_w"), 1.0, now))
    assert learned is not None
    widths = np.array(learned.hi90) - np.array(learned.lo90)
    async with HistoryStore(tmp_path / "forecast.db") as history:
        fresh = _forecaster(tmp_path, history)
        await fresh.start()
        assert await fresh.issue(now + shift * (MIN_DAYS + 3)) == learned
        untaught = _forecaster(tmp_path, history)
        await history.connection.execute("DELETE FROM score_book")
        await history.connection.execute("DELETE FROM issued")
        await untaught.start()
        default = await untaught.issue(now + shift * (MIN_DAYS + 3))
    assert default is not None
    assert default.lo90 != learned.lo90
    assert (widths >= 0).all()
    assert abs(learned.p50[20] - 4e5) < abs(default.p50[20] - 4e5)


async def test_scores_of_other_experts_are_not_taken(tmp_path: Path, history: HistoryStore, parcel: Parcel) -> None:
    forecaster = _forecaster(tmp_path, history)
    await _install(forecaster, parcel)
    await forecaster.issue(parcel.read.trained_to)
    keeper = forecaster._keeper
    assert (await keeper.book(("someone", "else"))).errors.shape == ScoreBook.empty(2).errors.shape
    await _measure(history, parcel.read.trained_to, DAY_STEPS)
    past = await history.before(POINT, parcel.read.trained_to + timedelta(days=1))
    book = await keeper.score(past, parcel.read.zone, ("someone", "else"))
    assert book.scored_days == 0


async def test_readings_feed_the_forecast(tmp_path: Path, history: HistoryStore, parcel: Parcel) -> None:
    forecaster = _forecaster(tmp_path, history)
    await _install(forecaster, parcel)
    now = parcel.read.trained_to
    quiet = await forecaster.issue(now + STEP * 4)
    for minute in range(0, 60, 5):
        await forecaster.add(Reading(POINT, 9e5, now + timedelta(minutes=minute)))
    risen = await forecaster.issue(now + STEP * 4)
    assert quiet is not None
    assert risen is not None
    assert risen.p50 != quiet.p50
    assert risen.model_id == quiet.model_id == parcel.read.model_id
    assert (await history.before(POINT, now + STEP * 4)).values[-4:].tolist() == [9e5] * 4
