"""Scores of issued forecasts against what was measured later; what gate and bands learn from. Survives restarts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np

from tieline_core.forecast_gate import DAYS, LEAD_GROUPS, ScoreBook, Scored, add_scores, score_window
from tieline_core.forecast_inputs import HORIZON_STEPS, STEP_S, Floats, Floats32, LoadHistory, local_grid
from tieline_core.ids import PointId
from tieline_core.timegrid import from_us, to_us
from tieline_edge.forecasting.history import HistoryStore

_STEP_US: Final = STEP_S * 1_000_000
_RESIDUALS: Final = (DAYS, len(LEAD_GROUPS), 24, 4)


@dataclass(frozen=True, slots=True)
class Issue:
    """What was forecast, over the level at issue.

    Attributes:
        at: Issue instant; also the start of the first interval.
        model_id: Model it came from.
        level: Level at issue, in the point's unit.
        experts: Each expert's forecast [192, experts].
        blended: The gate's forecast without band offsets [192].
    """

    at: datetime
    model_id: str
    level: float
    experts: Floats32
    blended: Floats32


class ScoreKeeper:
    """Keeps issued forecasts until they can be scored, and the book of scores, in the history's database."""

    def __init__(self, point: PointId, history: HistoryStore) -> None:
        self._point = point
        self._history = history

    async def book(self, experts: tuple[str, ...]) -> ScoreBook:
        """The book of scores of these experts; an empty one when none or one of other experts is stored."""
        query = "SELECT experts, days, errors, residuals FROM score_book WHERE point = ?"
        rows = list(await self._history.connection.execute_fetchall(query, (self._point,)))
        if not rows or rows[0][0] != ",".join(experts):
            return ScoreBook.empty(len(experts))
        _, days, errors, residuals = rows[0]
        return ScoreBook(
            np.frombuffer(days, dtype="<i8").astype(np.int64),
            np.frombuffer(errors, dtype="<f4").astype(np.float32).reshape(DAYS, len(LEAD_GROUPS), 24, len(experts)),
            np.frombuffer(residuals, dtype="<f4").astype(np.float32).reshape(_RESIDUALS),
        )

    async def keep(self, issue: Issue) -> None:
        """Remember an issued forecast until its targets are measured."""
        row = (
            self._point,
            to_us(issue.at) // _STEP_US,
            issue.model_id,
            0,
            issue.level,
            issue.experts.astype("<f4").tobytes(),
            issue.blended.astype("<f4").tobytes(),
        )
        await self._history.connection.execute("INSERT OR REPLACE INTO issued VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        await self._history.connection.commit()

    async def score(self, history: LoadHistory, zone: ZoneInfo, experts: tuple[str, ...]) -> ScoreBook:
        """Score every kept forecast as far as it has been measured; the new book is stored in the same transaction.

        Args:
            history: Measured up to now.
            zone: Time zone of the site.
            experts: Names of the experts of the present model.
        """
        connection = self._history.connection
        book = await self.book(experts)
        end = to_us(history.end) // _STEP_US
        query = "SELECT step, scored, level, experts, blended FROM issued WHERE point = ? AND scored < ? AND step + scored < ?"
        parts: list[Scored] = []
        marks: list[tuple[int, PointId, int]] = []
        for step, scored, level, raw, blend in await connection.execute_fetchall(query, (self._point, HORIZON_STEPS, end)):
            forecasts = np.frombuffer(raw, dtype="<f4").astype(np.float64)
            if forecasts.size != HORIZON_STEPS * len(experts):
                continue
            issued = from_us(step * _STEP_US)
            lead, measured = score_window(history, issued, HORIZON_STEPS)
            fresh = lead >= scored
            lead, measured = lead[fresh], measured[fresh]
            marks.append((min(HORIZON_STEPS, end - step), self._point, step))
            grid = local_grid(issued, HORIZON_STEPS, zone, ())
            table = forecasts.reshape(HORIZON_STEPS, len(experts))
            blended = np.frombuffer(blend, dtype="<f4").astype(np.float64)
            parts.append(Scored(grid.day[lead], grid.quarter[lead], lead, measured / level, table[lead], blended[lead]))
        if parts:
            book = add_scores(book, _joined(parts))
        await connection.executemany("UPDATE issued SET scored = ? WHERE point = ? AND step = ?", marks)
        row = (
            self._point,
            ",".join(experts),
            book.days.astype("<i8").tobytes(),
            *(array.astype("<f4").tobytes() for array in (book.errors, book.residuals)),
        )
        await connection.execute("INSERT OR REPLACE INTO score_book VALUES (?, ?, ?, ?, ?)", row)
        await connection.commit()
        return book


def _joined(parts: list[Scored]) -> Scored:
    def all_of(name: str) -> Floats:
        joined: Floats = np.concatenate([getattr(part, name) for part in parts])
        return joined

    return Scored(
        day=all_of("day").astype(np.int64),
        quarter=all_of("quarter").astype(np.int64),
        lead=all_of("lead").astype(np.int64),
        measured=all_of("measured"),
        experts=all_of("experts"),
        blended=all_of("blended"),
    )


def local_date(instant: datetime, zone: ZoneInfo) -> date:
    """The local calendar day of an instant: gate and bands learn once a day."""
    return instant.astimezone(zone).date()
