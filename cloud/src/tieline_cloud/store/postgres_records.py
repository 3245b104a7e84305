"""Statements of the PostgreSQL ledger around marks, frames and records; each runs inside the transaction it is given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from tieline_cloud.store.acceptance import Label, Lane, oldest_us
from tieline_cloud.store.duckdb_rows import QUARANTINE_BYTES, QUARANTINE_ROWS
from tieline_cloud.store.ports import LedgerFrame, Verdict, Watermark
from tieline_cloud.store.postgres_session import Connection
from tieline_core.ids import EdgeId
from tieline_core.messages.telemetry import Event, IssuedForecast, Stream
from tieline_core.timegrid import to_us

_FRAME_COLUMNS: Final = ("int8", "int8", "int8", "int8", "int4", "text", "text", "text", "bytea", "int8")
_FOUND_COLUMNS: Final = {
    "findings": ("int8", "int8", "float8", "float8", "int4", "text"),
    "misdated": ("int8", "int8", "float8", "int4", "int2", "text"),
}
_CHUNK_COLUMNS: Final = ("int8", "int8", "int8", "int8", "date", "int4", "int4", "int4", "text", "bytea")


def read_marks(connection: Connection, edges: Iterable[EdgeId], *, lock: bool = False) -> dict[Lane, Watermark]:
    """Marks of all streams of some edges; with ``lock`` held to the end of the transaction, taken in one order by all."""
    query = "SELECT edge, stream, epoch, seq, sha256 FROM marks WHERE edge = ANY(%s) ORDER BY edge, stream"
    rows = connection.execute(query + (" FOR UPDATE" if lock else ""), [[str(edge) for edge in edges]]).fetchall()
    return {(EdgeId(row[0]), Stream(row[1])): Watermark(row[2], row[3], row[4].hex() if row[4] else None) for row in rows}


def move_marks(connection: Connection, before: Mapping[Lane, Watermark], after: Mapping[Lane, Watermark]) -> None:
    """Compare and set every mark that moved.

    Raises:
        RuntimeError: A mark is not where it was read.
    """
    moved = [(lane, old, after[lane]) for lane, old in before.items() if after[lane].seq != old.seq]
    if not moved:
        return
    columns: tuple[list[Any], ...] = (
        [str(lane[0]) for lane, _, _ in moved],
        [lane[1].value for lane, _, _ in moved],
        [old.epoch for _, old, _ in moved],
        [old.seq for _, old, _ in moved],
        [new.seq for _, _, new in moved],
        [bytes.fromhex(new.sha256 or "") for _, _, new in moved],
    )
    cursor = connection.execute(
        "UPDATE marks m SET seq = n.seq, sha256 = n.sha256 "
        "FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bytea[]) "
        "AS n (edge, stream, epoch, old_seq, seq, sha256) "
        "WHERE m.edge = n.edge AND m.stream = n.stream AND m.epoch = n.epoch AND m.seq = n.old_seq",
        columns,
    )
    if cursor.rowcount != len(moved):
        raise RuntimeError(f"{len(moved) - cursor.rowcount} watermarks moved under a running commit")


def held_content(connection: Connection, frames: Sequence[LedgerFrame]) -> set[tuple[EdgeId, Stream, str]]:
    """Which of the hashes of the frames the ledger holds, by edge and stream."""
    hashes = [bytes.fromhex(text) for text in {frame.sha256 for frame in frames}]
    query = "SELECT edge, stream, sha256 FROM frames WHERE sha256 = ANY(%s)"
    rows = connection.execute(query, [hashes]).fetchall()
    return {(EdgeId(row[0]), Stream(row[1]), row[2].hex()) for row in rows}


def committed_hashes(connection: Connection, labels: Sequence[Label]) -> dict[Label, str]:
    """Hashes of those labels that are committed."""
    if not labels:
        return {}
    columns: tuple[list[Any], ...] = (
        [str(edge) for edge, _, _, _ in labels],
        [stream.value for _, stream, _, _ in labels],
        [epoch for _, _, epoch, _ in labels],
        [seq for _, _, _, seq in labels],
    )
    rows = connection.execute(
        "SELECT f.edge, f.stream, f.epoch, f.seq, f.sha256 FROM frames f "
        "JOIN unnest(%s::text[], %s::text[], %s::bigint[], %s::bigint[]) AS n (edge, stream, epoch, seq) "
        "ON f.edge = n.edge AND f.stream = n.stream AND f.epoch = n.epoch AND f.seq = n.seq",
        columns,
    ).fetchall()
    return {(EdgeId(row[0]), Stream(row[1]), row[2], row[3]): row[4].hex() for row in rows}


def insert_frames(connection: Connection, frames: Sequence[LedgerFrame], verdicts: Sequence[Verdict]) -> None:
    """Labels and hashes of the frames that moved their mark."""
    moves = (Verdict.ACCEPTED, Verdict.REPEATED)
    moving = [(frame, verdict) for frame, verdict in zip(frames, verdicts, strict=True) if verdict in moves]
    if not moving:
        return
    with connection.cursor().copy("COPY frames FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(_FRAME_COLUMNS)
        for frame, verdict in moving:
            readings = 0 if frame.readings is None else len(frame.readings)
            numbers = (frame.epoch, frame.first_seq, frame.seq, to_us(frame.received_at), readings)
            words = (str(frame.edge), frame.stream.value, verdict.value)
            copy.write_row((*numbers, *words, bytes.fromhex(frame.sha256), oldest_us(frame)))


def copy_chunks(connection: Connection, rows: Iterable[tuple[Any, ...]]) -> None:
    """Rows of the table of chunks, in the order of its columns."""
    with connection.cursor().copy("COPY chunks FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(_CHUNK_COLUMNS)
        for row in rows:
            copy.write_row(row)


def copy_found(connection: Connection, table: Literal["findings", "misdated"], rows: Sequence[tuple[Any, ...]]) -> None:
    """Rows of findings or of misdated readings, in the order of the table's columns."""
    if rows:
        with connection.cursor().copy(f"COPY {table} FROM STDIN (FORMAT BINARY)".encode()) as copy:
            copy.set_types(_FOUND_COLUMNS[table])
            for row in rows:
                copy.write_row(row)


def grant_epochs(connection: Connection, above: Mapping[EdgeId, int], at_us: int) -> dict[EdgeId, int]:
    """New epochs, each one above every epoch its edge ever had and above a number; watermarks start at 0."""
    if not above:
        return {}
    edges = sorted(above)  # the order in which rows are locked
    rows = connection.execute(
        "INSERT INTO epochs SELECT edge, above + 1, %s::bigint FROM unnest(%s::text[], %s::bigint[]) AS wanted (edge, above) "
        "ON CONFLICT (edge) DO UPDATE SET epoch = greatest(epochs.epoch, excluded.epoch - 1) + 1, "
        "granted_at_us = excluded.granted_at_us RETURNING edge, epoch",
        [at_us, [str(edge) for edge in edges], [above[edge] for edge in edges]],
    ).fetchall()
    granted = {EdgeId(edge): int(epoch) for edge, epoch in rows}
    lanes = [(str(edge), stream.value, granted[edge]) for edge in edges for stream in sorted(Stream)]
    connection.cursor().executemany(
        "INSERT INTO marks VALUES (%s, %s, %s, 0, NULL) "
        "ON CONFLICT (edge, stream) DO UPDATE SET epoch = excluded.epoch, seq = 0, sha256 = NULL",
        lanes,
    )
    return granted


def keep_documents(connection: Connection, rows: Sequence[tuple[str, str, bytes]], at_us: int) -> None:
    """Keep (kind, key, body), each in the place of the one before."""
    if rows:
        connection.cursor().executemany(
            "INSERT INTO documents VALUES (%s, %s, %s, %b) "
            "ON CONFLICT (kind, key) DO UPDATE SET at_us = excluded.at_us, body = excluded.body",
            sorted((kind, key, at_us, body) for kind, key, body in rows),
        )


def insert_events(connection: Connection, events: Sequence[Event]) -> None:
    """Events by their id, once; in the order of the ids, so that two writers cannot lock each other out."""
    rows = sorted((e.event_id, str(e.edge_id), to_us(e.at), e.severity.value, e.code, e.model_dump_json()) for e in events)
    if rows:
        connection.cursor().executemany("INSERT INTO events VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING", rows)


def insert_forecasts(connection: Connection, forecasts: Sequence[IssuedForecast]) -> None:
    """Issued forecasts by point, issue, model and start, once."""
    rows = sorted((str(f.point), to_us(f.issued_at), f.model_id, to_us(f.start), f.model_dump_json()) for f in forecasts)
    if rows:
        connection.cursor().executemany("INSERT INTO forecasts VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING", rows)


def insert_side_records(connection: Connection, taken: Sequence[LedgerFrame]) -> None:
    """Everything frames carry beside readings."""
    insert_events(connection, [event for frame in taken for event in frame.events])
    insert_forecasts(connection, [forecast for frame in taken for forecast in frame.forecasts])
    for frame in taken:
        at_us = to_us(frame.received_at)
        if frame.skip is not None:
            connection.execute(
                "INSERT INTO skips (edge, stream, epoch, received_at_us, body) VALUES (%s, %s, %s, %s, %s)",
                [str(frame.edge), frame.stream.value, frame.epoch, at_us, frame.skip.model_dump_json()],
            )
        if frame.refused is not None:
            refused = frame.refused
            insert_quarantine(connection, at_us, (frame.edge, refused.topic, refused.payload, refused.reason))


def _printable(text: str) -> str:
    """Text that PostgreSQL takes, whatever bytes it was made from."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def insert_quarantine(connection: Connection, at_us: int, row: tuple[str, str, bytes, str]) -> None:
    """One entry; the oldest go when there are too many."""
    edge, topic, payload, reason = row
    connection.execute(
        "INSERT INTO quarantine (at_us, edge, topic, size, payload, reason) VALUES (%s, %s, %s, %s, %b, %s)",
        [
            at_us,
            _printable(edge[:64]),
            _printable(topic[:256]),
            len(payload),
            payload[:QUARANTINE_BYTES],
            _printable(reason[:500]),
        ],
    )
    connection.execute("DELETE FROM quarantine WHERE number <= (SELECT max(number) FROM quarantine) - %s", [QUARANTINE_ROWS])
