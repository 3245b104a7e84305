"""The embedded ledger: one DuckDB file, one process, one writing connection, a cursor for each reader.

Data and watermark move in one transaction, and that transaction is on the disk when ``commit`` returns. Readings go in
as Arrow tables without an index; queries prune by DuckDB's zone maps.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import duckdb
import numpy as np
import pyarrow as pa

from tieline_cloud.store.acceptance import below, decide, lane_of
from tieline_cloud.store.arriving import Arriving, gather
from tieline_cloud.store.duckdb_file import StoreFailedError, StoreRefusedError, connect
from tieline_cloud.store.duckdb_folding import Folding
from tieline_cloud.store.duckdb_parts import adopt_zone
from tieline_cloud.store.duckdb_query import DuckDbQuery
from tieline_cloud.store.duckdb_readings import (
    insert_estimates,
    insert_findings,
    insert_misdated,
    insert_position,
    load_last_values,
    readings_table,
    registered,
    save_last_values,
)
from tieline_cloud.store.duckdb_rows import (
    committed,
    grant_epochs,
    held,
    insert_events,
    insert_forecasts,
    insert_frames,
    insert_quarantine,
    keep_documents,
    marks,
    move_marks,
)
from tieline_cloud.store.last_values import LastValues
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
from tieline_cloud.store.rollup import zone_of
from tieline_core.frame import ReadingBatch
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Event, IssuedForecast, Stream
from tieline_core.quantities import Quality, Reading
from tieline_core.timegrid import to_us


class DuckDbStore(DuckDbQuery):
    """Ledger and queries over one DuckDB file.

    Args:
        path: The file; created with its folder when missing.
        memory_limit: Most memory DuckDB may take, in its own notation.
        examiner: Judges readings on arrival; None = nothing is examined.
        timezone: IANA name of the zone whose days are rolled up.

    Raises:
        StoreBusyError: Another process holds the file.
        StoreFormatError: It is no DuckDB file, or its schema is newer than this release.
        ValueError: There is no such time zone.
    """

    def __init__(self, path: Path, memory_limit: str = "64MB", examiner: Examiner | None = None, timezone: str = "UTC") -> None:
        zone = zone_of(timezone)
        self.path = path
        self._connection = connect(path, memory_limit)
        self._writer = threading.Lock()
        self._upkeep = threading.Lock()
        self._arriving: Arriving | None = None
        self._examiner = examiner
        super().__init__(self._connection, LastValues(), zone)
        try:
            self._position = load_last_values(self._connection, self._last)
            self._folding = Folding(self._connection, self._last, zone)
            adopt_zone(self._connection, zone)
            first_release = self._connection.execute("SELECT 1 FROM facts WHERE name = 'first_release'").fetchall()
            self._first_release = bool(first_release)
        except BaseException:
            self._connection.close()
            raise
        if examiner is not None:
            examiner.restore(self._last.rows(), self._last.number)

    def close(self) -> None:
        """Release the file; what was committed stays."""
        with self._writer:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @contextmanager
    def _transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The writing connection inside a transaction that is on the disk when the block has ended."""
        with self._writer:
            self._connection.begin()
            try:
                yield self._connection
                self._connection.commit()
                self._take_up()
            except BaseException as error:
                with suppress(duckdb.Error):  # a failed commit has rolled back by itself
                    self._connection.rollback()
                raise self._told(error) from error
            finally:
                self._arriving = None

    def _told(self, error: BaseException) -> BaseException:
        """What a caller is told of an error of DuckDB's; any other as it is."""
        if isinstance(error, duckdb.FatalException):
            return StoreFailedError(f"{self.path}: the store has to be opened again: {error}")
        if isinstance(error, duckdb.IOException | duckdb.OutOfMemoryException | duckdb.TransactionException):
            return StoreRefusedError(f"{self.path}: nothing was stored: {error}")
        return error

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as error:
            raise self._told(error) from error

    # Ledger

    def watermarks(self, edge: EdgeId) -> dict[Stream, Watermark]:
        """Committed watermarks of every stream of an edge; empty when it was never granted an epoch."""
        with self._cursor() as cursor:
            return {stream: mark for (_, stream), mark in marks(cursor, [edge]).items()}

    def frame_sha256(self, edge: EdgeId, stream: Stream, epoch: int, seq: int) -> str | None:
        """Hash of a committed frame; None when the ledger holds no frame under that label."""
        with self._cursor() as cursor:
            return committed(cursor, [(edge, stream, epoch, seq)]).get((edge, stream, epoch, seq))

    def grant_epoch(self, edge: EdgeId, at: datetime, above: int = 0) -> int:
        """Store and return a new epoch for an edge, one above every epoch it ever had and above ``above``."""
        with self._transaction() as connection:
            return grant_epochs(connection, {edge: above}, to_us(at))[edge]

    def greet(self, greetings: Sequence[Greeting], at: datetime) -> tuple[int | None, ...]:
        """Keep what hellos of different edges leave, in one transaction; returns the epochs granted."""
        with self._transaction() as connection:
            above = {one.edge: one.above for one in greetings if one.above is not None}
            epochs = grant_epochs(connection, above, to_us(at))
            documents = [(kind, str(one.edge), body) for one in greetings for kind, body in one.documents.items()]
            keep_documents(connection, documents, to_us(at))
            insert_events(connection, [event for one in greetings for event in one.events])
        return tuple(epochs.get(one.edge) for one in greetings)

    def points_of(self, edge: EdgeId) -> int:
        """How many points of an edge are known."""
        return self._last.of_edge(edge)

    def unknown_points(self, batches: Sequence[ReadingBatch]) -> list[PointId]:
        """Points of the batches that are not known, each once."""
        return self._last.unknown(batches)

    def commit(self, frames: Sequence[LedgerFrame]) -> Committed:
        """Commit frames in one transaction, each by compare-and-set of its stream's watermark."""
        with self._transaction() as connection:
            before = marks(connection, sorted({frame.edge for frame in frames}))
            known = held(connection, frames, first_release=self._first_release)
            decision = decide(before, frames, known, committed(connection, below(before, frames)))
            taken = decision.taken(frames)
            batches = [
                (frame.readings, to_us(frame.received_at))
                for frame in taken
                if frame.readings is not None and len(frame.readings)
            ]
            stored = self._store(connection, gather(self._last, batches, self._examiner)) if batches else 0
            self._insert_records(connection, taken)
            insert_frames(connection, frames, decision.verdicts)
            named = {lane_of(frame) for frame in frames}
            move_marks(connection, {lane: before[lane] for lane in named & before.keys()}, decision.watermarks)
        after = {lane: mark for lane, mark in decision.watermarks.items() if lane in named}
        return Committed(decision.verdicts, after, stored)

    def ingest_once(self, batch: ReadingBatch, source: str, key: str, sha256: str, at: datetime) -> tuple[Ingested, int]:
        """Store a delivery through a bulk door once per (source, key), in one transaction; returns the rows stored."""
        with self._transaction() as connection:
            known = connection.execute("SELECT sha256 FROM deliveries WHERE source = ? AND key = ?", [source, key]).fetchall()
            if known:
                return (Ingested.REPEATED if known[0][0] == sha256 else Ingested.CONFLICT), 0
            batches = [(batch, to_us(at))]
            stored = self._store(connection, gather(self._last, batches, self._examiner)) if len(batch) else 0
            connection.execute("INSERT INTO deliveries VALUES (?, ?, ?, ?, ?)", [source, key, sha256, to_us(at), stored])
        return Ingested.STORED, stored

    def _store(self, connection: duckdb.DuckDBPyConnection, arriving: Arriving) -> int:
        """Everything of an arrival into its tables, under the next position."""
        self._number_points(connection, arriving)
        readings, received_us = arriving.dated(), int(arriving.arrival.received_us.max())
        if len(readings):
            with registered(connection, "arriving", readings_table(readings)):
                connection.execute(f"INSERT INTO readings SELECT *, {self._position + 1} FROM arriving")  # noqa: S608 (a number)
            insert_position(connection, self._position + 1, received_us, len(readings))
        insert_findings(connection, arriving)
        insert_misdated(connection, arriving)
        return len(readings)

    def _number_points(self, connection: duckdb.DuckDBPyConnection, arriving: Arriving) -> None:
        if arriving.new:
            table = pa.table(
                {"id": np.arange(len(arriving.new), dtype=np.int32) + len(self._last), "name": [str(p) for p in arriving.new]}
            )
            with registered(connection, "new_points", table):
                connection.execute("INSERT INTO points SELECT id, name FROM new_points")
        self._arriving = arriving

    def _take_up(self) -> None:
        """After the commit only: a point or value that was rolled back must not stay in memory."""
        if self._arriving is None:
            return
        arriving, readings = self._arriving, self._arriving.dated()
        self._last.add(arriving.new)
        self._last.update(readings.numbers, readings.at_us, readings.values, readings.quality)
        self._position += 1
        if self._examiner is not None and arriving.examined is not None:
            self._examiner.settle(arriving.examined)

    @staticmethod
    def _insert_records(connection: duckdb.DuckDBPyConnection, taken: Sequence[LedgerFrame]) -> None:
        insert_events(connection, [event for frame in taken for event in frame.events])
        insert_forecasts(connection, [forecast for frame in taken for forecast in frame.forecasts])
        for frame in taken:
            at_us = to_us(frame.received_at)
            if frame.skip is not None:
                connection.execute(
                    "INSERT INTO skips VALUES (?, ?, ?, ?, ?)",
                    [frame.edge, frame.stream.value, frame.epoch, at_us, frame.skip.model_dump_json()],
                )
            if frame.refused is not None:
                refused = frame.refused
                insert_quarantine(connection, at_us, (frame.edge, refused.topic, refused.payload, refused.reason))

    def quarantine(self, edge: str, topic: str, payload: bytes, reason: str, at: datetime) -> None:
        """Keep what could not be decoded, with the reason; the oldest go when there are too many."""
        with self._transaction() as connection:
            insert_quarantine(connection, to_us(at), (edge, topic, payload, reason))

    def import_readings(self, batch: ReadingBatch, source: str, at: datetime) -> int:
        """Store imported history (idempotent per point and instant); returns the rows that were new."""
        if not len(batch):
            return 0
        with self._transaction() as connection:
            arriving = gather(self._last, [(batch, to_us(at))], None)
            self._number_points(connection, arriving)
            numbers = arriving.arrival.numbers
            # The ranges let zone maps pass over everything the batch cannot meet.
            span = [int(batch.at_us.min()), int(batch.at_us.max()), int(numbers.min()), int(numbers.max())]
            with registered(connection, "offered", readings_table(arriving.dated())):
                counts = connection.execute(
                    "INSERT INTO readings SELECT a.point_id, a.at_us, a.value, a.quality, ? FROM "
                    "(SELECT * FROM offered QUALIFY row_number() OVER (PARTITION BY point_id, at_us) = 1) a "
                    "WHERE NOT EXISTS (SELECT 1 FROM readings r WHERE r.at_us BETWEEN ? AND ? "
                    "AND r.point_id BETWEEN ? AND ? AND r.point_id = a.point_id AND r.at_us = a.at_us) "
                    "ORDER BY a.point_id, a.at_us",
                    [self._position + 1, *span],
                ).fetchall()
            new = int(counts[0][0])
            if new:
                insert_position(connection, self._position + 1, to_us(at), new)
            connection.execute("INSERT INTO imports VALUES (?, ?, ?, ?)", [to_us(at), source, len(batch), new])
        return new

    def record_estimates(self, estimates: Sequence[Estimate], at: datetime) -> None:
        """Keep estimated values; of several for a point and instant the newest stays."""
        if not estimates:
            return
        batch = ReadingBatch.of([Reading(e.point, e.value, e.at, Quality.SUBSTITUTED) for e in estimates])
        with self._transaction() as connection:
            named = gather(self._last, [(batch, to_us(at))], None)
            nothing = replace(
                batch, **{name: getattr(batch, name)[:0] for name in ("point_index", "at_us", "values", "quality")}
            )
            self._number_points(connection, gather(self._last, [(nothing, to_us(at))], None))
            insert_estimates(connection, named.arrival, [estimate.method for estimate in estimates], to_us(at))

    def record_events(self, events: Sequence[Event]) -> None:
        """Keep events the hub itself raised; an event id that is already held is left as it is."""
        with self._transaction() as connection:
            insert_events(connection, events)

    def record_forecasts(self, forecasts: Sequence[IssuedForecast]) -> None:
        """Keep forecasts the hub itself issued."""
        with self._transaction() as connection:
            insert_forecasts(connection, forecasts)

    def put_document(self, kind: str, key: str, body: bytes, at: datetime) -> None:
        """Keep the newest state of something that is no time series; replaces the one before."""
        with self._transaction() as connection:
            keep_documents(connection, [(kind, key, body)], to_us(at))

    # Upkeep: on cursors of its own, beside the writer

    def roll_up(self, now: datetime, budget_s: float) -> RollupProgress:
        """Bring roll-ups up to date, for at most about ``budget_s`` seconds; also keeps last values for the next start."""
        with self._upkeep, self._guarded():
            progress = self._folding.advance(now, budget_s)
            with self._writer:
                position = self._position
            save_last_values(self._connection, self._last, position, to_us(now))
            return progress

    def retain(self, policy: RetentionPolicy, now: datetime) -> int:
        """Drop what is past retention, after it was rolled up; returns the rows dropped."""
        with self._upkeep, self._guarded():
            return self._folding.retain(policy, now)
