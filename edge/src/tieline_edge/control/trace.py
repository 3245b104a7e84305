"""The trace: why each device was told what it was told, kept for weeks in a bounded ring.

A row is kept when a decision changes, when a write is begun with another value, when something becomes of a write, and once
an hour as a heartbeat. It holds the question the arbiter was asked, so that it can be asked again. The loop only notices
changes; a thread of its own writes the file, for a sick disk may cost the explanation, never the control.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sqlite3
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Self

from tieline_core.ids import DeviceId
from tieline_core.messages.command import CommandState
from tieline_core.messages.telemetry import Event, Severity
from tieline_core.timegrid import to_us
from tieline_edge.control.arbiter import Decision
from tieline_edge.control.claims import Claim
from tieline_edge.control.effect import same
from tieline_edge.control.executor import Outcome
from tieline_edge.control.replay import Asked, Question, action_to_json, question_to_json, spec_to_json
from tieline_edge.control.ring import SITE_EVENTS, Line, Ring

_LOG = logging.getLogger(__name__)
#: See the figures of the edge's README: this keeps weeks of a site with 100 devices.
DEFAULT_MAX_BYTES: Final = 256 * 1024 * 1024
DEFAULT_MAX_AGE: Final = timedelta(days=42)
HEARTBEAT_S: Final = 3600.0
#: What changes only in numbers that move no setpoint (loadings, limits) is kept at most this often.
QUIET_S: Final = 60.0
#: Rows that may wait for the disk.
MAX_WAITING: Final = 4096
#: How often the file is told that the agent lives.
ALIVE_S: Final = 60.0
_FLUSH_S: Final = 0.2
#: A number that stands by itself; those inside of names (plan-7) tell one name from another.
_NUMBER: Final = re.compile(r"(?<![\w-])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?![\w-])")
_LOOKED_AT: Final = frozenset({Severity.ALARM, Severity.ACTION})
_GOOD: Final = frozenset({CommandState.CONFIRMED, CommandState.EFFECTIVE})


@dataclass(slots=True)
class _Told:
    """What the last row of a device says."""

    decision: Decision
    shape: tuple[object, ...]
    at: datetime
    since: datetime


@dataclass(slots=True)
class _Refreshes:
    """Successful repeats of a write, counted until the next row of the device."""

    first: datetime
    last: datetime
    count: int


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A row that is not on disk yet; its text is made by the thread that writes it."""

    device: str
    at: datetime
    kind: str
    what: Decision | Outcome | Event | _Refreshes
    since: datetime | None = None
    question: Question | None = None

    def line(self) -> Line:
        if isinstance(self.what, Decision):
            body = told(self.what) | {"since": None if self.since is None else to_us(self.since)}
        elif isinstance(self.what, Outcome):
            body = {
                "act": action_to_json(self.what.action),
                "state": self.what.state.value,
                "text": self.what.text,
                "source": self.what.source,
                "refresh": self.what.refresh,
            }
        elif isinstance(self.what, Event):
            body = {
                "severity": self.what.severity.value,
                "code": self.what.code,
                "text": self.what.text,
                "device": self.what.device_id,
            }
        else:
            body = {"count": self.what.count, "first": to_us(self.what.first)}
        spec = None
        if self.question is not None:
            body["q"], spec = question_to_json(self.question), spec_to_json(self.question.spec)
        return Line(self.device, to_us(self.at), self.kind, body, spec)


class Trace:
    """Notices what is worth a row, and hands it to the ring.

    Args:
        ring: Open.
        software: Name and version of the agent, kept with each of its lives.
    """

    def __init__(self, ring: Ring, software: str = "") -> None:
        self._ring = ring
        self._software = software
        self._last: dict[DeviceId, _Told] = {}
        self._written: dict[DeviceId, tuple[CommandState, object]] = {}
        self._refreshes: dict[DeviceId, _Refreshes] = {}
        self._waiting: deque[_Waiting] = deque()
        self._stirred = asyncio.Event()
        self._seen: datetime | None = None
        self._alive: datetime | None = None
        #: Rows that are missing: the disk did not take them, or was too slow for too long.
        self.lost = 0

    @classmethod
    def open(
        cls, path: Path, max_bytes: int = DEFAULT_MAX_BYTES, max_age: timedelta = DEFAULT_MAX_AGE, software: str = ""
    ) -> Self:
        """Open or make the file; an unreadable one is set aside, for a trace must never stop control."""
        return cls(Ring.open(path, max_bytes, max_age // timedelta(microseconds=1)), software)

    def close(self) -> None:
        """Write what waits, note the clean end and close the file."""
        for device in list(self._refreshes):
            self._close_refreshes(device)
        self.flush(ended=True)
        self._ring.close()

    def decided(
        self,
        decisions: Mapping[DeviceId, Decision],
        asked: Asked,
        utc: datetime,
        writing: Collection[DeviceId] = frozenset(),
    ) -> int:
        """Keep the decisions that have changed, those a write was begun with, and each device's once an hour.

        Args:
            decisions: What the arbiter answered.
            asked: What it was asked; its instant counts what elapses, whatever happens to the wall clock.
            utc: The same instant for the reader, who asks by wall clock.
            writing: Devices a write was begun to in this cycle.

        Returns:
            How many rows are kept.
        """
        now, kept = asked.at, 0
        self._seen = utc
        for device, decision in decisions.items():
            held = self._last.get(device)
            shape = _shape(decision)
            kind = self._kind(held, decision, shape, asked, device in writing)
            if kind is None:
                continue
            since = utc if held is None or kind == "decision" else held.since
            self._last[device] = _Told(decision, shape, now, since)
            self._close_refreshes(device)
            self._put(_Waiting(device, utc, kind, decision, since, asked.about(device)))
            kept += 1
        return kept

    @staticmethod
    def _kind(held: _Told | None, decision: Decision, shape: tuple[object, ...], asked: Asked, writing: bool) -> str | None:
        """The kind of row a decision deserves; None for none."""
        if held is None or shape != held.shape:
            return "decision"
        action, told_action = decision.action, held.decision.action
        if action != told_action:
            moved = action is None or not same(asked.specs[decision.device], told_action, action)
            if moved or writing:
                return "decision" if moved else "heartbeat"
        age_s = (asked.at - held.at).total_seconds()
        quiet = decision.interval != held.decision.interval or decision.notes != held.decision.notes
        return "heartbeat" if age_s >= HEARTBEAT_S or (quiet and age_s >= QUIET_S) else None

    def happened(self, outcome: Outcome) -> None:
        """Keep what became of a write; successful repeats are only counted."""
        device, mark = outcome.device, (outcome.state, outcome.text)
        self._seen = outcome.at
        if outcome.refresh and outcome.state in _GOOD and self._written.get(device) == mark:
            held = self._refreshes.setdefault(device, _Refreshes(outcome.at, outcome.at, 0))
            held.last, held.count = outcome.at, held.count + 1
            return
        self._written[device] = mark
        self._close_refreshes(device)
        self._put(_Waiting(device, outcome.at, "write", outcome))

    def noted(self, event: Event) -> None:
        """Keep an event that an operator has to look at, for the status page."""
        if event.severity in _LOOKED_AT:
            self._put(_Waiting(SITE_EVENTS, event.at, "event", event))

    def _close_refreshes(self, device: DeviceId) -> None:
        held = self._refreshes.pop(device, None)
        if held is not None:
            self._put(_Waiting(device, held.last, "refreshed", held))

    def _put(self, row: _Waiting) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self.lost += 1
            return
        self._waiting.append(row)
        self._stirred.set()

    def flush(self, *, ended: bool = False) -> None:
        """Write what waits; may be called from a thread. What the disk refuses is lost and counted."""
        rows = [self._waiting.popleft() for _ in range(len(self._waiting))]
        lines = [line for row in rows if (line := self._line(row)) is not None]
        try:
            self._ring.keep(lines)
            self._note_alive(ended=ended)
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:
            self.lost += len(lines)
            _LOG.warning("trace: %d rows were not kept: %s", len(lines), error)

    def _line(self, row: _Waiting) -> Line | None:
        try:
            return row.line()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a row costs that row, never the agent
            self.lost += 1
            _LOG.warning("trace: a row about %s has no text: %s", row.device, error)
            return None

    def _note_alive(self, *, ended: bool) -> None:
        seen = self._seen
        if seen is None:
            return
        if ended or self._alive is None or abs((seen - self._alive).total_seconds()) >= ALIVE_S:
            self._alive = seen
            self._ring.alive(to_us(seen), self._software, ended=ended)

    async def run(self) -> None:
        """Write in a thread of its own until cancelled."""
        while True:
            try:
                async with asyncio.timeout(ALIVE_S):
                    await self._stirred.wait()
            except TimeoutError:
                pass
            self._stirred.clear()
            await asyncio.to_thread(self.flush)
            await asyncio.sleep(_FLUSH_S)


def told(decision: Decision) -> dict[str, Any]:
    """A decision as plain values, in the words of its cycle."""
    return {
        "act": action_to_json(decision.action),
        "winner": None if decision.winner is None else _claim(decision.winner),
        "losers": [_claim(claim) for claim in decision.losers],
        "limits": [_claim(claim) for claim in decision.limits],
        "dropped": [_claim(claim) for claim in decision.dropped],
        "interval": str(decision.interval),
        "notes": list(decision.notes),
        "ages_s": dict(decision.ages_s),
    }


def _claim(claim: Claim) -> list[str]:
    """Band, source, wish and reason."""
    return [claim.band.name.lower(), claim.source, claim.wish, claim.reason]


def _shape(decision: Decision) -> tuple[object, ...]:
    """What makes two decisions different in kind: numbers inside words do not."""
    winner = decision.winner
    return (
        type(decision.action),
        None if winner is None else (winner.band, winner.source, _without_numbers(winner.reason)),
        tuple((claim.band, claim.source) for claim in decision.limits),
        tuple((claim.band, claim.source) for claim in decision.dropped),
        tuple(_without_numbers(note) for note in decision.notes),
    )


@lru_cache(maxsize=4096)
def _without_numbers(text: str) -> str:
    return _NUMBER.sub("#", text)
