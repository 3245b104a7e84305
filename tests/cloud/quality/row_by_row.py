"""The rules of data quality told plainly: one reading after the other, no arrays. What the examiner must equal."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import median_high

from tieline_cloud.quality.rule_table import RuleTable
from tieline_cloud.quality.rules import MeasurementClass, SpikeRule
from tieline_core.quantities import Quality
from tieline_core.timegrid import EARLIEST, to_us


@dataclass
class Row:
    """A reading: number of its point, both instants, number, quality."""

    point: int
    at_us: int
    value: float
    quality: int
    received_us: int


@dataclass
class Memory:
    """What is remembered of a point."""

    at_us: int | None = None
    value: float = math.nan
    since_us: int = 0
    good: tuple[int, float] | None = None
    lags: list[int] = field(default_factory=list)


@dataclass
class Outcome:
    """What became of each row."""

    found: list[tuple[int, str]] = field(default_factory=list)
    quality: dict[int, int] = field(default_factory=dict)
    misdated: set[int] = field(default_factory=set)


class RowByRow:
    """The slow judge."""

    def __init__(self, table: RuleTable, names: dict[int, str]) -> None:
        self.table = table
        self.names = names
        self.memories: dict[int, Memory] = {}

    def examine(self, rows: list[Row]) -> Outcome:
        """Judge an arrival and remember it."""
        outcome = Outcome()
        chains: dict[int, list[int]] = {}
        for index, row in enumerate(rows):
            outcome.quality[index] = row.quality
            rules = self.table.row_of(self.names[row.point])
            if self._sound(index, row, rules, outcome) and row.quality == Quality.GOOD:
                chains.setdefault(row.point, []).append(index)
        for point, indexes in chains.items():
            self._sequence(point, [(index, rows[index]) for index in indexes], outcome)
        outcome.found.sort()
        return outcome

    def _sound(self, index: int, row: Row, rules: MeasurementClass, outcome: Outcome) -> bool:
        if row.at_us - row.received_us > rules.future_s * 1e6:
            outcome.found.append((index, "future"))
        elif row.received_us - row.at_us > rules.past_days * 86400e6 or row.at_us < to_us(EARLIEST):
            outcome.found.append((index, "past"))
        elif math.isnan(row.value):
            return False
        elif row.value < 0 and not rules.negative:
            outcome.found.append((index, "negative"))
            outcome.quality[index] = Quality.BAD
            return False
        elif (
            math.isinf(row.value)
            or row.value < (-1e100 if rules.minimum is None else rules.minimum)
            or row.value > (1e100 if rules.maximum is None else rules.maximum)
        ):
            outcome.found.append((index, "impossible"))
            outcome.quality[index] = Quality.BAD
            return False
        else:
            return True
        outcome.misdated.add(index)
        return False

    def _sequence(self, point: int, rows: list[tuple[int, Row]], outcome: Outcome) -> None:
        rules = self.table.row_of(self.names[point])
        memory = self.memories.setdefault(point, Memory())
        newest = memory.at_us
        aside = Memory()
        seen: set[int] = set()
        for index, row in sorted(rows, key=lambda pair: pair[1].at_us):
            if row.at_us in seen:
                continue
            seen.add(row.at_us)
            late = newest is not None and row.at_us <= newest
            self._judge(index, row, rules, aside if late else memory, late, outcome)

    def _judge(self, index: int, row: Row, rules: MeasurementClass, memory: Memory, late: bool, outcome: Outcome) -> None:
        def found(rule: str, uncertain: bool) -> None:
            outcome.found.append((index, rule))
            if uncertain:
                outcome.quality[index] = Quality.UNCERTAIN

        before_us, before = memory.at_us, memory.value
        if before_us is None:
            memory.at_us, memory.value, memory.since_us = row.at_us, row.value, row.at_us
            return
        step_us = row.at_us - before_us
        if rules.spike and self._jumps(row, rules.spike, memory):
            found("spike", True)
        if row.value != before:
            memory.since_us = row.at_us
        if rules.stuck and not (rules.stuck.zero_may_stay and row.value == 0):
            limit_us = round(rules.stuck.longer_than_s * 1e6)
            held_us = row.at_us - memory.since_us
            if held_us > limit_us:
                outcome.quality[index] = Quality.UNCERTAIN
                if (held_us - 1) // limit_us > max(0, (before_us - memory.since_us - 1) // limit_us):
                    found("stuck", True)
        if rules.gap and not late:
            period = rules.gap.period_s * 1e6 if rules.gap.period_s else (median_high(memory.lags) if memory.lags else 0)
            if period and step_us > max(rules.gap.periods * period, rules.gap.at_least_s * 1e6):
                found("gap", False)
        if rules.counter:
            self._count(row.value, before, step_us, rules, found)
        memory.at_us, memory.value = row.at_us, row.value
        memory.lags = [step_us, *memory.lags][:3]

    @staticmethod
    def _jumps(row: Row, spike: SpikeRule, memory: Memory) -> bool:
        assert memory.at_us is not None
        before = (memory.at_us, memory.value)

        def near(other: tuple[int, float]) -> bool:
            seconds = (row.at_us - other[0]) * 1e-6
            limit = max(spike.step, spike.share_pct / 100 * abs(other[1]), spike.per_second * seconds)
            return abs(row.value - other[1]) <= limit

        if near(before) or (memory.good is not None and near(memory.good)):
            memory.good = None
            return False
        memory.good = memory.good or before
        return True

    @staticmethod
    def _count(value: float, before: float, step_us: int, rules: MeasurementClass, found: object) -> None:
        counter = rules.counter
        assert counter is not None
        assert callable(found)
        possible = counter.largest_w * (step_us * 1e-6) / 3600 + counter.tolerance_wh
        modulus = counter.modulus_wh
        rise = value - before
        if rise > possible:
            found("exchange", True)
        elif rise < -counter.tolerance_wh:
            if modulus is not None and 0 <= rise + modulus <= min(possible, modulus / 2):
                found("rollover", False)
            elif value <= counter.reset_below_wh and value <= possible:
                found("reset", False)
            else:
                found("exchange", True)
