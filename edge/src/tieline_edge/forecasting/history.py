"""15-minute means of the forecast point in SQLite: fed by readings, seeded by a model's blob, kept 60 days."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import aiosqlite
import numpy as np

from tieline_core.errors import PermanentError
from tieline_core.forecast_inputs import STEP_S, LoadHistory, QuarterHours, fill_gaps, resample
from tieline_core.ids import PointId
from tieline_core.quantities import Reading
from tieline_core.timegrid import from_us, to_us

_log = logging.getLogger(__name__)
KEPT: Final = timedelta(days=60)
KEPT_STEPS: Final = KEPT // timedelta(seconds=STEP_S)
_STEP_US: Final = STEP_S * 1_000_000
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS quarter_hour(
  point TEXT NOT NULL, step INTEGER NOT NULL, value REAL NOT NULL, PRIMARY KEY(point, step)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS issued(
  point TEXT NOT NULL, step INTEGER NOT NULL, model_id TEXT NOT NULL, scored INTEGER NOT NULL, level REAL NOT NULL,
  experts BLOB NOT NULL, blended BLOB NOT NULL, PRIMARY KEY(point, step)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS score_book(
  point TEXT PRIMARY KEY, experts TEXT NOT NULL, days BLOB NOT NULL, errors BLOB NOT NULL, residuals BLOB NOT NULL);
"""


@dataclass
class OpenInterval:
    """Readings of the quarter hour that is running, and the last one before it; closes into means.

    Attributes:
        times_us: Instants of the readings.
        values: Their values.
        step: Number of the running quarter hour since 1970; None before the first reading.
    """

    times_us: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    step: int | None = None

    def add(self, at_us: int, value: float) -> list[tuple[int, float]]:
        """Take a reading; returns (step, mean) of the quarter hours it closes. One older than the running one is dropped."""
        closed = self.close_before(at_us)
        if self.step is None:
            self.step = at_us // _STEP_US
        if at_us >= self.step * _STEP_US:
            self.times_us.append(at_us)
            self.values.append(value)
        return closed

    def close_before(self, now_us: int) -> list[tuple[int, float]]:
        """Close every quarter hour that ended at or before an instant; those covered by less than half give no mean."""
        step = now_us // _STEP_US
        if self.step is None or step <= self.step:
            return []
        # Nothing holds longer than one step, so at most two intervals after the last reading can be covered.
        count = min(step - self.step, 3)
        times, values = np.array(self.times_us, dtype=np.int64), np.array(self.values)
        means = resample(times, values, from_us(self.step * _STEP_US), count)
        closed = [(self.step + place, float(means.values[place])) for place in range(count) if means.present[place]]
        self.times_us, self.values, self.step = self.times_us[-1:], self.values[-1:], step
        return closed


class HistoryStore:
    """The forecast point's past; use as an async context manager.

    Args:
        path: SQLite file; made when missing. One process uses it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: aiosqlite.Connection | None = None
        self._running: dict[PointId, OpenInterval] = {}
        #: What was wrong with the file of an earlier life, for an alarm; None = nothing.
        self.damage: str | None = None

    async def __aenter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            await self._open()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise  # the disk refuses; the file may be whole
            aside = self._set_aside()
            self.damage = f"{self._path.name} was damaged ({error}), kept as {aside.name}; the forecast begins anew"
            _log.error("%s", self.damage)
            await self._open()
        return self

    async def _open(self) -> None:
        opened = aiosqlite.connect(self._path)
        try:
            self._opened = await opened
            await self._opened.execute("PRAGMA journal_mode=WAL")
            # NORMAL: a power cut may take the last quarter hour, never the file.
            await self._opened.execute("PRAGMA synchronous=NORMAL")
            await self._opened.executescript(_SCHEMA)
            (row,) = await self._opened.execute_fetchall("PRAGMA quick_check(1)")
            if row[0] != "ok":
                raise sqlite3.DatabaseError(str(row[0]))
        except BaseException:
            # Cancelled in the middle of opening: nobody else would close it.
            with contextlib.suppress(sqlite3.Error):
                await opened.close()
            self._opened = None
            raise

    def _set_aside(self) -> Path:
        aside = self._path.with_name(f"{self._path.name}.unreadable")
        for suffix in ("-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        return self._path.replace(aside)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._opened is not None:
            await self._opened.close()
            self._opened = None

    @property
    def connection(self) -> aiosqlite.Connection:
        """The open database.

        Raises:
            PermanentError: Outside of the ``async with``.
        """
        if self._opened is None:
            raise PermanentError(f"{self._path}: the history store is not open")
        return self._opened

    async def add(self, reading: Reading) -> None:
        """Take one reading; unusable ones and those without a number leave a gap."""
        if reading.value is None or not reading.quality.usable:
            return
        running = self._running.setdefault(reading.point, OpenInterval())
        await self._write(reading.point, running.add(to_us(reading.measured_at), reading.value))

    async def close_before(self, point: PointId, now: datetime) -> None:
        """Write the quarter hours that have ended by now."""
        if point in self._running:
            await self._write(point, self._running[point].close_before(to_us(now)))

    async def seed(self, point: PointId, history: LoadHistory) -> None:
        """Take a model's recent history where nothing was measured here."""
        first = to_us(history.start) // _STEP_US
        rows = [(point, first + place, float(value)) for place, value in enumerate(history.values)]
        await self.connection.executemany("INSERT OR IGNORE INTO quarter_hour VALUES (?, ?, ?)", rows)
        await self.connection.commit()

    async def _write(self, point: PointId, means: list[tuple[int, float]]) -> None:
        if not means:
            return
        connection = self.connection
        await connection.executemany(
            "INSERT OR REPLACE INTO quarter_hour VALUES (?, ?, ?)", [(point, step, mean) for step, mean in means]
        )
        oldest = means[-1][0] - KEPT_STEPS
        await connection.execute("DELETE FROM quarter_hour WHERE point = ? AND step < ?", (point, oldest))
        await connection.execute("DELETE FROM issued WHERE point = ? AND step < ?", (point, oldest))
        await connection.commit()

    async def before(self, point: PointId, issue: datetime, steps: int = KEPT_STEPS) -> LoadHistory:
        """What is kept of the ``steps`` quarter hours before an issue instant, gaps filled, up to the instant itself.

        Raises:
            NotEnoughHistoryError: When nothing is there or too much is missing.
        """
        end = to_us(issue) // _STEP_US
        query = "SELECT step, value FROM quarter_hour WHERE point = ? AND step >= ? AND step < ? ORDER BY step"
        rows = list(await self.connection.execute_fetchall(query, (point, end - steps, end)))
        first = int(rows[0][0]) if rows else end
        values, present = np.zeros(end - first), np.zeros(end - first, dtype=bool)
        if rows:
            place = np.array([row[0] for row in rows], dtype=np.int64) - first
            values[place], present[place] = [row[1] for row in rows], True
        return fill_gaps(QuarterHours(from_us(first * _STEP_US), values, present))
