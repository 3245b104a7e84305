"""The ledger in PostgreSQL: several hubs may use it at once.

Data and watermark move in one transaction, and that transaction is on the disk when ``commit`` returns. Correctness needs
no lease: marks are read ``FOR UPDATE`` in one order and moved by compare-and-set, so of two hubs that commit the same edge
the later one finds the mark moved and stores nothing. Readings rest as compressed chunks in a partition a day.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from tieline_cloud.store.acceptance import Lane, below, decide, label_of, lane_of
from tieline_cloud.store.ports import Committed, LedgerFrame, Watermark
from tieline_cloud.store.postgres_chunks import Columns, encode, pieces
from tieline_cloud.store.postgres_points import KnownPoints
from tieline_cloud.store.postgres_query import DAY_US, PostgresQuery, gather
from tieline_cloud.store.postgres_records import (
    committed_hashes,
    copy_chunks,
    held_content,
    insert_events,
    insert_forecasts,
    insert_frames,
    insert_quarantine,
    insert_side_records,
    move_marks,
    read_marks,
)
from tieline_cloud.store.postgres_schema import DayPartitions, day_of, migrate
from tieline_cloud.store.postgres_session import PATIENT, Connection, OutcomeUnknownError, Patience, Sessions, checked_url
from tieline_core.errors import TransientError
from tieline_core.frame import ReadingBatch
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Event, IssuedForecast, Stream
from tieline_core.timegrid import to_us

#: Readings after which the last values are saved, so that a start after a kill reads no more than these.
_SAVE_AFTER: Final = 20_000_000


@dataclass(frozen=True, slots=True)
class _Arrived:
    """Readings inside a transaction that is not committed yet."""

    position: int
    new: Mapping[PointId, int]
    rows: Columns


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A commit as it would be reported, kept in case its outcome does not come back."""

    frames: tuple[LedgerFrame, ...]
    moving: tuple[LedgerFrame, ...]
    outcome: Committed
    arrived: _Arrived | None


class PostgresStore(PostgresQuery):
    """Ledger and queries over one PostgreSQL database.

    Args:
        url: ``postgresql://user@host:5432/database``, as libpq reads it; a password comes from PGPASSFILE or PGPASSWORD.
        patience: How long to wait for what other hubs hold.

    Raises:
        BadInputError: The URL cannot be used.
        StoreLostError: The server cannot be reached.
        StoreFormatError: The schema is newer than this release, or the server is not durable.
    """

    def __init__(self, url: str, patience: Patience = PATIENT) -> None:
        super().__init__(Sessions(checked_url(url), patience), KnownPoints())
        self._partitions = DayPartitions()
        self._turn = threading.Lock()
        self._unsettled: _Attempt | None = None
        try:
            migrate(self._sessions)
            with self._sessions.reading() as connection:
                self._known.load(connection)
        except BaseException:
            self._sessions.close()
            raise

    def close(self) -> None:
        """Release the connections; what was committed stays."""
        with self._turn, suppress(TransientError):  # only the next start takes longer
            self._save()
        self._sessions.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _save(self) -> None:
        with self._sessions.transaction() as connection:
            self._known.save(connection)

    # Ledger

    def watermarks(self, edge: EdgeId) -> dict[Stream, Watermark]:
        """Committed watermarks of every stream of an edge; empty when it was never granted an epoch."""
        with self._sessions.reading() as connection:
            return {stream: mark for (_, stream), mark in read_marks(connection, [edge]).items()}

    def frame_sha256(self, edge: EdgeId, stream: Stream, epoch: int, seq: int) -> str | None:
        """Hash of a committed frame; None when the ledger holds no frame under that label."""
        label = (edge, stream, epoch, seq)
        with self._sessions.reading() as connection:
            return committed_hashes(connection, [label]).get(label)

    def grant_epoch(self, edge: EdgeId, at: datetime, above: int = 0) -> int:
        """Store and return a new epoch for an edge, one above every epoch it ever had and above ``above``."""
        with self._sessions.transaction() as connection:
            rows = connection.execute(
                "INSERT INTO epochs VALUES (%s, %s + 1, %s) ON CONFLICT (edge) DO UPDATE "
                "SET epoch = greatest(epochs.epoch, %s) + 1, granted_at_us = excluded.granted_at_us RETURNING epoch",
                [str(edge), above, to_us(at), above],
            ).fetchall()
            epoch: int = rows[0][0]
            for stream in sorted(Stream):  # the order in which marks are locked
                connection.execute(
                    "INSERT INTO marks VALUES (%s, %s, %s, 0, NULL) "
                    "ON CONFLICT (edge, stream) DO UPDATE SET epoch = excluded.epoch, seq = 0, sha256 = NULL",
                    [str(edge), stream.value, epoch],
                )
        return epoch

    def commit(self, frames: Sequence[LedgerFrame]) -> Committed:
        """Commit frames in one transaction, each by compare-and-set of its stream's watermark.

        A commit whose outcome was lost with the connection is looked up under the locks of its marks, at once or, when
        the server stays away, by the next commit: the same frames then get the verdicts they had.
        """
        with self._turn:
            try:
                outcome = self._attempt(tuple(frames))
            except OutcomeUnknownError:
                outcome = self._attempt(tuple(frames))
            if self._known.unsaved_readings >= _SAVE_AFTER:
                with suppress(TransientError):
                    self._save()
            return outcome

    def _attempt(self, frames: tuple[LedgerFrame, ...]) -> Committed:
        self._make_partitions([(frame.readings, frame.received_at) for frame in frames if frame.readings is not None])
        made: _Attempt | None = None
        try:
            with self._sessions.transaction() as connection:
                lost, self._unsettled = self._unsettled, None
                edges = {frame.edge for frame in (*frames, *(lost.moving if lost else ()))}
                try:
                    before = read_marks(connection, sorted(edges), lock=True)
                    settled = lost is not None and _is_in(connection, lost.moving)
                except BaseException:
                    self._unsettled = lost
                    raise
                made = (
                    lost if settled and lost is not None and lost.frames == frames else self._write(connection, frames, before)
                )
        except OutcomeUnknownError:
            self._unsettled = made
            raise
        if made.arrived is not None:
            self._known.take(made.arrived.position, made.arrived.new, made.arrived.rows)
        return made.outcome

    def _write(self, connection: Connection, frames: tuple[LedgerFrame, ...], before: dict[Lane, Watermark]) -> _Attempt:
        named = {lane_of(frame) for frame in frames}
        marks = {lane: before[lane] for lane in named & before.keys()}
        committed = committed_hashes(connection, below(marks, frames))
        decision = decide(marks, frames, held_content(connection, frames), committed)
        taken, moving = decision.taken(frames), decision.moving(frames)
        batches = [(frame.readings, frame.received_at) for frame in taken if frame.readings is not None]
        arrived = self._store(connection, batches, len(moving))
        insert_side_records(connection, taken)
        insert_frames(connection, frames, decision.verdicts)
        move_marks(connection, marks, decision.watermarks)
        after = {lane: mark for lane, mark in decision.watermarks.items() if lane in named}
        outcome = Committed(decision.verdicts, after, 0 if arrived is None else len(arrived.rows))
        return _Attempt(frames, tuple(moving), outcome, arrived)

    def _make_partitions(self, batches: Sequence[tuple[ReadingBatch, datetime]]) -> None:
        for batch, at in batches:
            if len(batch):
                self._partitions.ensure(self._sessions, set(np.unique(batch.at_us // DAY_US).tolist()), to_us(at) // DAY_US)

    def _store(
        self, connection: Connection, batches: Sequence[tuple[ReadingBatch, datetime]], frames: int = 0
    ) -> _Arrived | None:
        """Readings into chunks; the row of the ledger is locked from here to the end of the transaction."""
        if not batches:
            if frames:
                connection.execute("UPDATE ledger SET frames = frames + %s", [frames])
            return None
        new = self._number(connection, [batch for batch, _ in batches])
        rows = Columns.joined([_columns(self._known.last.numbers(batch, new), batch) for batch, _ in batches])
        return self._append(connection, rows, new, min(to_us(at) for _, at in batches), frames)

    def _number(self, connection: Connection, batches: Sequence[ReadingBatch]) -> dict[PointId, int]:
        """Give the points of the batches that have none a number; the ledger's row keeps others from doing the same."""
        if not self._known.last.unknown(batches):
            return {}
        connection.execute("SELECT 1 FROM ledger FOR UPDATE")
        self._known.catch_up(connection)
        first = len(self._known.last)
        new = {point: first + offset for offset, point in enumerate(self._known.last.unknown(batches))}
        with connection.cursor().copy("COPY points FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(("int4", "text"))
            for name, number in new.items():
                copy.write_row((number, str(name)))
        return new

    def _append(
        self, connection: Connection, rows: Columns, new: Mapping[PointId, int], received_us: int, frames: int
    ) -> _Arrived:
        edges, exponents = self._known.tables(new)
        made = [(edge, day, part, encode(part, exponents)) for edge, day, part in pieces(rows, edges, DAY_US)]
        counted = connection.execute(
            "UPDATE ledger SET position = position + 1, readings = readings + %s, frames = frames + %s RETURNING position",
            [len(rows), frames],
        ).fetchall()
        position: int = counted[0][0]
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
        return _Arrived(position, new, rows)

    def quarantine(self, edge: str, topic: str, payload: bytes, reason: str, at: datetime) -> None:
        """Keep what could not be decoded, with the reason; the oldest go when there are too many."""
        with self._sessions.transaction() as connection:
            insert_quarantine(connection, to_us(at), (edge, topic, payload, reason))

    def import_readings(self, batch: ReadingBatch, source: str, at: datetime) -> int:
        """Store imported history (idempotent per point and instant); returns the rows that were new."""
        if not len(batch):
            return 0
        self._make_partitions([(batch, at)])
        with self._sessions.transaction() as connection:
            # Imports wait for each other and for commits: what is new must stay so until it is stored.
            connection.execute("SELECT 1 FROM ledger FOR UPDATE")
            new = self._number(connection, [batch])
            rows = self._fresh(connection, batch, new)
            arrived = self._append(connection, rows, new, to_us(at), 0) if len(rows) else None
            connection.execute("INSERT INTO imports VALUES (%s, %s, %s, %s)", [to_us(at), source, len(batch), len(rows)])
        if arrived is not None:
            self._known.take(arrived.position, arrived.new, arrived.rows)
        return len(rows)

    def _fresh(self, connection: Connection, batch: ReadingBatch, new: Mapping[PointId, int]) -> Columns:
        """Rows whose point and instant are not stored, each once, ascending by number and instant."""
        offered = _columns(self._known.last.numbers(batch, new), batch)
        edges = sorted({point.partition("/")[0] for point in batch.points})
        wanted = np.unique(offered.numbers)
        held = gather(connection, edges, wanted, int(batch.at_us.min()), int(batch.at_us.max()) + 1)
        rows = Columns.joined([held, offered])
        is_new = np.arange(len(rows)) >= len(held)
        order = np.lexsort((is_new, rows.at_us, rows.numbers))  # stable: of equal ones what is held first, then as offered
        rows, is_new = rows.take(order), is_new[order]
        first = np.ones(len(rows), np.bool_)
        first[1:] = (np.diff(rows.numbers) != 0) | (np.diff(rows.at_us) != 0)
        return rows.take(first & is_new)

    def record_events(self, events: Sequence[Event]) -> None:
        """Keep events the hub itself raised; an event id that is already held is left as it is."""
        with self._sessions.transaction() as connection:
            insert_events(connection, events)

    def record_forecasts(self, forecasts: Sequence[IssuedForecast]) -> None:
        """Keep forecasts the hub itself issued."""
        with self._sessions.transaction() as connection:
            insert_forecasts(connection, forecasts)

    def put_document(self, kind: str, key: str, body: bytes, at: datetime) -> None:
        """Keep the newest state of something that is no time series; replaces the one before."""
        with self._sessions.transaction() as connection:
            connection.execute(
                "INSERT INTO documents VALUES (%s, %s, %s, %b) "
                "ON CONFLICT (kind, key) DO UPDATE SET at_us = excluded.at_us, body = excluded.body",
                [kind, key, to_us(at), body],
            )


def _columns(numbers: NDArray[np.int32], batch: ReadingBatch) -> Columns:
    return Columns(numbers, batch.at_us, batch.values, batch.quality)


def _is_in(connection: Connection, moving: Sequence[LedgerFrame]) -> bool:
    """Whether a commit that moved these frames took place; asked while their marks are locked."""
    held = committed_hashes(connection, [label_of(frame) for frame in moving])
    return bool(moving) and all(held.get(label_of(frame)) == frame.sha256 for frame in moving)
