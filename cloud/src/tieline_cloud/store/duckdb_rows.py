"""Rows of the ledger's own tables: watermarks, frames, records and quarantine, inside a transaction of the caller's.

What every commit asks is asked with lists, not joins: of each hash join DuckDB remembers the blocks until thousands have
gathered, which at ten commits a second grew the process by several MB a minute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

import duckdb
import pyarrow as pa

from tieline_cloud.store.acceptance import Label, Lane, oldest_us
from tieline_cloud.store.ports import LedgerFrame, Verdict, Watermark
from tieline_core.ids import EdgeId
from tieline_core.messages.telemetry import Event, IssuedForecast, Stream
from tieline_core.reconcile import HOUR_US
from tieline_core.timegrid import to_us

#: Bounds of the quarantine: bytes kept of one payload, entries kept in all.
QUARANTINE_BYTES: Final = 64 * 1024
QUARANTINE_ROWS: Final = 10_000
#: Most spans in which held content is looked for: a question each.
_SPANS: Final = 8
#: A span with few frames, as of live data; in a longer one a join is the faster way, and commits are larger and fewer.
_NARROW_US: Final = 60_000_000
_LISTED: Final = "list_position(?::VARCHAR[], sha256) > 0"
_JOINED: Final = "sha256 IN (SELECT unnest(?::VARCHAR[]))"
#: Where the lane of a row stands in the lists. Not list_contains: the optimizer makes a join of it.
_ROW: Final = "list_position($lanes::VARCHAR[], edge || '/' || stream)"
_MOVE: Final = (
    f"UPDATE marks SET seq = list_extract($seqs::BIGINT[], {_ROW}), sha256 = list_extract($hashes::VARCHAR[], {_ROW}) "  # noqa: S608 (our own words)
    f"WHERE {_ROW} > 0 AND epoch = list_extract($epochs::BIGINT[], {_ROW}) "
    f"AND seq = list_extract($were::BIGINT[], {_ROW})"
)


def marks(connection: duckdb.DuckDBPyConnection, edges: Sequence[EdgeId]) -> dict[Lane, Watermark]:
    """Watermarks of all streams of the edges."""
    rows = connection.execute(
        "SELECT edge, stream, epoch, seq, sha256 FROM marks WHERE list_position(?::VARCHAR[], edge) > 0", [list(edges)]
    ).fetchall()
    return {(EdgeId(row[0]), Stream(row[1])): Watermark(row[2], row[3], row[4]) for row in rows}


def grant_epochs(connection: duckdb.DuckDBPyConnection, above: Mapping[EdgeId, int], at_us: int) -> dict[EdgeId, int]:
    """New epochs, each one above every epoch its edge ever had and above a number; watermarks start at 0."""
    if not above:
        return {}
    edges = list(above)
    had = dict(
        connection.execute("SELECT edge, epoch FROM epochs WHERE edge IN (SELECT unnest(?::VARCHAR[]))", [edges]).fetchall()
    )
    granted = {edge: max(had.get(edge, 0), above[edge]) + 1 for edge in edges}
    connection.execute(
        "INSERT INTO epochs SELECT unnest(?::VARCHAR[]), unnest(?::BIGINT[]), ? "
        "ON CONFLICT DO UPDATE SET epoch = excluded.epoch, granted_at_us = excluded.granted_at_us",
        [edges, list(granted.values()), at_us],
    )
    lanes = [(str(edge), stream.value, epoch) for edge, epoch in granted.items() for stream in Stream]
    connection.execute(
        "INSERT INTO marks SELECT unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::BIGINT[]), 0, NULL "
        "ON CONFLICT DO UPDATE SET epoch = excluded.epoch, seq = 0, sha256 = NULL",
        [list(column) for column in zip(*lanes, strict=True)],
    )
    return granted


def keep_documents(connection: duckdb.DuckDBPyConnection, rows: Sequence[tuple[str, str, bytes]], at_us: int) -> None:
    """Keep (kind, key, body), each in the place of the one before."""
    if rows:
        kinds, keys, bodies = (list(column) for column in zip(*rows, strict=True))
        connection.execute(
            "INSERT INTO documents SELECT unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), ?, unnest(?::BLOB[]) "
            "ON CONFLICT DO UPDATE SET at_us = excluded.at_us, body = excluded.body",
            [kinds, keys, at_us, bodies],
        )


def move_marks(connection: duckdb.DuckDBPyConnection, before: dict[Lane, Watermark], after: dict[Lane, Watermark]) -> None:
    """Compare-and-set of every watermark that moves, in one statement."""
    moving = [(lane, old, after[lane]) for lane, old in before.items() if after[lane].seq != old.seq]
    if not moving:
        return
    columns = {
        "lanes": [f"{edge}/{stream.value}" for (edge, stream), _, _ in moving],
        "epochs": [old.epoch for _, old, _ in moving],
        "were": [old.seq for _, old, _ in moving],
        "seqs": [new.seq for _, _, new in moving],
        "hashes": [new.sha256 for _, _, new in moving],
    }
    moved = connection.execute(_MOVE, columns).fetchall()
    if moved != [(len(moving),)]:
        lanes = ", ".join(f"{edge}/{stream}" for (edge, stream), _, _ in moving[:5])
        raise RuntimeError(f"a watermark moved under a running commit: one of {len(moving)} from {lanes} on")


def held(
    connection: duckdb.DuckDBPyConnection, frames: Sequence[LedgerFrame], *, first_release: bool
) -> set[tuple[EdgeId, Stream, str]]:
    """Which contents of the batch the ledger holds, as (edge, stream, sha256).

    A content that comes again has the same oldest instant, so it is looked for in the spans of the batch's instants only,
    where zone maps lead; what has none (skips, unreadable bodies, frames of the first release) is looked for apart.

    Args:
        connection: Inside the transaction.
        frames: The batch.
        first_release: Whether the store holds frames of the first release.
    """
    wanted = list({frame.sha256 for frame in frames})
    if not wanted:
        return set()
    instants = {oldest_us(frame) for frame in frames}
    spans = _spans(sorted(us for us in instants if us is not None))
    questions: list[tuple[str, tuple[int, ...]]] = [
        (f"first_us BETWEEN ? AND ? AND {_LISTED if last - first <= _NARROW_US else _JOINED}", (first, last))
        for first, last in spans
    ]
    if first_release or None in instants:
        questions.append((f"first_us IS NULL AND {_JOINED}", ()))
    found: list[tuple[str, str, str]] = []
    for condition, parameters in questions:
        found += connection.execute(
            f"SELECT edge, stream, sha256 FROM frames WHERE {condition}",  # noqa: S608 (our own words)
            [*parameters, wanted],
        ).fetchall()
    return {(EdgeId(edge), Stream(stream), sha256) for edge, stream, sha256 in found}


def _spans(instants: Sequence[int]) -> list[tuple[int, int]]:
    """Few spans that hold all instants: cut at the widest gaps that are longer than an hour."""
    if not instants:
        return []
    gaps = sorted(((b - a, n + 1) for n, (a, b) in enumerate(pairwise(instants)) if b - a > HOUR_US), reverse=True)
    cuts = [0, *sorted(n for _, n in gaps[: _SPANS - 1]), len(instants)]
    return [(instants[first], instants[end - 1]) for first, end in pairwise(cuts)]


def committed(connection: duckdb.DuckDBPyConnection, labels: Sequence[Label]) -> dict[Label, str]:
    """Hashes of those labels that are committed, in one question over the span of their numbers."""
    if not labels:
        return {}
    numbers = [seq for _, _, _, seq in labels]
    rows = connection.execute(
        "SELECT f.edge, f.stream, f.epoch, f.seq, f.sha256 FROM frames f SEMI JOIN (SELECT unnest(?::VARCHAR[]) AS edge, "
        "unnest(?::VARCHAR[]) AS stream, unnest(?::BIGINT[]) AS epoch, unnest(?::BIGINT[]) AS seq) w "
        "ON f.edge = w.edge AND f.stream = w.stream AND f.epoch = w.epoch AND f.seq = w.seq WHERE f.seq BETWEEN ? AND ?",
        [
            [str(edge) for edge, _, _, _ in labels],
            [stream.value for _, stream, _, _ in labels],
            [epoch for _, _, epoch, _ in labels],
            numbers,
            min(numbers),
            max(numbers),
        ],
    ).fetchall()
    return {(EdgeId(edge), Stream(stream), epoch, seq): sha256 for edge, stream, epoch, seq, sha256 in rows}


def insert_frames(connection: duckdb.DuckDBPyConnection, frames: Sequence[LedgerFrame], verdicts: Sequence[Verdict]) -> None:
    """Keep the labels and hashes of the frames that move their watermark."""
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
            "first_us": pa.array([oldest_us(frame) for frame, _ in moving], pa.int64()),
        }
    )
    connection.register("labels", table)
    connection.execute("INSERT INTO frames SELECT * FROM labels")
    connection.unregister("labels")


def insert_events(connection: duckdb.DuckDBPyConnection, events: Sequence[Event]) -> None:
    """Keep events, each id once."""
    rows = [[e.event_id, e.edge_id, to_us(e.at), e.severity.value, e.code, e.model_dump_json()] for e in events]
    if rows:
        connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", rows)


def insert_forecasts(connection: duckdb.DuckDBPyConnection, forecasts: Sequence[IssuedForecast]) -> None:
    """Keep issued forecasts."""
    rows = [[f.point, to_us(f.issued_at), to_us(f.start), f.model_id, f.model_dump_json()] for f in forecasts]
    if rows:
        connection.executemany("INSERT INTO forecasts VALUES (?, ?, ?, ?, ?)", rows)


def insert_quarantine(connection: duckdb.DuckDBPyConnection, at_us: int, row: tuple[str, str, bytes, str]) -> None:
    """Keep (edge, topic, payload, reason); the oldest go when there are too many."""
    edge, topic, payload, reason = row
    connection.execute(
        "INSERT INTO quarantine (at_us, edge, topic, size, payload, reason) VALUES (?, ?, ?, ?, ?, ?)",
        [at_us, edge[:64], topic[:256], len(payload), payload[:QUARANTINE_BYTES], reason[:500]],
    )
    connection.execute("DELETE FROM quarantine WHERE number <= (SELECT max(number) FROM quarantine) - ?", [QUARANTINE_ROWS])
