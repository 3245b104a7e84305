"""Roll-ups and retention in PostgreSQL.

Hours and local days are folded from the chunks by position, and the position of a level moves in the transaction of its
rows: every reading is in every level once, whenever a process dies; of several hubs one folds, the others go on. Minutes
and quarter-hours are worked out of the chunks on demand and written only when retention drops these. Folding has a
connection of its own, so ingest never waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from tieline_cloud.store import postgres_parts
from tieline_cloud.store.postgres_chunks import Columns, decode, encode
from tieline_cloud.store.postgres_parts import Parts
from tieline_cloud.store.postgres_points import KnownPoints
from tieline_cloud.store.postgres_query import DAY_US, gather
from tieline_cloud.store.postgres_schema import DayPartitions, day_of, has_table, make_months
from tieline_cloud.store.postgres_session import FOLDER, Connection, Sessions
from tieline_cloud.store.rollup import (
    RetentionPolicy,
    Rollup,
    RollupLevel,
    RollupProgress,
    bucket_starts,
    cover,
    kept_from_us,
)
from tieline_core.ids import PointId
from tieline_core.timegrid import from_us, to_us

#: Levels kept up to date by position; the others are worked out of the chunks.
FOLDED: Final = (RollupLevel.HOUR, RollupLevel.DAY)
ON_DEMAND: Final = (RollupLevel.MINUTE, RollupLevel.QUARTER)
#: What has waited this long [s], or is so many readings, is folded.
_WAIT_S: Final = 60
_ROWS: Final = 1_000_000
#: Frames are known by their content at least this long: no edge keeps its own longer.
_FRAME_DAYS: Final = 60
#: Chunks taken up at once when a day is thinned: bounds its memory.
_CHUNKS: Final = 200
_POLICY: Final = TypeAdapter(RetentionPolicy)
_NEVER: Final = np.iinfo(np.int64).min
#: Key of the advisory lock of retention.
_RETAINING: Final = 7_425_463_003


class Rollups:
    """Folds, questions and retention of one store."""

    def __init__(self, sessions: Sessions, known: KnownPoints, zone: ZoneInfo) -> None:
        self._sessions = sessions
        self._known = known
        self._zone = zone

    # Folding

    def advance(self, now: datetime, budget_s: float, *, everything: bool = False) -> RollupProgress:
        """Fold what is due until nothing is or the budget is spent."""
        deadline_s = time.monotonic() + budget_s
        made = 0
        for level in FOLDED:
            while everything or time.monotonic() < deadline_s:
                folded = self._fold(level, to_us(now), everything=everything)
                if folded is None:
                    break
                made += folded
        with self._sessions.reading() as connection:
            waiting, oldest_us = connection.execute(
                "SELECT coalesce(sum(rows), 0)::bigint, min(stored_at_us) FROM positions "
                "WHERE position > (SELECT min(position) FROM progress WHERE level IN ('1h', '1d'))"
            ).fetchall()[0]
        return RollupProgress(made, waiting, 0.0 if oldest_us is None else max(0.0, (to_us(now) - oldest_us) / 1e6))

    def _fold(self, level: RollupLevel, now_us: int, *, everything: bool) -> int | None:
        """Fold the next positions into a level; None when nothing is due or another hub is at it."""
        make_months(self._sessions, postgres_parts.TABLES[level], self._waiting_days(level), now_us // DAY_US)
        with self._sessions.transaction(FOLDER) as connection:
            # Another hub that folds is waited for only where everything has to be folded.
            query = "SELECT position FROM progress WHERE level = %s FOR UPDATE"
            held = connection.execute(query if everything else f"{query} SKIP LOCKED", [level.value]).fetchall()
            if not held:
                return None
            above: int = held[0][0]
            rows = connection.execute(
                "SELECT position, rows, stored_at_us, first_day, last_day FROM positions WHERE position > %s ORDER BY 1",
                [above],
            ).fetchall()
            late = bool(rows) and not 0 <= now_us - rows[0][2] < _WAIT_S * 1_000_000
            if not rows or not (everything or late or sum(row[1] for row in rows) >= _ROWS):
                return None
            taken = max(1, int(np.searchsorted(np.cumsum([row[1] for row in rows]), _ROWS, "right")))
            days = (min(row[3] for row in rows[:taken]), max(row[4] for row in rows[:taken]))
            upto: int = rows[taken - 1][0]
            parts = [self._parts(level, part) for part in _chunks(connection, days, above, upto)]
            made = postgres_parts.write(connection, level, postgres_parts.merged(parts))
            connection.execute("UPDATE progress SET position = %s WHERE level = %s", [upto, level.value])
        return made

    def _waiting_days(self, level: RollupLevel) -> set[int]:
        with self._sessions.reading() as connection:
            rows = connection.execute(
                "SELECT DISTINCT d - DATE '1970-01-01' FROM positions, unnest(ARRAY[first_day, last_day]) AS d "
                "WHERE position > (SELECT position FROM progress WHERE level = %s)",
                [level.value],
            ).fetchall()
        return {row[0] for row in rows}

    def _parts(self, level: RollupLevel, rows: Columns) -> Parts:
        return postgres_parts.of_readings(rows, bucket_starts(rows.at_us, level, self._zone))

    # Questions

    def rollups(
        self, numbers: Mapping[PointId, int], level: RollupLevel, start: datetime, end: datetime
    ) -> dict[PointId, Rollup]:
        """Roll-ups of the intervals that start in [start, end)."""
        whole = cover(level, start, end, self._zone)
        parts = self.parts(numbers, level, whole.first_us, whole.end_us)
        return {point: postgres_parts.rollup_of(point, parts.of(number)) for point, number in numbers.items()}

    def parts(self, numbers: Mapping[PointId, int], level: RollupLevel, first_us: int, end_us: int) -> Parts:
        """What is kept of whole intervals in [first, end), in one view of the store: what is written and what is not yet."""
        wanted = np.unique(np.array(list(numbers.values()), np.int32))
        edges = sorted({point.partition("/")[0] for point in numbers})
        with self._sessions.reading() as connection:
            held = postgres_parts.read(connection, level, wanted, first_us, end_us)
            above = connection.execute("SELECT position FROM progress WHERE level = %s", [level.value]).fetchall()[0][0]
            fresh = gather(connection, edges, wanted, first_us, end_us, above)
            kept = _retained(connection) if level in ON_DEMAND else None
        parts = postgres_parts.merged([held, self._parts(level, fresh)])
        if kept is None:
            return parts
        shown = np.full(int(wanted.max(initial=0)) + 1, _NEVER, np.int64)
        for point, number in numbers.items():
            if (days := kept[0].days(level, point)) is not None:
                shown[number] = kept_from_us(days, kept[1])
        return parts.take(parts.start_us >= shown[parts.numbers])

    # Retention

    def retain(self, policy: RetentionPolicy, now: datetime, partitions: DayPartitions) -> int:
        """Fold everything, then drop what is past retention; returns the rows dropped."""
        self.advance(now, 0.0, everything=True)
        with self._sessions.transaction(FOLDER) as connection:
            connection.execute(
                "INSERT INTO retention VALUES (true, %s, %s) ON CONFLICT (one) DO UPDATE "
                "SET at_us = excluded.at_us, policy = excluded.policy",
                [to_us(now), _POLICY.dump_json(policy).decode()],
            )
        kept = {level: self._kept_from(policy, level, now) for level in ON_DEMAND}
        raw = self._kept_from(policy, None, now)
        dropped = 0
        for day, number in self._old_days(int(raw.max(initial=_NEVER)) // DAY_US):
            for level in ON_DEMAND:
                make_months(self._sessions, postgres_parts.TABLES[level], {number}, to_us(now) // DAY_US)
            dropped += self._thin(day, raw > number * DAY_US, kept)
            self._drop_partition(number)
        partitions.forget()
        for days, numbers in self._classes(policy, None).items():
            if days is not None:
                dropped += self._drop_aside(kept_from_us(days, now), numbers)
        for level in (*ON_DEMAND, RollupLevel.HOUR):
            for days, numbers in self._classes(policy, level).items():
                if days is not None:
                    dropped += self._drop_rollups(level, kept_from_us(days, now), numbers)
        if policy.raw_days is not None:
            self._drop_labels(kept_from_us(policy.raw_days, now), kept_from_us(max(policy.raw_days, _FRAME_DAYS), now))
        return dropped

    def _kept_from(self, policy: RetentionPolicy, level: RollupLevel | None, now: datetime) -> NDArray[np.int64]:
        """First instant that is kept of each point, by its number."""
        first = np.full(len(self._known.last), _NEVER, np.int64)
        for days, numbers in self._classes(policy, level).items():
            if days is not None:
                first[np.array(numbers)] = kept_from_us(days, now)
        return first

    def _classes(self, policy: RetentionPolicy, level: RollupLevel | None) -> dict[int | None, list[int]]:
        """Numbers of the points by days kept."""
        classes: dict[int | None, list[int]] = {}
        for point in self._known.last.names():
            number = self._known.last.number(point)
            if number is not None:
                classes.setdefault(policy.days(level, point), []).append(number)
        return classes

    def _old_days(self, before: int) -> list[tuple[date, int]]:
        if before < 0:
            return []
        query = "SELECT DISTINCT day, day - DATE '1970-01-01' FROM chunks WHERE day < %s ORDER BY 1"
        with self._sessions.reading() as connection:
            return connection.execute(query, [day_of(before)]).fetchall()

    def _thin(self, day: date, meant: NDArray[np.bool_], kept: Mapping[RollupLevel, NDArray[np.int64]]) -> int:
        """Take the points that are meant out of the chunks of a day, after their minutes and quarter-hours were written.

        Only what is folded into hours and days goes; what arrives meanwhile is another row and waits for the next time.
        """
        dropped = 0
        with self._sessions.transaction(FOLDER) as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [_RETAINING])
            places = connection.execute(
                "SELECT ctid::text FROM chunks WHERE day = %s AND position <= (SELECT min(position) FROM progress "
                "WHERE level IN ('1h', '1d'))",
                [day],
            ).fetchall()
            for first in range(0, len(places), _CHUNKS):
                batch = [place for (place,) in places[first : first + _CHUNKS]]
                dropped += self._thin_batch(connection, day, batch, meant, kept)
            connection.execute("UPDATE ledger SET readings = readings - %s", [dropped])
        return dropped

    def _thin_batch(
        self,
        connection: Connection,
        day: date,
        places: list[str],
        meant: NDArray[np.bool_],
        kept: Mapping[RollupLevel, NDArray[np.int64]],
    ) -> int:
        query = "SELECT ctid::text, body FROM chunks WHERE day = %s AND ctid = ANY(%s::tid[])"
        gone = []
        for place, body in connection.cursor(binary=True).execute(query, [day, places]).fetchall():
            rows = decode(body)
            goes = meant[rows.numbers]
            if goes.any():
                gone.append(rows.take(goes))
                self._rewrite(connection, day, place, rows.take(~goes))
        for level, first_us in kept.items():
            parts = postgres_parts.merged([self._parts(level, rows) for rows in gone])
            postgres_parts.write(connection, level, parts.take(parts.start_us >= first_us[parts.numbers]))
        return sum(len(rows) for rows in gone)

    def _rewrite(self, connection: Connection, day: date, place: str, rows: Columns) -> None:
        if not len(rows):
            connection.execute("DELETE FROM chunks WHERE day = %s AND ctid = %s::tid", [day, place])
            return
        _, exponents = self._known.tables({})
        span = [int(rows.at_us.min()), int(rows.at_us.max()), len(rows), int(rows.numbers[0]), int(rows.numbers[-1])]
        connection.execute(
            "UPDATE chunks SET first_us = %s, last_us = %s, rows = %s, first_number = %s, last_number = %s, body = %b "
            "WHERE day = %s AND ctid = %s::tid",
            [*span, encode(rows, exponents), day, place],
        )

    def _drop_partition(self, day: int) -> None:
        """Give an emptied day's space back at once."""
        name = f"chunks_{day_of(day):%Y%m%d}"
        with self._sessions.transaction(FOLDER) as connection:
            connection.execute("LOCK TABLE chunks IN ACCESS EXCLUSIVE MODE")
            held = connection.execute("SELECT 1 FROM chunks WHERE day = %s LIMIT 1", [day_of(day)]).fetchall()
            if has_table(connection, name) and not held:
                connection.execute(f"DROP TABLE {name}".encode())

    def _drop_aside(self, before_us: int, numbers: Sequence[int]) -> int:
        with self._sessions.transaction(FOLDER) as connection:
            found = connection.execute(
                "DELETE FROM findings WHERE at_us < %s AND point_id = ANY(%s)", [before_us, list(numbers)]
            ).rowcount
            return (
                found
                + connection.execute(
                    "DELETE FROM misdated WHERE at_us < %s AND point_id = ANY(%s)", [before_us, list(numbers)]
                ).rowcount
            )

    def _drop_rollups(self, level: RollupLevel, before_us: int, numbers: Sequence[int]) -> int:
        table = postgres_parts.TABLES[level]
        with self._sessions.transaction(FOLDER) as connection:
            query = f"DELETE FROM {table} WHERE start_at < to_timestamp(%s) AND point_id = ANY(%s)"  # noqa: S608 (our table)
            return connection.execute(query.encode(), [before_us // 1_000_000, list(numbers)]).rowcount

    def _drop_labels(self, before_us: int, frames_before_us: int) -> None:
        with self._sessions.transaction(FOLDER) as connection:
            gone = connection.execute(
                "DELETE FROM frames f WHERE received_at_us < %s AND NOT EXISTS (SELECT 1 FROM marks m WHERE m.edge = f.edge "
                "AND m.stream = f.stream AND m.epoch = f.epoch AND m.seq = f.seq)",
                [frames_before_us],
            ).rowcount
            connection.execute("UPDATE ledger SET frames = frames - %s", [gone])
            connection.execute(
                "DELETE FROM positions WHERE stored_at_us < %s AND position <= (SELECT min(position) FROM progress "
                "WHERE level IN ('1h', '1d'))",
                [before_us],
            )


def _retained(connection: Connection) -> tuple[RetentionPolicy, datetime] | None:
    """What retention went by last, and when; None when it never did anything."""
    rows = connection.execute("SELECT policy, at_us FROM retention").fetchall()
    return (_POLICY.validate_json(rows[0][0]), from_us(rows[0][1])) if rows else None


def _chunks(connection: Connection, days: tuple[date, date], above: int, upto: int) -> Sequence[Columns]:
    """Readings of positions in (above, upto], in pieces sorted by number and instant."""
    query = "SELECT body FROM chunks WHERE day BETWEEN %s AND %s AND position > %s AND position <= %s"
    rows = connection.cursor(binary=True).execute(query, [*days, above, upto]).fetchall()
    return [decode(body) for (body,) in rows]
