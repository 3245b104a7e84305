"""A process that reads one parquet file and writes its rows as an Arrow stream to its standard output.

Arrow's parquet reader ends the process on some damaged files (found by fuzzing: an abort while the footer is read), and
a page may declare any size. So the hub lets a process of its own do it, with a bound on its memory; its end is an error
with the file's name, never the hub's end.

``python -m tieline_cloud.jobs.parquet_reader FILE SKIP ROWS``; refusals leave as one line of JSON on standard error, status 3.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any, Final

from tieline_cloud.jobs.history_layout import Layout, layout_of
from tieline_core.errors import BadInputError

REFUSED: Final = 3
MEMORY_BYTES: Final = 4 * 1024**3
#: Cells handed on at once.
BATCH_CELLS: Final = 200_000
#: Bounds of what one row group may unpack to, and of the ratio to the size of the file.
MAX_GROUP_BYTES: Final = 2 * 1024**3
MAX_RATIO: Final = 500
#: Cells a byte of the file.
MAX_CELLS: Final = 200
_RATIO_FROM: Final = 64 * 1024 * 1024
_FOOTER_BYTES: Final = 64 * 1024 * 1024


def main(arguments: list[str]) -> int:
    """Read and write; returns the exit status."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    path, skip, cells = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    try:
        _stream(path, skip, cells)
    except BadInputError as error:
        sys.stderr.write(json.dumps({"key": error.key, "value": error.value, "reason": error.reason}) + "\n")
        return REFUSED
    except BrokenPipeError:
        return 0
    except Exception as error:  # noqa: BLE001 (whatever a damaged file raises is a word about that file)
        text = (str(error).splitlines() or [""])[0][:300]
        sys.stderr.write(json.dumps({"key": "", "value": path.name, "reason": f"not a whole parquet file: {text}"}) + "\n")
        return REFUSED
    return 0


def _stream(path: Path, skip: int, cells: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    limits = {"thrift_string_size_limit": _FOOTER_BYTES, "thrift_container_size_limit": 1_000_000}
    with pq.ParquetFile(path, **limits) as file:
        layout = _layout(path, file.schema_arrow)
        _check_sizes(path, file.metadata)
    texts = [name for name in ("point", "quality") if name in layout.names]
    with pq.ParquetFile(path, read_dictionary=texts, buffer_size=1024 * 1024, **limits) as file:
        schema = file.schema_arrow.remove_metadata().with_metadata({"rows": str(file.metadata.num_rows)})
        with pa.PythonFile(sys.stdout.buffer, "w") as out, pa.ipc.new_stream(out, schema) as writer:
            for rows in _batches(file, skip, max(1, cells // max(1, len(layout.points)))):
                writer.write_batch(rows.cast(schema))


def _batches(file: Any, skip: int, size: int) -> Any:
    """Record batches after the first ``skip`` rows."""
    row = 0
    for number in range(file.metadata.num_row_groups):
        group_rows = file.metadata.row_group(number).num_rows
        if row + group_rows <= skip:
            row += group_rows
            continue
        for rows in file.iter_batches(size, row_groups=[number], use_threads=False):
            fresh = rows.slice(min(rows.num_rows, max(0, skip - row)))
            row += rows.num_rows
            if fresh.num_rows:
                yield fresh


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
            or unpacked > max(_RATIO_FROM, MAX_RATIO * size)
            or cells > max(_RATIO_FROM, MAX_CELLS * size)
        )
        if unreasonable:
            text = f"row group {number} declares {group.num_rows} rows and {unpacked} bytes in a file of {size}"
            raise BadInputError(str(path), f"row group {number}", path.name, f"{text}; write smaller row groups")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
