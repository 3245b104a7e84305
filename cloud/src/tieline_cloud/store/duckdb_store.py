"""The embedded ledger: one DuckDB file, one process, one writing connection, a cursor for each reader.

Data and watermark move in one transaction, and that transaction is on the disk when ``commit`` returns. Readings go in
as Arrow tables without an index; queries prune by DuckDB's zone maps.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import duckdb
import numpy as np
import pyarrow as pa

from tieline_cloud.store.acceptance import Label, Lane, below, decide, lane_of
from tieline_cloud.store.duckdb_file import StoreFailedError, StoreRefusedError, connect, disk_refused
from tieline_cloud.store.duckdb_query import DuckDbQuery
from tieline_cloud.store.last_values import LastValues
from tieline_cloud.store.parquet import number_column
from tieline_cloud.store.ports import Committed, LedgerFrame, Verdict, Watermark
from tieline_core.frame import ReadingBatch
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Event, IssuedForecast, Stream
from tieline_core.timegrid import to_us

#: Bounds of the quarantine: bytes kept of one payload, entries kept in all.
QUARANTINE_BYTES: Final = 64 * 1024
QUARANTINE_ROWS: Final = 10_000


class DuckDbStore(DuckDbQuery):
    """Ledger and queries over one DuckDB file.

    Args:
        path: The file; created with its folder when missing.
        memory_limit: Most memory DuckDB may take, in its own notation.

    Raises:
        StoreBusyError: Another process holds the file.
        StoreFormatError: It is no DuckDB file, or its schema is newer than this release.
    """

    def __init__(self, path: Path, memory_limit: str = "1GB") -> None:
        self.path = path
        self._connection = connect(path, memory_limit)
        self._writer = threading.Lock()
        self._arriving: tuple[list[PointId], Any] | None = None
        super().__init__(self._connection, LastValues())
        self._load_last_values()

    def close(self) -> None:
        """Release the file; what was committed stays."""
        with self._writer:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _load_last_values(self) -> None:
        names = self._connection.execute("SELECT id, name FROM points ORDER BY id").fetchall()
        self._last.add(PointId(name) for _, name in names)
        newest = self._connection.execute(
            "SELECT point_id, max(at_us) AS at_us, arg_max({'v': value, 'q': quality}, at_us) AS row FROM readings GROUP BY 1"
        ).fetchall()
        if newest:
            self._last.update(
                np.array([row[0] for row in newest], np.int32),
                np.array([row[1] for row in newest], np.int64),
                np.array([np.nan if row[2]["v"] is None else row[2]["v"] for row in newest], np.float64),
                np.array([row[2]["q"] for row in newest], np.uint8),
            )

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
                if isinstance(error, duckdb.FatalException):
                    raise StoreFailedError(f"{self.path}: the store has to be opened again: {error}") from error
                if isinstance(error, duckdb.IOException | duckdb.OutOfMemoryException) or disk_refused(error):
                    raise StoreRefusedError(f"{self.path}: nothing was stored: {error}") from error
                raise
            finally:
                self._arriving = None

    # Ledger

    def watermarks(self, edge: EdgeId) -> dict[Stream, Watermark]:
        """Committed watermarks of every stream of an edge; empty when it was never granted an epoch."""
        with self._cursor() as cursor:
            return {stream: mark for (_, stream), mark in _marks(cursor, [edge]).items()}

    def frame_sha256(self, edge: EdgeId, stream: Stream, epoch: int, seq: int) -> str | None:
        """Hash of a committed frame; None when the ledger holds no frame under that label."""
        with self._cursor() as cursor:
            return _committed(cursor, [(edge, stream, epoch, seq)]).get((edge, stream, epoch, seq))

    def grant_epoch(self, edge: EdgeId, at: datetime, above: int = 0) -> int:
        """Store and return a new epoch for an edge, one above every epoch it ever had and above ``above``."""
        with self._transaction() as connection:
            rows = connection.execute("SELECT epoch FROM epochs WHERE edge = ?", [edge]).fetchall()
            epoch = max(rows[0][0] if rows else 0, above) + 1
            connection.execute(
                "INSERT INTO epochs VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET epoch = excluded.epoch, "
                "granted_at_us = excluded.granted_at_us",
                [edge, epoch, to_us(at)],
            )
            for stream in Stream:
                connection.execute(
                    "INSERT INTO marks VALUES (?, ?, ?, 0, NULL) "
                    "ON CONFLICT DO UPDATE SET epoch = excluded.epoch, seq = 0, sha256 = NULL",
                    [edge, stream.value, epoch],
                )
        return epoch

    def commit(self, frames: Sequence[LedgerFrame]) -> Committed:
        """Commit frames in one transaction, each by compare-and-set of its stream's watermark."""
        with self._transaction() as connection:
            before = _marks(connection, sorted({frame.edge for frame in frames}))
            decision = decide(before, frames, _held(connection, frames), _committed(connection, below(before, frames)))
            taken = decision.taken(frames)
            stored = self._insert_batches(connection, [frame.readings for frame in taken if frame.readings is not None])
            self._insert_records(connection, taken)
            _insert_frames(connection, frames, decision.verdicts)
            named = {lane_of(frame) for frame in frames}
            _move_marks(connection, {lane: before[lane] for lane in named & before.keys()}, decision.watermarks)
        after = {lane: mark for lane, mark in decision.watermarks.items() if lane in named}
        return Committed(decision.verdicts, after, stored)

    def _insert_batches(self, connection: duckdb.DuckDBPyConnection, batches: Sequence[ReadingBatch]) -> int:
        if not batches:
            return 0
        rows = self._arrow(connection, batches)
        connection.register("arriving", rows)
        connection.execute("INSERT INTO readings SELECT * FROM arriving")
        connection.unregister("arriving")
        return int(rows.num_rows)

    def _arrow(self, connection: duckdb.DuckDBPyConnection, batches: Sequence[ReadingBatch]) -> Any:
        new = {point: len(self._last) + offset for offset, point in enumerate(self._last.unknown(batches))}
        if new:
            connection.executemany("INSERT INTO points VALUES (?, ?)", [[number, name] for name, number in new.items()])
        rows = pa.table(
            {
                "point_id": np.concatenate([self._last.numbers(batch, new) for batch in batches]),
                "at_us": np.concatenate([batch.at_us for batch in batches]),
                "value": number_column(np.concatenate([batch.values for batch in batches])),
                "quality": np.concatenate([batch.quality for batch in batches]),
            }
        )
        self._arriving = (list(new), rows)
        return rows

    def _take_up(self) -> None:
        """After the commit only: a point or value that was rolled back must not stay in memory."""
        if self._arriving is None:
            return
        new, rows = self._arriving
        self._last.add(new)
        self._last.update(
            rows["point_id"].to_numpy(), rows["at_us"].to_numpy(), rows["value"].to_numpy(), rows["quality"].to_numpy()
        )

    @staticmethod
    def _insert_records(connection: duckdb.DuckDBPyConnection, taken: Sequence[LedgerFrame]) -> None:
        _insert_events(connection, [event for frame in taken for event in frame.events])
        _insert_forecasts(connection, [forecast for frame in taken for forecast in frame.forecasts])
        for frame in taken:
            at_us = to_us(frame.received_at)
            if frame.skip is not None:
                connection.execute(
                    "INSERT INTO skips VALUES (?, ?, ?, ?, ?)",
                    [frame.edge, frame.stream.value, frame.epoch, at_us, frame.skip.model_dump_json()],
                )
            if frame.refused is not None:
                refused = frame.refused
                _insert_quarantine(connection, at_us, (frame.edge, refused.topic, refused.payload, refused.reason))

    def quarantine(self, edge: str, topic: str, payload: bytes, reason: str, at: datetime) -> None:
        """Keep what could not be decoded, with the reason; the oldest go when there are too many."""
        with self._transaction() as connection:
            _insert_quarantine(connection, to_us(at), (edge, topic, payload, reason))

    def import_readings(self, batch: ReadingBatch, source: str, at: datetime) -> int:
        """Store imported history (idempotent per point and instant); returns the rows that were new."""
        if not len(batch):
            return 0
        with self._transaction() as connection:
            rows = self._arrow(connection, [batch])
            numbers = rows["point_id"].to_numpy()
            connection.register("offered", rows)
            # The ranges let zone maps pass over everything the batch cannot meet.
            connection.execute(
                "CREATE OR REPLACE TEMP TABLE fresh AS SELECT * FROM offered "
                "QUALIFY row_number() OVER (PARTITION BY point_id, at_us) = 1"
            )
            connection.unregister("offered")
            span = [int(batch.at_us.min()), int(batch.at_us.max()), int(numbers.min()), int(numbers.max())]
            counts = connection.execute(
                "INSERT INTO readings SELECT a.* FROM fresh a WHERE NOT EXISTS (SELECT 1 FROM readings r "
                "WHERE r.at_us BETWEEN ? AND ? AND r.point_id BETWEEN ? AND ? "
                "AND r.point_id = a.point_id AND r.at_us = a.at_us) ORDER BY a.point_id, a.at_us",
                span,
            ).fetchall()
            new = int(counts[0][0])
            connection.execute("DROP TABLE fresh")
            connection.execute("INSERT INTO imports VALUES (?, ?, ?, ?)", [to_us(at), source, len(batch), new])
        return new

    def record_events(self, events: Sequence[Event]) -> None:
        """Keep events the hub itself raised; an event id that is already held is left as it is."""
        with self._transaction() as connection:
            _insert_events(connection, events)

    def record_forecasts(self, forecasts: Sequence[IssuedForecast]) -> None:
        """Keep forecasts the hub itself issued."""
        with self._transaction() as connection:
            _insert_forecasts(connection, forecasts)

    def put_document(self, kind: str, key: str, body: bytes, at: datetime) -> None:
        """Keep the newest state of something that is no time series; replaces the one before."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO documents VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET at_us = excluded.at_us, body = excluded.body",
                [kind, key, to_us(at), body],
            )


def _marks(connection: duckdb.DuckDBPyConnection, edges: Sequence[EdgeId]) -> dict[Lane, Watermark]:
    rows = connection.execute(
        "SELECT edge, stream, epoch, seq, sha256 FROM marks WHERE edge IN (SELECT unnest(?::VARCHAR[]))", [list(edges)]
    ).fetchall()
    return {(EdgeId(row[0]), Stream(row[1])): Watermark(row[2], row[3], row[4]) for row in rows}


def _move_marks(connection: duckdb.DuckDBPyConnection, before: dict[Lane, Watermark], after: dict[Lane, Watermark]) -> None:
    for lane, old in before.items():
        new = after[lane]
        if new.seq == old.seq:
            continue
        moved = connection.execute(
            "UPDATE marks SET seq = ?, sha256 = ? WHERE edge = ? AND stream = ? AND epoch = ? AND seq = ?",
            [new.seq, new.sha256, lane[0], lane[1].value, old.epoch, old.seq],
        ).fetchall()
        if moved != [(1,)]:
            raise RuntimeError(f"the watermark of {lane[0]}/{lane[1]} moved under a running commit")


def _held(connection: duckdb.DuckDBPyConnection, frames: Sequence[LedgerFrame]) -> set[tuple[EdgeId, Stream, str]]:
    hashes = list({frame.sha256 for frame in frames})
    if not hashes:
        return set()
    places = ", ".join("?" * len(hashes))
    rows = connection.execute(
        f"SELECT edge, stream, sha256 FROM frames WHERE sha256 IN ({places})",  # noqa: S608 (only question marks go in)
        hashes,
    ).fetchall()
    return {(EdgeId(row[0]), Stream(row[1]), row[2]) for row in rows}


def _committed(connection: duckdb.DuckDBPyConnection, labels: Sequence[Label]) -> dict[Label, str]:
    """Hashes of those labels that are committed; one query a lane, over the span of its numbers."""
    spans: dict[tuple[EdgeId, Stream, int], list[int]] = {}
    for edge, stream, epoch, seq in labels:
        spans.setdefault((edge, stream, epoch), []).append(seq)
    found: dict[Label, str] = {}
    for (edge, stream, epoch), numbers in spans.items():
        rows = connection.execute(
            "SELECT seq, sha256 FROM frames WHERE edge = ? AND stream = ? AND epoch = ? AND seq BETWEEN ? AND ?",
            [edge, stream.value, epoch, min(numbers), max(numbers)],
        ).fetchall()
        found |= {(edge, stream, epoch, seq): sha256 for seq, sha256 in rows}
    return found


def _insert_frames(connection: duckdb.DuckDBPyConnection, frames: Sequence[LedgerFrame], verdicts: Sequence[Verdict]) -> None:
    moving = [
        (frame, verdict)
        for frame, verdict in zip(frames, verdicts, strict=True)
        if verdict in (Verdict.ACCEPTED, Verdict.REPEATED)
    ]
    if not moving:
        return
    table = pa.table(
        {
            "edge": [str(frame.edge) for frame, _ in moving],
            "stream": [frame.stream.value for frame, _ in moving],
            "epoch": [frame.epoch for frame, _ in moving],
            "first_seq": [frame.first_seq for frame, _ in moving],
            "seq": [frame.seq for frame, _ in moving],
            "sha256": [frame.sha256 for frame, _ in moving],
            "readings": [0 if frame.readings is None else len(frame.readings) for frame, _ in moving],
            "verdict": [verdict.value for _, verdict in moving],
            "received_at_us": [to_us(frame.received_at) for frame, _ in moving],
        }
    )
    connection.register("labels", table)
    connection.execute("INSERT INTO frames SELECT * FROM labels")
    connection.unregister("labels")


def _insert_events(connection: duckdb.DuckDBPyConnection, events: Sequence[Event]) -> None:
    rows = [[e.event_id, e.edge_id, to_us(e.at), e.severity.value, e.code, e.model_dump_json()] for e in events]
    if rows:
        connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", rows)


def _insert_forecasts(connection: duckdb.DuckDBPyConnection, forecasts: Sequence[IssuedForecast]) -> None:
    rows = [[f.point, to_us(f.issued_at), to_us(f.start), f.model_id, f.model_dump_json()] for f in forecasts]
    if rows:
        connection.executemany("INSERT INTO forecasts VALUES (?, ?, ?, ?, ?)", rows)


def _insert_quarantine(connection: duckdb.DuckDBPyConnection, at_us: int, row: tuple[str, str, bytes, str]) -> None:
    edge, topic, payload, reason = row
    connection.execute(
        "INSERT INTO quarantine (at_us, edge, topic, size, payload, reason) VALUES (?, ?, ?, ?, ?, ?)",
        [at_us, edge[:64], topic[:256], len(payload), payload[:QUARANTINE_BYTES], reason[:500]],
    )
    connection.execute("DELETE FROM quarantine WHERE number <= (SELECT max(number) FROM quarantine) - ?", [QUARANTINE_ROWS])
