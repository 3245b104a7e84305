"""Reads parquet by row groups in bounded batches; sizes the file only declares are checked before memory is spent."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tieline_cloud.jobs.history_csv import Layout, layout_of
from tieline_cloud.jobs.history_part import FileMark, HistoryPart, OpenedHistory, joined
from tieline_cloud.jobs.history_rows import long_batch, wide_batch
from tieline_core.errors import BadInputError

BATCH_CELLS: Final = 200_000
#: Bounds of what one row group may unpack to, and of the ratio to its packed size.
MAX_GROUP_BYTES: Final = 2 * 1024**3
MAX_RATIO: Final = 500
#: Cells a byte of the file: real series need more than one bit each.
MAX_CELLS: Final = 200
_RATIO_FROM_BYTES: Final = 64 * 1024 * 1024
_FOOTER_BYTES: Final = 64 * 1024 * 1024


def file_sha256(path: Path) -> str:
    """Hash of a whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_parquet(path: Path, mark: FileMark | None) -> OpenedHistory:
    """Open a parquet file, read on from a mark when it is still the same file.

    Raises:
        BadInputError: When it is none, declares unreasonable sizes or has other columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        limits = {"thrift_string_size_limit": _FOOTER_BYTES, "thrift_container_size_limit": 1_000_000}
        with pq.ParquetFile(path, **limits) as file:
            layout = _layout(path, file.schema_arrow)
            _check_sizes(path, file.metadata)
        texts = [name for name in ("point", "quality") if name in layout.names]
        file = pq.ParquetFile(path, read_dictionary=texts, buffer_size=1024 * 1024, **limits)
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        raise BadInputError(str(path), "", path.name, f"not a parquet file: {_first_line(error)}") from error
    sha256 = file_sha256(path)
    resumed = mark is not None and mark.sha256 == sha256 and 0 < mark.offset <= file.metadata.num_rows
    return OpenedHistory(_parts(path, file, layout, sha256, mark.offset if resumed and mark else 0), resumed)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def _layout(path: Path, schema: Any) -> Layout:
    import pyarrow as pa

    layout = layout_of(list(schema.names), str(path))
    stamp = schema.field("measured_at").type
    if not pa.types.is_timestamp(stamp) or stamp.tz is None:
        raise BadInputError(str(path), "measured_at", str(stamp), "expected a timestamp column with a time zone (UTC)")
    for name in layout.names:
        kind = schema.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        text = name in ("point", "quality")
        fits = pa.types.is_string(kind) or pa.types.is_large_string(kind) if text else _numeric(kind)
        if name != "measured_at" and not fits:
            raise BadInputError(str(path), name, str(kind), f"expected a column of {'text' if text else 'numbers'}")
    return layout


def _numeric(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _check_sizes(path: Path, metadata: Any) -> None:
    size = path.stat().st_size
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        unpacked = sum(max(0, group.column(column).total_uncompressed_size) for column in range(group.num_columns))
        cells = max(0, group.num_rows) * group.num_columns
        unreasonable = (
            unpacked > MAX_GROUP_BYTES
            or unpacked > max(_RATIO_FROM_BYTES, MAX_RATIO * size)
            or cells > max(_RATIO_FROM_BYTES, MAX_CELLS * size)
        )
        if unreasonable:
            text = f"row group {number} declares {group.num_rows} rows and {unpacked} bytes in a file of {size}"
            raise BadInputError(str(path), f"row group {number}", path.name, f"{text}; write smaller row groups")


def _parts(path: Path, file: Any, layout: Layout, sha256: str, skip: int) -> Iterator[HistoryPart]:
    import pyarrow as pa

    total, row = max(1, file.metadata.num_rows), 0
    size = max(1, BATCH_CELLS // max(1, len(layout.points)))
    with file:
        for number in range(file.metadata.num_row_groups):
            group_rows = file.metadata.row_group(number).num_rows
            if row + group_rows <= skip:
                row += group_rows
                continue
            try:
                for rows in file.iter_batches(size, row_groups=[number], use_threads=False):
                    fresh = rows.slice(min(rows.num_rows, max(0, skip - row)))
                    first = row + rows.num_rows - fresh.num_rows
                    row += rows.num_rows
                    if fresh.num_rows:
                        yield _part(fresh, layout, first, FileMark(offset=row, row=row, sha256=sha256), row / total)
            except (pa.ArrowException, OSError, OverflowError, UnicodeDecodeError) as error:
                text = f"cannot be read: {_first_line(error)}"
                raise BadInputError(str(path), f"row group {number}", path.name, text) from error


def _part(rows: Any, layout: Layout, first: int, mark: FileMark, done: float) -> HistoryPart:
    batch, bad = wide_batch(rows, layout.points, first + 1) if layout.points else long_batch(rows, first + 1)
    return HistoryPart(joined([batch]), tuple(bad), rows.num_rows, min(1.0, done), mark)
