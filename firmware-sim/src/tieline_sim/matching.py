"""Matching of what was said with what is stored, for one point."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

#: Both sides round the same clock; an answer and its stamp may change places by this much.
_SAME_INSTANT_US: Final = 10_000


@dataclass(frozen=True, slots=True)
class Sent:
    """A transmitted value; ``units`` counts steps of the point's resolution, ``excusable`` when nothing was promised for it."""

    micros: int
    number: int
    units: int
    excusable: bool


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored value."""

    micros: int
    value: float
    quality: str


@dataclass(frozen=True, slots=True)
class Finding:
    """A defect."""

    kind: str
    micros: int
    value: float
    why: str


@dataclass
class Match:
    """Outcome for one point."""

    rows: Sequence[Stored]
    rule_units: Callable[[float], int]
    stamped: bool
    pairs: list[tuple[Sent, Stored]] = field(default_factory=list)
    missing: list[Sent] = field(default_factory=list)
    excused: list[Sent] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    readbacks: int = 0

    @property
    def stored(self) -> int:
        """Rows in the store."""
        return len(self.rows)

    def excuse(self, allowed: Callable[[Sent], bool], readback: bool) -> None:
        """Sort what is missing into excused and lost, and note each loss."""
        missing, self.missing = self.missing, []
        for sent in missing:
            if allowed(sent):
                self.excused.append(sent)
            elif readback:
                self.readbacks += 1
            else:
                self.missing.append(sent)
                self.findings.append(Finding("lost", sent.micros, sent.units, "was transmitted and is not stored"))


def match_stamped(
    sent: Sequence[Sent], offered: Mapping[int, Sent], stored: Sequence[Stored], units: Callable[[float], int]
) -> Match:
    """Match by stamp: every stamp once."""
    match = Match(stored, units, stamped=True)
    certain = {row.micros: row for row in sent}
    seen: set[int] = set()
    for row in stored:
        source = certain.get(row.micros) or offered.get(row.micros)
        if source is None:
            match.findings.append(Finding("fabricated", row.micros, row.value, "nothing was sent with this stamp"))
        elif row.micros in seen:
            match.findings.append(Finding("duplicated", row.micros, row.value, "this stamp is stored more than once"))
        elif source.units != units(row.value):
            match.findings.append(
                Finding(
                    "fabricated", row.micros, row.value, f"differs from what was sent, {source.units} steps of the resolution"
                )
            )
        else:
            seen.add(row.micros)
            match.pairs.append((source, row))
    match.missing = [row for micros, row in sorted(certain.items()) if micros not in seen]
    return match


def match_in_order(
    sent: Sequence[Sent], stored: Sequence[Stored], units: Callable[[float], int], tolerance: Callable[[int], int]
) -> Match:
    """Match in order: each stored value to the last answer before it that holds the value and is not taken yet.

    An agent asks a device one thing at a time and stamps what it gets before it asks again, so the answer it stored is the
    last one given; one it gave up waiting for stays unmatched.

    Args:
        tolerance: How old the answer may be (microseconds) at that instant.
    """
    match = Match(stored, units, stamped=False)
    ordered = sorted(sent, key=lambda row: row.number)
    given = [row.micros for row in ordered]
    place = 0
    last: tuple[Sent, Stored] | None = None
    for row in stored:
        reach, value = tolerance(row.micros), units(row.value)
        found = bisect_right(given, row.micros + _SAME_INSTANT_US) - 1
        while found >= place and given[found] >= row.micros - reach and ordered[found].units != value:
            found -= 1
        if found >= place and given[found] >= row.micros - reach:
            match.missing.extend(ordered[place:found])
            last = ordered[found], row
            match.pairs.append(last)
            place = found + 1
        elif last is not None and last[0].units == value and abs(last[0].micros - row.micros) <= reach:
            match.findings.append(Finding("duplicated", row.micros, row.value, "one answer is stored more than once"))
        else:
            match.findings.append(Finding("fabricated", row.micros, row.value, "no answer held this value at that time"))
    match.missing.extend(ordered[place:])
    return match


def flagged(micros: int, stored: Sequence[Stored], markers: Sequence[int]) -> bool:
    """Whether a marker without a number stands between the stored values on either side of an instant: the gap is declared."""
    stamps = [row.micros for row in stored]
    after = bisect_right(stamps, micros)
    begin = stamps[after - 1] if after else float("-inf")
    end = stamps[after] if after < len(stamps) else float("inf")
    at = bisect_right(markers, begin)
    return at < len(markers) and markers[at] <= end
