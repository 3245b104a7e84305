"""One input for everything that reads files and bodies from outside; driven by ``import_files.py`` and by a test."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tieline_cloud.doors.deliveries import FRAME, JSON, read_delivery
from tieline_cloud.doors.unpack import unpack
from tieline_cloud.jobs import history_source
from tieline_cloud.jobs.history_files import open_history
from tieline_core.errors import TielineError
from tieline_core.ids import EdgeId

_LIMIT: Final = 1_000_000
_HEADERS: Final = (
    b"",
    b"point,measured_at,value\n",
    b"measured_at,mill/m1/p_w,mill/m2/p_w\n",
    b"point;measured_at;value;quality\n",
)


def one_input(folder: Path, data: bytes) -> None:
    """Hand one input to each reader, as the first byte says."""
    if not data:
        return
    choice, body = data[0], data[1:]
    try:
        if choice < 64:
            suffix = (".csv", ".csv.gz", ".csv.zst")[choice % 3]
            header = _HEADERS[choice // 3 % 4] if suffix == ".csv" else b""
            path = folder / f"input{suffix}"
            path.write_bytes(header + body)
            vars(history_source)["BLOCK_BYTES"] = 64 + choice  # small blocks meet their seams more often
            for part in open_history(path).parts:
                part.batch.readings()
        elif choice < 128:
            read_delivery(body, JSON, "fuzz", (EdgeId("mill"),)).readings()
        elif choice < 192:
            read_delivery(body, FRAME, "fuzz", (EdgeId("mill"),)).readings()
        else:
            plain = unpack(body, ("gzip", "zstd")[choice % 2], _LIMIT, "fuzz")
            if len(plain) > _LIMIT:
                raise AssertionError(f"{len(plain)} bytes were unpacked, the limit is {_LIMIT}")
    except TielineError:
        return
