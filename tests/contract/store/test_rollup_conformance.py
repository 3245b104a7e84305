"""Roll-ups, groups and retention, run over every adapter of the table."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from tests.contract.store.samples import HARBOUR, LOAD, PV, T0, frame, reading
from tieline_cloud.store.adapters import open_store
from tieline_cloud.store.ports import RetentionPolicy, Rollup, RollupLevel, Store
from tieline_cloud.store.rollup import LENGTH_US
from tieline_core.errors import BadInputError
from tieline_core.frame import ReadingBatch
from tieline_core.ids import PointId
from tieline_core.quantities import Quality, Reading
from tieline_core.timegrid import to_us

BERLIN = ZoneInfo("Europe/Berlin")
DAY = timedelta(days=1)
LATER = T0 + timedelta(days=2)
QUARTER_S = 900


def equal(a: Rollup, b: Rollup) -> bool:
    columns = ("start_us", "count", "good", "minimum", "maximum", "mean", "last", "quality")
    return all(np.allclose(getattr(a, name), getattr(b, name), equal_nan=True) for name in columns)


def quarters(point: PointId, start: datetime, count: int, value: Callable[[int], float] = float) -> ReadingBatch:
    """A reading every quarter-hour."""
    return ReadingBatch.of(
        [Reading(point, value(n), start + timedelta(seconds=QUARTER_S * n), Quality.GOOD) for n in range(count)]
    )


@pytest.mark.parametrize("rolled", [False, True])
def test_a_roll_up_counts_and_measures_every_interval(store: Store, *, rolled: bool) -> None:
    store.grant_epoch(HARBOUR, T0)
    rows = [
        reading(LOAD, 1.0, 0),
        reading(LOAD, 5.0, 59.999999, Quality.UNCERTAIN),
        reading(LOAD, None, 30, Quality.BAD),
        reading(LOAD, None, 60, Quality.BAD),
        reading(LOAD, -2.0, 121),
        reading(LOAD, 0.0, 120),
        reading(PV, -7.0, 61),
    ]
    store.commit([frame(1, *rows[:4]), frame(2, *rows[4:])])
    if rolled:
        store.roll_up(LATER, 60.0)
    minutes = store.rollups([LOAD, PV, PointId("no/such/p_w")], RollupLevel.MINUTE, T0, T0 + timedelta(minutes=10))
    load = minutes[LOAD]
    assert load.start_us.tolist() == [to_us(T0), to_us(T0) + 60_000_000, to_us(T0) + 120_000_000]
    assert load.count.tolist() == [2, 0, 2]
    assert load.good.tolist() == [1, 0, 2]
    assert np.array_equal(load.minimum, [1.0, np.nan, -2.0], equal_nan=True)
    assert np.array_equal(load.maximum, [5.0, np.nan, 0.0], equal_nan=True)
    assert np.array_equal(load.mean, [3.0, np.nan, -1.0], equal_nan=True)
    assert np.array_equal(load.last, [5.0, np.nan, -2.0], equal_nan=True)
    assert load.quality.tolist() == [Quality.BAD, Quality.BAD, Quality.GOOD]
    assert minutes[PV].mean.tolist() == [-7.0]
    assert minutes[PointId("no/such/p_w")].start_us.tolist() == []
    for level in (RollupLevel.QUARTER, RollupLevel.HOUR, RollupLevel.DAY):
        day = T0.replace(hour=0)
        whole = store.rollups([LOAD], level, day, day + DAY)[LOAD]
        assert (whole.count.tolist(), whole.good.tolist(), whole.last.tolist()) == ([4], [3], [-2.0])
        assert (whole.minimum.tolist(), whole.maximum.tolist(), whole.mean.tolist()) == ([-2.0], [5.0], [1.0])
    assert store.rollups([LOAD], RollupLevel.HOUR, T0 + timedelta(seconds=1), LATER)[LOAD].start_us.tolist() == []


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "Asia/Kolkata"])
def test_every_level_is_the_same_however_and_whenever_it_is_rolled_up(store_url: str, zone: str) -> None:
    rng = np.random.default_rng(7)
    start = datetime(2026, 3, 28, 12, tzinfo=UTC)
    at = [start + timedelta(seconds=float(s)) for s in rng.uniform(0, 3 * 86_400, 900)]
    rows = [Reading((LOAD, PV)[n % 2], float(n), instant, Quality(n % 3)) for n, instant in enumerate(at)]
    with open_store(store_url, timezone=zone) as store, open_store("memory:", timezone=zone) as other:
        for n in range(9):
            batch = ReadingBatch.of(rows[n * 100 : (n + 1) * 100])
            store.import_readings(batch, "x", T0)
            other.import_readings(batch, "x", T0)
            if n in (2, 3, 6):
                store.roll_up(LATER + n * DAY, 60.0)
            for level in RollupLevel:
                ask = ([LOAD, PV], level, start - DAY, start + 5 * DAY)
                got, expected = store.rollups(*ask), other.rollups(*ask)
                assert all(equal(got[point], expected[point]) for point in (LOAD, PV)), (n, level)
        assert sum(store.rollups([LOAD], RollupLevel.DAY, start - DAY, start + 5 * DAY)[LOAD].count) == 450


@pytest.mark.parametrize(("day", "length"), [((2026, 3, 29), 92), ((2026, 10, 25), 100), ((2026, 1, 15), 96)])
def test_a_day_is_a_local_day_of_92_96_or_100_quarter_hours(store_url: str, day: tuple[int, int, int], length: int) -> None:
    midnight = datetime(*day, tzinfo=BERLIN)
    before = (midnight - DAY).astimezone(UTC)
    with open_store(store_url, timezone="Europe/Berlin") as store:
        store.import_readings(quarters(LOAD, before, 400), "x", T0)
        for _ in range(2):
            days = store.rollups([LOAD], RollupLevel.DAY, midnight, midnight + DAY)[LOAD]
            assert days.start_us.tolist() == [to_us(midnight.astimezone(UTC))]
            assert days.count.tolist() == [length]
            inside = store.rollups([LOAD], RollupLevel.QUARTER, midnight, datetime(*day[:2], day[2] + 1, tzinfo=BERLIN))
            assert len(inside[LOAD].start_us) == length
            store.roll_up(LATER, 60.0)


def test_groups_are_summed_averaged_and_compared(store: Store) -> None:
    names = [PointId(f"harbour/m{n:03d}/p_w") for n in range(100)]
    for n, name in enumerate(names):
        store.import_readings(quarters(name, T0, 8, lambda k, n=n: float(n + k)), "x", T0)  # type: ignore[misc]  # the default binds n
    store.import_readings(quarters(PV, T0, 1), "x", T0)
    groups = {"all": names, "two": [names[3], names[1]], "gap": [PV, names[0]], "none": [PointId("no/such/p_w")], "empty": []}
    ask = (RollupLevel.HOUR, T0, T0 + timedelta(hours=2))
    for _ in range(2):
        sums = store.aggregate(groups, *ask, "sum")
        assert sorted(sums) == ["all", "gap", "none", "two"]
        assert sums["all"].values.tolist() == pytest.approx([4950 + 150, 4950 + 550])
        assert sums["all"].at_us.tolist() == [to_us(T0), to_us(T0) + LENGTH_US[RollupLevel.HOUR]]
        assert sums["all"].quality.tolist() == [Quality.GOOD] * 2
        assert sums["two"].point == names[3]
        assert store.aggregate(groups, *ask, "mean")["two"].values.tolist() == pytest.approx([2 + 1.5, 2 + 5.5])
        assert store.aggregate(groups, *ask, "min")["all"].values.tolist() == [0.0, 4.0]
        assert store.aggregate(groups, *ask, "max")["all"].values.tolist() == [102.0, 106.0]
        # In the second hour one point of the group is silent, and the sum says so.
        assert sums["gap"].values.tolist() == [1.5, 5.5]
        assert sums["gap"].quality.tolist() == [Quality.GOOD, Quality.UNCERTAIN]
        assert sums["none"].values.tolist() == []
        store.roll_up(LATER, 60.0)


def test_the_lag_is_gone_when_everything_is_rolled_up(store: Store) -> None:
    store.import_readings(quarters(LOAD, T0, 100), "x", T0)
    progress = store.roll_up(LATER, 60.0)
    assert (progress.waiting, progress.lag_s) == (0, 0.0)
    assert store.roll_up(LATER, 60.0).buckets == 0


def test_retention_drops_each_level_in_its_time_and_the_coarser_ones_stay(store: Store) -> None:
    start = T0 - 100 * DAY
    names = [LOAD, PointId("harbour/m001/p_w")]
    for name in names:
        store.import_readings(quarters(name, start, 100 * 96), "x", T0)
    policy = RetentionPolicy(raw_days=30, minute_days=10, quarter_days=60, hour_days=80, overrides={"*/m*/p_w": 5})
    assert store.retain(policy, T0) > 0
    for name, days in zip(names, [(30, 10, 60, 80, 100), (5, 5, 5, 80, 100)], strict=True):
        first = {level: int(store.rollups([name], level, start - DAY, T0)[name].start_us[0]) for level in RollupLevel}
        raw = store.series(name, start, T0)
        oldest = [int(raw.at_us[0]), *(first[level] for level in RollupLevel)]
        midnight = T0.replace(hour=0)
        kept = [to_us(midnight - kept_days * DAY) for kept_days in days]
        assert oldest == kept
        daily = store.rollups([name], RollupLevel.DAY, start - DAY, T0 + DAY)[name]
        assert int(daily.count.sum()) == 100 * 96
        means = store.means([name], start - DAY, T0, 1800)[name]
        assert int(means.at_us[0]) == kept[2]
    # A reading that comes late, for a day whose readings are gone, is one more in the roll-ups that are left.
    late = ReadingBatch.of([Reading(LOAD, 1e6, start + timedelta(days=50, hours=12, seconds=1), Quality.GOOD)])
    store.import_readings(late, "late", T0)
    store.roll_up(LATER, 60.0)
    store.retain(policy, T0)
    noon = start + timedelta(days=50, hours=12)
    hour = store.rollups([LOAD], RollupLevel.HOUR, noon, noon + timedelta(hours=1))[LOAD]
    assert (hour.count.tolist(), hour.maximum.tolist()) == ([5], [1e6])
    assert store.retain(policy, T0) == 0
    assert store.retain(RetentionPolicy(None, None, None, None), LATER + 9999 * DAY) == 0


def test_an_unknown_time_zone_is_refused() -> None:
    with pytest.raises(BadInputError, match="timezone"):
        open_store("memory:", timezone="Europe/Atlantis")
