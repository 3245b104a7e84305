"""Readings on their way into chunks, inside a transaction: numbered, examined, cut, counted, stored under a position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tieline_cloud.store.arriving import Arriving, Found, gather
from tieline_cloud.store.examination import Arrival, Examined, Examiner
from tieline_cloud.store.postgres_chunks import Columns, encode, pieces
from tieline_cloud.store.postgres_points import KnownPoints
from tieline_cloud.store.postgres_query import DAY_US
from tieline_cloud.store.postgres_query import gather as gather_stored
from tieline_cloud.store.postgres_records import copy_chunks, copy_found
from tieline_cloud.store.postgres_schema import day_of
from tieline_cloud.store.postgres_session import Connection
from tieline_core.frame import ReadingBatch
from tieline_core.ids import PointId


@dataclass(frozen=True, slots=True)
class Arrived:
    """Readings inside a transaction that is not committed yet.

    Attributes:
        position: Position they are stored under, None when none of them is dated.
        new: Numbers of the points they are the first to name.
        rows: What is stored.
        examined: What the examiner said.
    """

    position: int | None
    new: Mapping[PointId, int]
    rows: Columns
    examined: Examined | None


class ReadingWriter:
    """Stores readings in the transaction it is given.

    Args:
        known: Points and last values.
        examiner: Judges readings on arrival, None = nobody.
    """

    def __init__(self, known: KnownPoints, examiner: Examiner | None) -> None:
        self._known = known
        self._examiner = examiner

    def store(self, connection: Connection, batches: Sequence[tuple[ReadingBatch, int]], frames: int = 0) -> Arrived:
        """Readings with the instant they were received [us]; the ledger's row stays locked to the end of the transaction."""
        arriving = gather(self._known.last, batches, self._examiner)
        if arriving.new:  # keep other hubs from giving out numbers, learn theirs, and begin anew
            self._lock(connection)
            arriving = gather(self._known.last, batches, self._examiner)
        return self._put(connection, arriving, frames)

    def store_fresh(self, connection: Connection, batch: ReadingBatch, received_us: int) -> Arrived:
        """Those whose point and instant are not stored, each once, unexamined."""
        # Imports wait for each other and for commits: what is new must stay so until it is stored.
        self._lock(connection)
        arriving = gather(self._known.last, [(batch, received_us)], None)
        rows = self._fresh(connection, batch, arriving)
        received = np.full(len(rows), received_us, np.int64)
        arrival = Arrival(rows.numbers, rows.at_us, rows.values, rows.quality, received, arriving.arrival.name)
        return self._put(connection, Arriving(arriving.new, arrival, None), 0)

    def _lock(self, connection: Connection) -> None:
        connection.execute("SELECT 1 FROM ledger FOR UPDATE")
        self._known.catch_up(connection)

    def numbers(self, connection: Connection, points: Sequence[PointId]) -> dict[PointId, int]:
        """Give those of the points that have none a number, and return these."""
        named = replace(ReadingBatch.of([]), points=tuple(points))
        if self._known.last.unknown([named]):
            self._lock(connection)
        return self._number(connection, self._known.last.unknown([named]))

    def _number(self, connection: Connection, points: Sequence[PointId]) -> dict[PointId, int]:
        """Give new points their numbers; the ledger's row is locked."""
        first = len(self._known.last)
        new = {point: first + offset for offset, point in enumerate(points)}
        if new:
            with connection.cursor().copy("COPY points FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(("int4", "text"))
                for name, number in new.items():
                    copy.write_row((number, str(name)))
        return new

    def _put(self, connection: Connection, arriving: Arriving, frames: int) -> Arrived:
        new = self._number(connection, arriving.new)
        dated = arriving.dated()
        rows = Columns(dated.numbers, dated.at_us, dated.values, dated.quality)
        position = self._append(connection, rows, new, int(arriving.arrival.received_us.min(initial=2**62)), frames)
        arrival, found, aside = arriving.arrival, arriving.found(), arriving.set_aside()
        copy_found(connection, "findings", _found(arrival, found))
        copy_found(connection, "misdated", _aside(arrival, aside))
        return Arrived(position, new, rows, arriving.examined)

    def _append(
        self, connection: Connection, rows: Columns, new: Mapping[PointId, int], received_us: int, frames: int
    ) -> int | None:
        edges, exponents = self._known.tables(new)
        made = [(edge, day, part, encode(part, exponents)) for edge, day, part in pieces(rows, edges, DAY_US)]
        counted = connection.execute(
            "UPDATE ledger SET position = position + %s, readings = readings + %s, frames = frames + %s RETURNING position",
            [1 if made else 0, len(rows), frames],
        ).fetchall()
        if not made:
            return None
        position: int = counted[0][0]
        span = [day_of(min(day for _, day, _, _ in made)), day_of(max(day for _, day, _, _ in made))]
        connection.execute("INSERT INTO positions VALUES (%s, %s, %s, %s, %s)", [position, received_us, len(rows), *span])
        copy_chunks(
            connection,
            (
                (
                    position,
                    int(part.at_us.min()),
                    int(part.at_us.max()),
                    received_us,
                    day_of(day),
                    len(part),
                    int(part.numbers[0]),
                    int(part.numbers[-1]),
                    self._known.edge_name(edge),
                    body,
                )
                for edge, day, part, body in made
            ),
        )
        return position

    def _fresh(self, connection: Connection, batch: ReadingBatch, arriving: Arriving) -> Columns:
        """Rows whose point and instant are not stored, each once, ascending by number and instant."""
        stored = arriving.dated()
        offered = Columns(stored.numbers, stored.at_us, stored.values, stored.quality)
        edges = sorted({point.partition("/")[0] for point in batch.points})
        span = int(batch.at_us.min()), int(batch.at_us.max()) + 1
        held = gather_stored(connection, edges, np.unique(offered.numbers), *span)
        rows = Columns.joined([held, offered])
        is_new = np.arange(len(rows)) >= len(held)
        order = np.lexsort((is_new, rows.at_us, rows.numbers))  # stable: of equal ones what is held first, then as offered
        rows, is_new = rows.take(order), is_new[order]
        first = np.ones(len(rows), np.bool_)
        first[1:] = (np.diff(rows.numbers) != 0) | (np.diff(rows.at_us) != 0)
        return rows.take(first & is_new)


def _found(arrival: Arrival, found: Found) -> list[tuple[object, ...]]:
    """Rows of the table of findings."""
    return [
        (int(arrival.at_us[row]), int(arrival.received_us[row]), _number(arrival.values[row]), _number(limit), int(point), rule)
        for row, point, rule, limit in zip(found.rows, arrival.numbers[found.rows], found.rules, found.limits, strict=True)
    ]


def _aside(arrival: Arrival, aside: Found) -> list[tuple[object, ...]]:
    """Rows of the table of misdated readings."""
    return [
        (
            int(arrival.at_us[row]),
            int(arrival.received_us[row]),
            _number(arrival.values[row]),
            int(arrival.numbers[row]),
            int(arrival.quality[row]),
            rule,
        )
        for row, rule in zip(aside.rows, aside.rules, strict=True)
    ]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
