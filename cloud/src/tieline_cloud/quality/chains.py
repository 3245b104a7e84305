"""The judged numbers of an arrival put in order: for every point a chain in time, joined to what is remembered of it.

A chain of readings older than what is remembered (a backlog, a backfill) is judged within itself and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tieline_cloud.quality.point_state import NEVER_US, PointMemory, PointRows


def point_order(numbers: NDArray[np.int32], at_us: NDArray[np.int64]) -> NDArray[np.intp] | None:
    """Order of rows by point, then instant, then arrival; None when they stand so already."""
    if len(numbers) < 2 or _ordered(numbers, at_us):
        return None
    order = _stable_order(numbers)
    if not _ordered(numbers[order], at_us[order]):
        by_time = _stable_order(at_us)
        order = by_time[_stable_order(numbers[by_time])]
    return order


def _ordered(numbers: NDArray[np.int32], at_us: NDArray[np.int64]) -> bool:
    before, after = numbers[:-1], numbers[1:]
    if not bool((before <= after).all()):
        return False
    return bool(((before < after) | (at_us[:-1] <= at_us[1:])).all())


def _stable_order(keys: NDArray[np.int32] | NDArray[np.int64]) -> NDArray[np.intp]:
    # A key and its position packed into one integer sort stably, and several times faster than a stable argsort.
    bits = len(keys).bit_length()
    low = int(keys.min())
    if (int(keys.max()) - low) >> (63 - bits):
        return np.argsort(keys, kind="stable")
    packed = keys.astype(np.int64)
    packed -= low
    packed <<= bits
    packed |= np.arange(len(packed))
    packed.sort()
    packed &= (1 << bits) - 1
    return packed


@dataclass(frozen=True, slots=True)
class Chains:
    """Columns of n judged numbers in order of their chains, and of m chains.

    Attributes:
        row: Row of the arrival, intp [n].
        at_us: int64 [n].
        value: float64 [n].
        klass: Class of each, int16 [n].
        before_us: Instant of the one before, in the chain or remembered, int64 [n]; NEVER_US = none.
        before: Its number, float64 [n]; NaN = none.
        head: First row of each chain, intp [m]; likewise ``tail`` its last.
        tail: Last row of each chain.
        number: Point of each chain, intp [m].
        fresh: bool [m]; False for a chain that is older than what is remembered.
        known: What was remembered when the arrival came, [m]; empty rows for chains that are not fresh.
    """

    row: NDArray[np.intp]
    at_us: NDArray[np.int64]
    value: NDArray[np.float64]
    klass: NDArray[np.int16]
    before_us: NDArray[np.int64]
    before: NDArray[np.float64]
    head: NDArray[np.intp]
    tail: NDArray[np.intp]
    number: NDArray[np.intp]
    fresh: NDArray[np.bool_]
    known: PointRows

    def chain_of(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Index of the chain each row is in."""
        return np.searchsorted(self.head, rows, side="right") - 1


@dataclass(frozen=True, slots=True)
class Judged:
    """Rows of an arrival that are judged as a sequence: dated, plausible, good numbers. Columns of one length."""

    row: NDArray[np.intp]
    number: NDArray[np.int32]
    at_us: NDArray[np.int64]
    value: NDArray[np.float64]
    klass: NDArray[np.int16]

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Judged:
        """Some of them."""
        return Judged(self.row[rows], self.number[rows], self.at_us[rows], self.value[rows], self.klass[rows])


def build_chains(judged: Judged, memory: PointMemory) -> Chains:
    """Put judged rows in order; a second reading of one instant is left out: it says nothing about a sequence."""
    order = point_order(judged.number, judged.at_us)
    rows = judged if order is None else judged.take(order)
    same_point = rows.number[1:] == rows.number[:-1]
    doubled = same_point & (rows.at_us[1:] == rows.at_us[:-1])
    if doubled.any():
        rows = rows.take(np.concatenate(([True], ~doubled)))
        same_point = rows.number[1:] == rows.number[:-1]
    size = len(rows.row)
    begins = np.empty(size, np.bool_)
    begins[:1] = True
    np.logical_not(same_point, out=begins[1:])
    head = np.flatnonzero(begins)
    newest_us = memory.recall(rows.number[head].astype(np.intp)).at_us
    late = rows.at_us[head] <= newest_us
    if late.any():
        lengths = np.diff(np.append(head, size))
        fresh_row = rows.at_us > np.repeat(newest_us, lengths)
        begins[1:] |= fresh_row[1:] & ~fresh_row[:-1]
        head = np.flatnonzero(begins)
        fresh = fresh_row[head]
    else:
        fresh = ~late
    number = rows.number[head].astype(np.intp)
    known = memory.recall(number)
    if not fresh.all():
        old = np.flatnonzero(~fresh)
        known.put(old, PointRows.empty(len(old)))
    before_us, before = np.empty(size, np.int64), np.empty(size)
    before_us[1:], before[1:] = rows.at_us[:-1], rows.value[:-1]
    before_us[head], before[head] = known.at_us, known.value
    tail = np.append(head[1:], size)[: len(head)] - 1
    return Chains(rows.row, rows.at_us, rows.value, rows.klass, before_us, before, head, tail, number, fresh, known)


def usual_period_us(chains: Chains, rows: NDArray[np.intp], step_us: NDArray[np.int64]) -> NDArray[np.int64]:
    """Median of the up to three intervals before each of these rows, int64 [k]; 0 where there was none.

    Args:
        chains: The chains.
        rows: Rows whose past is asked for.
        step_us: Interval before every row, int64 [n]; 0 = none.
    """
    past = intervals_before(chains, rows, step_us)
    held = (past > 0).sum(axis=1)
    past.sort(axis=1)  # missing ones, 0, come first
    width = past.shape[1]
    median: NDArray[np.int64] = past[np.arange(len(rows)), np.minimum(width - held + held // 2, width - 1)]
    return median


def intervals_before(chains: Chains, rows: NDArray[np.intp], step_us: NDArray[np.int64]) -> NDArray[np.int64]:
    """The intervals before each row but its own, newest first, int64 [k, 3]; 0 = none."""
    chain = chains.chain_of(rows)
    remembered = chains.known.lags_us
    width = remembered.shape[1]
    past = np.empty((len(rows), width), np.int64)
    into = rows - chains.head[chain]
    for lag in range(1, width + 1):
        inside = into >= lag
        older = np.clip(lag - into - 1, 0, width - 1)
        past[:, lag - 1] = np.where(inside, step_us[np.maximum(rows - lag, 0)], remembered[chain, older])
    return past


def intervals_us(chains: Chains) -> NDArray[np.int64]:
    """Interval before every row, int64 [n]; 0 where nothing was before."""
    return np.where(chains.before_us == NEVER_US, 0, chains.at_us - chains.before_us)
