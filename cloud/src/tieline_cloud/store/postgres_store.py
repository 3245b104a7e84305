"""The ledger in PostgreSQL: several hubs may use it at once.

Data and watermark move in one transaction, and that transaction is on the disk when ``commit`` returns. Correctness needs
no lease: marks are read ``FOR UPDATE`` in one order and moved by compare-and-set, so of two hubs that commit the same edge
the later one finds the mark moved and stores nothing. Readings rest as compressed chunks in a partition a day.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Final, Self

import numpy as np

from tieline_cloud.store.acceptance import Lane, below, decide, label_of, lane_of
from tieline_cloud.store.ports import (
    Committed,
    Estimate,
    Examiner,
    Greeting,
    Ingested,
    LedgerFrame,
    RetentionPolicy,
    RollupProgress,
    Watermark,
)
from tieline_cloud.store.postgres_audit import PostgresAudit
from tieline_cloud.store.postgres_chunks import Columns
from tieline_cloud.store.postgres_points import KnownPoints
from tieline_cloud.store.postgres_query import DAY_US
from tieline_cloud.store.postgres_records import (
    committed_hashes,
    grant_epochs,
    held_content,
    insert_events,
    insert_forecasts,
    insert_frames,
    insert_quarantine,
    insert_side_records,
    keep_documents,
    move_marks,
    read_marks,
)
from tieline_cloud.store.postgres_schema import DayPartitions, migrate
from tieline_cloud.store.postgres_session import (
    PATIENT,
    Connection,
    OutcomeUnknownError,
    Patience,
    Sessions,
    checked_url,
)
from tieline_cloud.store.postgres_writer import Arrived, ReadingWriter
from tieline_cloud.store.rollup import zone_of
from tieline_core.errors import TransientError
from tieline_core.frame import ReadingBatch
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Event, IssuedForecast, Stream
from tieline_core.timegrid import to_us

#: Readings after which the last values are saved, so that a start after a kill reads no more than these.
_SAVE_AFTER: Final = 20_000_000


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A commit as it would be reported, kept in case its outcome does not come back."""

    frames: tuple[LedgerFrame, ...]
    moving: tuple[LedgerFrame, ...]
    outcome: Committed
    arrived: Arrived | None


class PostgresStore(PostgresAudit):
    """Ledger and queries over one PostgreSQL database.

    Args:
        url: ``postgresql://user@host:5432/database``, as libpq reads it; a password comes from PGPASSFILE or PGPASSWORD.
        examiner: Judges readings on arrival, None = nobody.
        timezone: IANA name of the zone whose days are rolled up.
        patience: How long to wait for what other hubs hold.

    Raises:
        BadInputError: The URL cannot be used.
        StoreLostError: The server cannot be reached.
        StoreFormatError: The schema is newer than this release, or the server is not durable.
    """

    def __init__(self, url: str, examiner: Examiner | None = None, timezone: str = "UTC", patience: Patience = PATIENT) -> None:
        super().__init__(Sessions(checked_url(url), patience), KnownPoints(), zone_of(timezone))
        self._partitions = DayPartitions()
        self._examiner = examiner
        self._writer = ReadingWriter(self._known, examiner)
        self._turn = threading.Lock()
        self._unsettled: _Attempt | None = None
        try:
            migrate(self._sessions)
            with self._sessions.reading() as connection:
                self._known.load(connection)
            if examiner is not None:
                examiner.restore(self._known.last.rows(), self._known.last.number)
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
            return grant_epochs(connection, {edge: above}, to_us(at))[edge]

    def greet(self, greetings: Sequence[Greeting], at: datetime) -> tuple[int | None, ...]:
        """Keep what hellos of different edges leave, in one transaction; returns the epochs granted."""
        with self._sessions.transaction() as connection:
            above = {one.edge: one.above for one in greetings if one.above is not None}
            epochs = grant_epochs(connection, above, to_us(at))
            documents = [(kind, str(one.edge), body) for one in greetings for kind, body in one.documents.items()]
            keep_documents(connection, documents, to_us(at))
            insert_events(connection, [event for one in greetings for event in one.events])
        return tuple(epochs.get(one.edge) for one in greetings)

    def points_of(self, edge: EdgeId) -> int:
        """How many points of an edge are known."""
        return self._known.last.of_edge(edge)

    def unknown_points(self, batches: Sequence[ReadingBatch]) -> list[PointId]:
        """Points of the batches that are not known, each once."""
        return self._known.last.unknown(batches)

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
        self._take(made.arrived)
        return made.outcome

    def _take(self, arrived: Arrived | None) -> int:
        """What arrived is durable: into memory with it; returns the rows stored."""
        if arrived is None:
            return 0
        self._known.take(arrived.position, arrived.new, arrived.rows)
        if self._examiner is not None and arrived.examined is not None:
            self._examiner.settle(arrived.examined)
        return len(arrived.rows)

    def _write(self, connection: Connection, frames: tuple[LedgerFrame, ...], before: dict[Lane, Watermark]) -> _Attempt:
        named = {lane_of(frame) for frame in frames}
        marks = {lane: before[lane] for lane in named & before.keys()}
        committed = committed_hashes(connection, below(marks, frames))
        decision = decide(marks, frames, held_content(connection, frames), committed)
        taken, moving = decision.taken(frames), decision.moving(frames)
        batches = [
            (frame.readings, to_us(frame.received_at)) for frame in taken if frame.readings is not None and len(frame.readings)
        ]
        arrived = self._writer.store(connection, batches, len(moving)) if batches else None
        if moving and arrived is None:
            connection.execute("UPDATE ledger SET frames = frames + %s", [len(moving)])
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

    def quarantine(self, edge: str, topic: str, payload: bytes, reason: str, at: datetime) -> None:
        """Keep what could not be decoded, with the reason; the oldest go when there are too many."""
        with self._sessions.transaction() as connection:
            insert_quarantine(connection, to_us(at), (edge, topic, payload, reason))

    def ingest_once(self, batch: ReadingBatch, source: str, key: str, sha256: str, at: datetime) -> tuple[Ingested, int]:
        """Store a delivery through a bulk door once per (source, key), in one transaction; returns the rows stored."""
        self._make_partitions([(batch, at)])
        arrived: Arrived | None = None
        with self._turn:
            with self._sessions.transaction() as connection:
                made = connection.execute(
                    "INSERT INTO deliveries VALUES (%s, %s, %s, %s, 0) ON CONFLICT DO NOTHING",
                    [source, key, sha256, to_us(at)],
                ).rowcount
                if not made:
                    query = "SELECT sha256 FROM deliveries WHERE source = %s AND key = %s"
                    same = connection.execute(query, [source, key]).fetchall() == [(sha256,)]
                    return (Ingested.REPEATED if same else Ingested.CONFLICT), 0
                if len(batch):
                    arrived = self._writer.store(connection, [(batch, to_us(at))])
                    connection.execute(
                        "UPDATE deliveries SET readings = %s WHERE source = %s AND key = %s", [len(arrived.rows), source, key]
                    )
            return Ingested.STORED, self._take(arrived)

    def import_readings(self, batch: ReadingBatch, source: str, at: datetime) -> int:
        """Store imported history (idempotent per point and instant); returns the rows that were new."""
        if not len(batch):
            return 0
        self._make_partitions([(batch, at)])
        with self._sessions.transaction() as connection:
            arrived = self._writer.store_fresh(connection, batch, to_us(at))
            stored = [to_us(at), source, len(batch), len(arrived.rows)]
            connection.execute("INSERT INTO imports VALUES (%s, %s, %s, %s)", stored)
        return self._take(arrived)

    def record_estimates(self, estimates: Sequence[Estimate], at: datetime) -> None:
        """Keep estimated values; of several for a point and instant the newest stays."""
        if not estimates:
            return
        points = list(dict.fromkeys(estimate.point for estimate in estimates))
        newest = {(str(estimate.point), to_us(estimate.at)): estimate for estimate in estimates}
        with self._sessions.transaction() as connection:
            new = self._writer.numbers(connection, points)
            rows = sorted(
                (new[e.point] if e.point in new else self._known.last.number(e.point), at_us, e.value, e.method, to_us(at))
                for (_, at_us), e in newest.items()
            )
            connection.cursor().executemany(
                "INSERT INTO estimates VALUES (%s, %s, %s, %s, %s) ON CONFLICT (point_id, at_us) DO UPDATE "
                "SET value = excluded.value, method = excluded.method, made_at_us = excluded.made_at_us",
                rows,
            )
        self._known.take(None, new, Columns.joined([]))

    def roll_up(self, now: datetime, budget_s: float) -> RollupProgress:
        """Bring hours and days up to date, for at most about ``budget_s`` seconds."""
        return self._rollups.advance(now, budget_s)

    def retain(self, policy: RetentionPolicy, now: datetime) -> int:
        """Drop what is past retention, after it was rolled up; returns the rows dropped."""
        self._caught_up()
        return self._rollups.retain(policy, now, self._partitions)

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
            keep_documents(connection, [(kind, key, body)], to_us(at))


def _is_in(connection: Connection, moving: Sequence[LedgerFrame]) -> bool:
    """Whether a commit that moved these frames took place; asked while their marks are locked."""
    held = committed_hashes(connection, [label_of(frame) for frame in moving])
    return bool(moving) and all(held.get(label_of(frame)) == frame.sha256 for frame in moving)
