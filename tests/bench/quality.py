"""Examination on arrival: 1,000,000 readings of 100,000 points by the delivered rules, against pandas groupby in the same run.

Three orders of arrival: time-major (ten scans of all points), point-major, and shuffled. One reading in a thousand is
wrong. The peer applies the same rules by groupby of the point; its verdicts on the same rows are compared before anything
is timed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tests.bench.result import write
from tieline_cloud.quality.examiner import RuleExaminer
from tieline_cloud.quality.rule_table import RuleTable
from tieline_cloud.quality.rules import load_rules
from tieline_cloud.store.ports import Arrival
from tieline_core.ids import PointId

POINTS: Final = 100_000
SCANS: Final = 10
STEP_US: Final = 900_000_000
START_US: Final = 1_767_225_600_000_000
QUANTITIES: Final = ("p_w", "v_v", "e_import_wh", "f_hz")


def name(number: int) -> PointId:
    """Point of a number: 25,000 meters of four quantities."""
    meter, kind = divmod(number, len(QUANTITIES))
    return PointId(f"edge{meter // 1000:02d}/m{meter % 1000:03d}/{QUANTITIES[kind]}")


def scans(first: int) -> Arrival:
    """Ten scans of all points, time-major."""
    rng = np.random.default_rng(first)
    size = POINTS * SCANS
    numbers = np.tile(np.arange(POINTS, dtype=np.int32), SCANS)
    scan = first + np.repeat(np.arange(SCANS, dtype=np.int64), POINTS)
    at_us = START_US + scan * STEP_US + rng.integers(0, 1_000_000, size)
    kind = numbers % 4
    noise = rng.normal(0, 1, size)
    base = (2000 + 300 * noise, 230 + noise, 1e6 + 500.0 * scan, 50 + 0.01 * noise)
    values: NDArray[np.float64] = np.choose(kind, base).round(2)
    wrong = rng.choice(size, size // 1000, replace=False)
    values[wrong] = rng.choice([-5.0, 1e14, 0.0, 80.0], len(wrong))
    return Arrival(numbers, at_us, values, np.zeros(size, np.uint8), at_us + 2_000_000, name)


def reordered(arrival: Arrival, order: NDArray[np.intp]) -> Arrival:
    """The same rows in another order."""
    columns = {key: getattr(arrival, key)[order] for key in ("numbers", "at_us", "values", "quality", "received_us")}
    return replace(arrival, **columns)


class Groupby:
    """The same rules with pandas: the last row of each point is put before the arrival, then shift by group."""

    def __init__(self, table: RuleTable) -> None:
        self.table = table
        self.klass = np.array([table.class_of(name(number)) for number in range(POINTS)])
        self.last: pd.DataFrame | None = None

    def examine(self, arrival: Arrival) -> dict[str, NDArray[np.bool_]]:
        """Verdicts by rule on the rows of the arrival, and the frame to remember."""
        table = self.table
        frame = pd.DataFrame(
            {"point": arrival.numbers, "at_us": arrival.at_us, "value": arrival.values, "row": np.arange(len(arrival.at_us))}
        )
        klass = self.klass[frame.point]
        ahead = frame.at_us - arrival.received_us
        misdated = (ahead > table.future_us[klass]) | (-ahead > table.past_us[klass])
        negative = (frame.value < 0) & table.not_negative[klass]
        impossible = ((frame.value < table.minimum[klass]) | (frame.value > table.maximum[klass])) & ~negative
        frame = frame[~(misdated | negative | impossible)]
        if self.last is not None:
            frame = pd.concat([self.last, frame])
        frame = frame.sort_values(["point", "at_us"], kind="stable")
        grouped = frame.groupby("point", sort=False)
        before, step_us = grouped.value.shift(), grouped.at_us.diff()
        klass = self.klass[frame.point]
        usual = step_us.groupby(frame.point, sort=False).shift()
        gap = step_us > np.maximum(table.gap_periods[klass] * usual, table.gap_floor_us[klass])
        limit = np.maximum(table.spike_share[klass] * before.abs(), table.spike_step[klass])
        limit = np.maximum(limit, table.spike_per_second[klass] * step_us * 1e-6)
        far = (frame.value - before).abs() > limit
        back = (frame.value - grouped.value.shift(2)).abs() <= limit
        spike = far & ~back
        run = (frame.value != before).groupby(frame.point, sort=False).cumsum()
        since = frame.at_us.groupby([frame.point, run], sort=False).transform("first")
        stuck = (frame.at_us - since > table.stuck_us[klass]) & ~(table.zero_may_stay[klass] & (frame.value == 0))
        rise = frame.value - before
        counts = table.counts[klass]
        reset = counts & (rise < -table.tolerance[klass]) & (frame.value <= table.reset_below[klass])
        possible = table.largest_w[klass] * step_us * 1e-6 / 3600 + table.tolerance[klass]
        exchange = counts & ((rise > possible) | ((rise < -table.tolerance[klass]) & ~reset))
        self.remembered = grouped.tail(1).assign(row=-1)
        found = {"negative": negative.to_numpy(), "impossible": impossible.to_numpy()}
        for rule, mask in {"spike": spike, "stuck": stuck, "gap": gap, "reset": reset, "exchange": exchange}.items():
            rows = frame.row[mask]
            column = np.zeros(len(arrival.at_us), np.bool_)
            column[rows[rows >= 0]] = True
            found[rule] = column
        return found

    def settle(self) -> None:
        """Remember."""
        self.last = self.remembered


def median_cpu_s(work: Callable[[], object], repeats: int) -> float:
    """Median seconds of one core: both sides run in one thread, and other work on the machine does not count."""
    work()
    seconds = []
    for _ in range(repeats):
        begin = time.process_time()
        work()
        seconds.append(time.process_time() - begin)
    return statistics.median(seconds)


def main() -> None:
    """Measure and write var/bench/quality.json."""
    table = RuleTable(load_rules())
    first, second = scans(0), scans(SCANS)
    size = len(second.numbers)
    examiner, peer = RuleExaminer(table), Groupby(table)
    examiner.settle(examiner.examine(first))
    peer.examine(first)
    peer.settle()
    rng = np.random.default_rng(5)
    orders: dict[str, Arrival] = {
        "time_major": second,
        "point_major": reordered(second, np.argsort(second.numbers, kind="stable")),
        "shuffled": reordered(second, rng.permutation(size)),
    }
    own = examiner.examine(second).findings
    theirs = peer.examine(second)
    agreed = {}
    for rule in ("negative", "impossible", "reset", "exchange"):
        rows = own.rows[np.array(own.rules) == rule]
        agreed[rule] = bool(np.array_equal(np.flatnonzero(theirs[rule]), rows))

    def rate(work: Callable[[], object], repeats: int = 5) -> float:
        return size / median_cpu_s(work, repeats)

    own_rates = {order: rate(partial(examiner.examine, arrival)) for order, arrival in orders.items()}
    peer_rates = {order: rate(partial(peer.examine, arrival), 3) for order, arrival in orders.items()}
    with_settling_s = median_cpu_s(lambda: examiner.settle(examiner.examine(second)), 5)
    figures: dict[str, Any] = {
        "rows": size,
        "points": POINTS,
        "findings": len(own),
        "same_verdicts_as_peer": agreed,
        "readings_per_core_s": own_rates,
        "readings_per_core_s_with_settling": size / with_settling_s,
        "peer": "pandas groupby, the same rules",
        "peer_readings_per_core_s": peer_rates,
        "ratio": {order: own_rates[order] / peer_rates[order] for order in orders},
    }
    write("quality", figures, ("numpy", "pandas"))


if __name__ == "__main__":
    main()
