"""Validation on arrival: judges every reading by the rules of its measurement class, an arrival at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tieline_cloud.quality.chains import Judged, build_chains
from tieline_cloud.quality.point_state import PointMemory, PointRows
from tieline_cloud.quality.rule_table import EARLIEST_US, RuleTable
from tieline_cloud.quality.rules import Rule
from tieline_cloud.quality.sequence_rules import Verdicts, judge_sequences
from tieline_cloud.store.ports import Arrival, Examined, Findings, LastValue
from tieline_core.ids import PointId
from tieline_core.quantities import Quality
from tieline_core.timegrid import LATEST, to_us

_RULES: Final = tuple(Rule)
_ORDINAL: Final = {rule: ordinal for ordinal, rule in enumerate(_RULES)}
_LATEST_US: Final = to_us(LATEST)


@dataclass(frozen=True, slots=True)
class _Change:
    """What to remember once the arrival is durable: rows of points, and how much was found."""

    numbers: NDArray[np.intp]
    rows: PointRows
    examined: int
    found: dict[Rule, int]


class RuleExaminer:
    """The rules of data quality on arrival, as :class:`tieline_cloud.store.ports.Examiner`.

    A reading dated wrongly is set apart, an impossible number becomes *bad* (the finding keeps it), one that may be wrong
    becomes *uncertain* and keeps its number. Readings that came with another quality than good are held against the limits
    of their class, but neither judged in sequence nor remembered.

    Args:
        table: The rules.
    """

    def __init__(self, table: RuleTable) -> None:
        self.table: Final = table
        self._memory = PointMemory()
        self._lock = threading.Lock()
        self._examined = 0
        self._found = dict.fromkeys(_RULES, 0)

    def restore(self, last: Sequence[LastValue], number: Callable[[PointId], int | None]) -> None:
        """Begin from the last good values of a store that has just been opened."""
        rows = [
            (index, value.point, to_us(value.at), value.value)
            for value in last
            if value.value is not None and value.quality == Quality.GOOD and (index := number(value.point)) is not None
        ]
        self._memory = PointMemory()
        remembered = PointRows.empty(len(rows))
        remembered.klass[:] = [self.table.class_of(point) for _, point, _, _ in rows]
        remembered.at_us[:] = remembered.since_us[:] = [at_us for _, _, at_us, _ in rows]
        remembered.value[:] = [value for _, _, _, value in rows]
        self._memory.keep(np.array([index for index, _, _, _ in rows], np.intp), remembered)

    def examine(self, arrival: Arrival) -> Examined:
        """Judge an arrival; nothing changes before :meth:`settle`."""
        size = len(arrival.numbers)
        klass = self._classes(arrival)
        dated, misdated = self._dates(arrival, klass)
        implausible = self._limits(arrival, klass, dated)
        sound = arrival.quality == Quality.GOOD
        sound &= ~np.isnan(arrival.values)
        for verdicts in (*misdated, *implausible):
            sound[verdicts.rows] = False
        judged = Judged(np.arange(size), arrival.numbers, arrival.at_us, arrival.values, klass)
        chains = build_chains(judged if sound.all() else judged.take(sound), self._memory)
        with np.errstate(over="ignore", invalid="ignore"):  # two sound numbers may lie further apart than a float can say
            result = judge_sequences(chains, self.table)
        values, quality = arrival.values, arrival.quality
        if implausible:
            values = values.copy()
            quality = quality.copy()
            for verdicts in implausible:
                values[verdicts.rows] = np.nan
                quality[verdicts.rows] = Quality.BAD
        if any(len(rows) for rows in result.uncertain):
            quality = quality.copy()
            for rows in result.uncertain:
                quality[chains.row[rows]] = Quality.UNCERTAIN
        verdicts_of_rows = [Verdicts(found.rule, chains.row[found.rows], found.limits) for found in result.verdicts]
        findings, found = _gathered([*misdated, *implausible, *verdicts_of_rows])
        change = _Change(chains.number[chains.fresh], result.after.take(chains.fresh), size, found)
        return Examined(values, quality, dated, findings, change)

    def settle(self, examined: Examined) -> None:
        """The commit of what was examined is durable: remember it."""
        change = examined.state
        if not isinstance(change, _Change):
            raise TypeError("settle takes what examine of this examiner gave")
        self._memory.keep(change.numbers, change.rows)
        with self._lock:
            self._examined += change.examined
            for rule, count in change.found.items():
                self._found[rule] += count

    def counts(self) -> tuple[int, dict[Rule, int]]:
        """Readings examined and findings by rule, durable ones, since the start; from any thread."""
        with self._lock:
            return self._examined, dict(self._found)

    def _classes(self, arrival: Arrival) -> NDArray[np.int16]:
        numbers, known = arrival.numbers, self._memory.klass
        if not len(numbers):
            return np.zeros(0, np.int16)
        top = int(numbers.max()) + 1
        if top > len(known):
            known = np.concatenate((known, np.full(top - len(known), -1, np.int16)))
        klass = known[numbers]
        new = klass < 0
        if new.any():
            known = known.copy()
            for number in np.unique(numbers[new]).tolist():
                known[number] = self.table.class_of(arrival.name(number))
            klass = known[numbers]
        return klass

    def _dates(self, arrival: Arrival, klass: NDArray[np.int16]) -> tuple[NDArray[np.bool_], list[Verdicts]]:
        dated = np.ones(len(arrival.at_us), np.bool_)
        if not len(dated):
            return dated, []
        table = self.table
        # No difference of instants can overflow, whatever a clock said.
        ahead_us = np.clip(arrival.at_us, -_LATEST_US, _LATEST_US) - arrival.received_us
        if (
            int(ahead_us.max()) <= int(table.future_us.min())
            and -int(ahead_us.min()) <= int(table.past_us.min())
            and int(arrival.at_us.min()) >= EARLIEST_US
        ):
            return dated, []
        future_us, past_us = table.future_us[klass], table.past_us[klass]
        future = ahead_us > future_us
        past = (-ahead_us > past_us) | (arrival.at_us < EARLIEST_US)
        found = []
        for rule, rows, limit in (
            (Rule.FUTURE, np.flatnonzero(future), future_us),
            (Rule.PAST, np.flatnonzero(past & ~future), past_us),
        ):
            if len(rows):
                dated[rows] = False
                found.append(Verdicts(rule, rows, limit[rows].astype(np.float64) * 1e-6))
        return dated, found

    def _limits(self, arrival: Arrival, klass: NDArray[np.int16], dated: NDArray[np.bool_]) -> list[Verdicts]:
        table, values = self.table, arrival.values
        low = values < table.minimum[klass]  # NaN is below and above nothing
        high = values > table.maximum[klass]
        rows = np.flatnonzero((low | high) & dated)
        if not len(rows):
            return []
        negative = (values[rows] < 0) & table.not_negative[klass[rows]]
        bound = np.where(high[rows], table.maximum[klass[rows]], table.minimum[klass[rows]])
        split = ((Rule.IMPOSSIBLE, ~negative), (Rule.NEGATIVE, negative))
        return [Verdicts(rule, rows[mask], bound[mask]) for rule, mask in split if mask.any()]


def _gathered(verdicts: Sequence[Verdicts]) -> tuple[Findings, dict[Rule, int]]:
    """Findings in the order of rows, and of rules within a row; and how many of each rule."""
    if not verdicts:
        return Findings(np.zeros(0, np.int64), (), np.zeros(0)), {}
    rows = np.concatenate([found.rows for found in verdicts]).astype(np.int64)
    ordinals = np.concatenate([np.full(len(found.rows), _ORDINAL[found.rule]) for found in verdicts])
    limits = np.concatenate([found.limits for found in verdicts])
    order = np.lexsort((ordinals, rows))
    names = tuple(_RULES[ordinal].value for ordinal in ordinals[order].tolist())
    return Findings(rows[order], names, limits[order]), {found.rule: len(found.rows) for found in verdicts}
