"""The witness log: what was said to the outside, written before it is said, one system call a record.

A record is one JSON line: ``{"t": simulated s, "sub": ..., "dev": ..., "n": number, "kind": ..., "q": {...}}`` with kind

- ``response``: an answer over Modbus or OPC-UA; ``q`` holds the measurements in it as transmitted, after scale factors
  (OPC-UA records carry ``ts``, the source timestamp);
- ``published``: values an OPC-UA server offers from ``t`` on, whether or not anybody reads them;
- ``sent``: a meter message came into being (``id``, ``ts``), first transmission follows;
- ``receipt``: the edge's receipt for a meter message came back (``id``).
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tieline_sim.files import append_record, open_log


class Witness:
    """Appends records; safe against SIGKILL of this process and usable from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers: dict[tuple[str, str], int] = {}
        #: Meter messages made and not receipted when the log was opened, oldest first: id -> record.
        self.unreceipted: dict[str, dict[str, Any]] = {}
        #: Simulated instant of the newest meter message by (substation, meter).
        self.newest_message: dict[tuple[str, str], float] = {}
        if path.exists():
            self._recover()
        self._descriptor = open_log(path)
        self._lock = threading.Lock()

    def _recover(self) -> None:
        for record in read_records(self._path):
            key = record["sub"], record["dev"]
            self._numbers[key] = max(self._numbers.get(key, 0), record["n"])
            if record["kind"] == "sent":
                self.unreceipted[record["id"]] = record
                self.newest_message[key] = max(self.newest_message.get(key, 0.0), record["t"])
            elif record["kind"] == "receipt":
                self.unreceipted.pop(record["id"], None)

    def log(self, instant: float, substation: str, device: str, kind: str, values: Mapping[str, Any], **more: Any) -> None:
        """Append one record; it is in the file when this returns."""
        with self._lock:
            number = self._numbers.get((substation, device), 0) + 1
            self._numbers[substation, device] = number
            record = {
                "t": round(instant, 4), "sub": substation, "dev": device, "n": number, "kind": kind, "q": values, **more,
            }  # fmt: skip
            append_record(self._descriptor, json.dumps(record, separators=(",", ":")))

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """Records of a log in order; a line torn by a kill is passed over."""
    with path.open(encoding="utf-8", errors="replace") as handle:
        for line in handle:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and "kind" in record:
                yield record
