"""The rules that look at a reading and the ones before it: spike, stuck, gap, and the steps of counters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tieline_cloud.quality.chains import Chains, intervals_before, intervals_us, usual_period_us
from tieline_cloud.quality.counters import RULE_OF, judge_steps
from tieline_cloud.quality.point_state import NEVER_US, PointRows
from tieline_cloud.quality.rule_table import RuleTable
from tieline_cloud.quality.rules import Rule

_US: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What one rule found: rows (of chains or of an arrival), and the figure it compared with; columns of one length."""

    rule: Rule
    rows: NDArray[np.intp]
    limits: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SequenceResult:
    """What the sequence rules say of chains.

    Attributes:
        verdicts: One of each rule that found something.
        uncertain: Rows of the chains whose number stays but cannot be trusted, one array a reason.
        after: What is to be remembered of each chain's point.
    """

    verdicts: list[Verdicts]
    uncertain: list[NDArray[np.intp]]
    after: PointRows


def judge_sequences(chains: Chains, table: RuleTable) -> SequenceResult:
    """Apply every sequence rule to chains."""
    step_us = intervals_us(chains)
    gap = _gaps(chains, table, step_us)
    counted = _counter_steps(chains, table, step_us)
    stuck, held, since_us = _stuck(chains, table)
    spike, good_at_us, good = _spikes(chains, table)
    after = PointRows(
        klass=chains.klass[chains.head],
        at_us=chains.at_us[chains.tail],
        value=chains.value[chains.tail],
        since_us=since_us,
        good_at_us=good_at_us,
        good=good,
        lags_us=_lags_after(chains, step_us),
    )
    exchanges = [found.rows for found in counted if found.rule is Rule.EXCHANGE]
    verdicts = [found for found in (spike, stuck, gap, *counted) if len(found.rows)]
    return SequenceResult(verdicts, [held, spike.rows, *exchanges], after)


def _lags_after(chains: Chains, step_us: NDArray[np.int64]) -> NDArray[np.int64]:
    past = intervals_before(chains, chains.tail, step_us)
    newest = step_us[chains.tail]
    # A point's very first reading has no interval before it.
    return np.where((newest > 0)[:, None], np.column_stack((newest, past[:, :-1])), past)


def _gaps(chains: Chains, table: RuleTable, step_us: NDArray[np.int64]) -> Verdicts:
    rows = np.flatnonzero(step_us > table.gap_floor_us[chains.klass])
    # A backlog's past lies in other arrivals, as may what seems to be missing within it.
    rows = rows[chains.fresh[chains.chain_of(rows)]]
    klass = chains.klass[rows]
    declared = table.gap_period_us[klass]
    period = np.where(declared < 2**62, declared, usual_period_us(chains, rows, step_us)).astype(np.float64)
    limit_us = np.maximum(table.gap_periods[klass] * period, table.gap_floor_us[klass])
    found = (period > 0) & (step_us[rows] > limit_us)
    return Verdicts(Rule.GAP, rows[found], limit_us[found] * _US)


def _counter_steps(chains: Chains, table: RuleTable, step_us: NDArray[np.int64]) -> list[Verdicts]:
    if not table.counts.any():
        return []
    rise = chains.value - chains.before
    # Cheap on everything, exact on the few that are left.
    odd = (rise < 0) | (rise > table.largest_w[chains.klass] * (step_us * (_US / 3600)))
    rows = np.flatnonzero(odd & table.counts[chains.klass])
    klass = chains.klass[rows]
    limits = (table.modulus[klass], table.reset_below[klass], table.largest_w[klass], table.tolerance[klass])
    seconds = _seconds(step_us[rows])
    steps, possible = judge_steps(chains.before[rows], chains.value[rows], seconds, limits)
    figure = {Rule.ROLLOVER: limits[0], Rule.RESET: limits[1], Rule.EXCHANGE: possible}
    return [Verdicts(rule, rows[steps == step], figure[rule][steps == step]) for step, rule in RULE_OF.items()]


def _stuck(chains: Chains, table: RuleTable) -> tuple[Verdicts, NDArray[np.intp], NDArray[np.int64]]:
    """Findings, one each time the limit has passed again; rows that are held; since when each chain's last number stands."""
    size = len(chains.row)
    same = chains.value == chains.before
    known = same[chains.head]
    same[chains.head] = False
    begin = np.where(same, 0, np.arange(size))
    np.maximum.accumulate(begin, out=begin)
    since_us = chains.at_us.copy()
    since_us[chains.head[known]] = chains.known.since_us[known]
    since_us = since_us[begin]
    limit_us = table.stuck_us[chains.klass]
    held = np.flatnonzero(chains.at_us - since_us > limit_us)
    held = held[~(table.zero_may_stay[chains.klass[held]] & (chains.value[held] == 0))]
    limits = limit_us[held]
    passed = (chains.at_us[held] - since_us[held] - 1) // limits
    passed_before = (chains.before_us[held] - since_us[held] - 1) // limits
    told = passed > np.maximum(passed_before, 0)
    return Verdicts(Rule.STUCK, held[told], limits[told] * _US), held, since_us[chains.tail]


def _spikes(chains: Chains, table: RuleTable) -> tuple[Verdicts, NDArray[np.int64], NDArray[np.float64]]:
    """Findings, and for each chain whose last number waits for confirmation the last good one: instant and number.

    Between jumps every number is good, so only jumps and what follows until the next good number are walked row by row.
    """
    good_at_us, good = np.full(len(chains.head), NEVER_US, np.int64), np.full(len(chains.head), np.nan)
    waits = chains.known.good_at_us != NEVER_US
    if not (np.isfinite(table.spike_step[chains.klass[chains.head]]).any() or waits.any()):
        return Verdicts(Rule.SPIKE, np.zeros(0, np.intp), np.zeros(0)), good_at_us, good
    seconds = _seconds(chains.at_us - chains.before_us)
    jump = np.abs(chains.value - chains.before) > _spike_limit(table, chains.klass, chains.before, seconds)
    jump[chains.head[waits]] = True
    rows, limits, done = [], [], -1
    starts = np.flatnonzero(jump)
    for start, chain in zip(starts.tolist(), chains.chain_of(starts).tolist(), strict=True):
        if start < done:
            continue
        walk = _Walk(chains, table, chain, start)
        done = walk.run()
        rows += walk.rows
        limits += walk.limits
        if walk.waits:
            good_at_us[chain], good[chain] = walk.good_at_us, walk.good
    return Verdicts(Rule.SPIKE, np.array(rows, np.intp), np.array(limits)), good_at_us, good


def _seconds(us: NDArray[np.int64]) -> NDArray[np.float64]:
    return us.astype(np.float64) * _US


def _spike_limit(
    table: RuleTable, klass: NDArray[np.int16], good: NDArray[np.float64], seconds: NDArray[np.float64]
) -> NDArray[np.float64]:
    limit = table.spike_share[klass] * np.abs(good)
    np.maximum(limit, table.spike_per_second[klass] * seconds, out=limit)
    return np.maximum(limit, table.spike_step[klass], out=limit)


class _Walk:
    """From a jump to the next good number, row by row: good is what is near the last good number, or near the one before."""

    def __init__(self, chains: Chains, table: RuleTable, chain: int, start: int) -> None:
        klass = int(chains.klass[start])
        self._factors = (
            float(table.spike_step[klass]),
            float(table.spike_share[klass]),
            float(table.spike_per_second[klass]),
        )
        self._chains = chains
        self._start = start
        self._end = int(chains.tail[chain]) + 1
        pending = start == int(chains.head[chain]) and int(chains.known.good_at_us[chain]) != NEVER_US
        before = (int(chains.before_us[start]), float(chains.before[start]))
        self.good_at_us, self.good = (
            (int(chains.known.good_at_us[chain]), float(chains.known.good[chain])) if pending else before
        )
        self._candidate = before if pending else None
        self.rows: list[int] = []
        self.limits: list[float] = []
        self.waits = False

    def run(self) -> int:
        """Walk; returns the row after the last one judged."""
        chains = self._chains
        for row in range(self._start, self._end):
            at_us, value = int(chains.at_us[row]), float(chains.value[row])
            limit = self._limit(self.good, at_us - self.good_at_us)
            candidate = self._candidate
            if abs(value - self.good) <= limit or (
                candidate is not None and abs(value - candidate[1]) <= self._limit(candidate[1], at_us - candidate[0])
            ):
                return row + 1
            self.rows.append(row)
            self.limits.append(limit)
            self._candidate = (at_us, value)
        self.waits = True
        return self._end

    def _limit(self, good: float, since_us: int) -> float:
        step, share, per_second = self._factors
        return max(step, share * abs(good), per_second * (since_us * _US))
