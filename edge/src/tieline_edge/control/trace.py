"""The trace: why each device was told what it was told, kept in a bounded SQLite ring.

A row is written when a decision changes, when something becomes of a write, and once an hour as a heartbeat. Reading is a
matter of opening the file: :func:`why` works beside a running edge and after a dead one.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

from tieline_core.errors import BadInputError
from tieline_core.ids import DeviceId
from tieline_core.timegrid import from_us, to_us
from tieline_edge.control.arbiter import Decision
from tieline_edge.control.executor import Outcome
from tieline_edge.drivers.capabilities import Action, HoldPower, LimitGeneration, SwitchContact

_LOG = logging.getLogger(__name__)
#: A row takes about 600 bytes: this keeps weeks of a site with 20 devices.
DEFAULT_MAX_BYTES: Final = 64 * 1024 * 1024
HEARTBEAT_S: Final = 3600.0
_TRIM_EVERY: Final = 500
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS trace (
    id INTEGER PRIMARY KEY, at_us INTEGER NOT NULL, device TEXT NOT NULL, kind TEXT NOT NULL, action TEXT NOT NULL,
    detail TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS trace_device ON trace (device, at_us);
"""


def describe(action: Action | None) -> str:
    """An action in words."""
    if action is None:
        return "leave alone"
    if isinstance(action, HoldPower):
        way = "charge" if action.power_w > 0 else ("discharge" if action.power_w < 0 else "rest")
        return f"hold {action.power_w:g} W ({way})"
    if isinstance(action, LimitGeneration):
        return "no limit of generation" if action.min_power_w is None else f"deliver at most {-action.min_power_w:g} W"
    if isinstance(action, SwitchContact):
        return "close" if action.closed else "open"
    return "release to its own default"


class Trace:
    """Writes the ring.

    Args:
        connection: An open connection with the schema in it.
        max_bytes: Size at which the oldest rows go.
    """

    def __init__(self, connection: sqlite3.Connection, max_bytes: int) -> None:
        self._db = connection
        self._max_bytes = max_bytes
        self._last: dict[DeviceId, tuple[str, datetime]] = {}
        self._since_trim = 0
        #: Rows the disk did not take.
        self.lost = 0

    @classmethod
    def open(cls, path: Path, max_bytes: int = DEFAULT_MAX_BYTES) -> Self:
        """Open or make the file; an unreadable one is set aside, for a trace must never stop control."""
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return cls(_connect(path), max_bytes)
        except sqlite3.DatabaseError:
            path.replace(path.with_name(path.name + ".unreadable"))
            return cls(_connect(path), max_bytes)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def decided(self, decisions: Mapping[DeviceId, Decision], now: datetime) -> int:
        """Keep the decisions that have changed, and each device's once an hour; returns how many rows were written."""
        rows: list[tuple[int, str, str, str, str]] = []
        for device, decision in decisions.items():
            told = self._last.get(device)
            mark = _mark(decision)
            changed = told is None or told[0] != mark
            if not changed and told is not None and (now - told[1]).total_seconds() < HEARTBEAT_S:
                continue
            self._last[device] = (mark, now)
            kind = "decision" if changed else "heartbeat"
            rows.append((to_us(now), device, kind, describe(decision.action), json.dumps(_detail(decision))))
        self._keep(rows)
        return len(rows)

    def happened(self, outcome: Outcome) -> None:
        """Keep what became of a write."""
        detail = {"state": outcome.state.value, "text": outcome.text, "source": outcome.source, "refresh": outcome.refresh}
        self._keep([(to_us(outcome.at), outcome.device, "write", describe(outcome.action), json.dumps(detail))])

    def _keep(self, rows: list[tuple[int, str, str, str, str]]) -> None:
        if not rows:
            return
        try:
            with self._db:
                self._db.executemany("INSERT INTO trace (at_us, device, kind, action, detail) VALUES (?, ?, ?, ?, ?)", rows)
            self._since_trim += len(rows)
            if self._since_trim >= _TRIM_EVERY:
                self._since_trim = 0
                self._trim()
        except sqlite3.Error as error:
            # A full or broken disk costs the explanation, never the control.
            self.lost += len(rows)
            _LOG.warning("trace: %d rows were not kept: %s", len(rows), error)

    def _trim(self) -> None:
        pages, size, free = (
            int(self._db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "page_size", "freelist_count")
        )
        if (pages - free) * size > self._max_bytes:
            with self._db:
                # A tenth at a time: freed pages are used again, so the file stops growing.
                self._db.execute("DELETE FROM trace WHERE id <= (SELECT min(id) + (max(id) - min(id)) / 10 FROM trace)")


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=1.0)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        # The trace explains; it proves nothing to a counterparty, so it needs no fsync at each row.
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.executescript(_SCHEMA)
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


def _mark(decision: Decision) -> str:
    winner = None if decision.winner is None else (decision.winner.band, decision.winner.source, decision.winner.reason)
    limits = sorted((claim.band, claim.source) for claim in (*decision.limits, *decision.dropped))
    return repr((describe(decision.action), winner, limits))


def _detail(decision: Decision) -> dict[str, Any]:
    return {
        "winner": None if decision.winner is None else str(decision.winner),
        "losers": [str(claim) for claim in decision.losers],
        "limits": [str(claim) for claim in decision.limits],
        "dropped": [str(claim) for claim in decision.dropped],
        "interval": str(decision.interval),
        "notes": list(decision.notes),
        "ages_s": dict(decision.ages_s),
    }


def why(path: Path, device: DeviceId, at: datetime) -> str:
    """The decision in force for a device at an instant, and what became of it, in words.

    Raises:
        BadInputError: When there is no trace, or nothing about this device at that time.
    """
    if not path.exists():
        raise BadInputError(str(path), "", None, "there is no trace yet: has this edge ever run?")
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1.0)) as db:
        row = db.execute(
            "SELECT at_us, action, detail FROM trace WHERE device = ? AND kind != 'write' AND at_us <= ? "
            "ORDER BY at_us DESC, id DESC LIMIT 1",
            (device, to_us(at)),
        ).fetchone()
        if row is None:
            known = [name for (name,) in db.execute("SELECT DISTINCT device FROM trace ORDER BY device")]
            raise BadInputError(
                str(path),
                "device",
                str(device),
                f"nothing is kept about it up to {at.isoformat()}; there is: {', '.join(known)}",
            )
        since = db.execute(
            "SELECT at_us FROM trace WHERE device = ? AND kind = 'decision' AND at_us <= ? "
            "ORDER BY at_us DESC, id DESC LIMIT 1",
            (device, row[0]),
        ).fetchone()
        writes = db.execute(
            "SELECT at_us, action, detail FROM trace WHERE device = ? AND kind = 'write' AND at_us BETWEEN ? AND ? "
            "ORDER BY at_us DESC, id DESC LIMIT 5",
            (device, (since or row)[0], to_us(at)),
        ).fetchall()
    return _told(device, row, writes)


def _told(device: DeviceId, row: tuple[int, str, str], writes: list[tuple[int, str, str]]) -> str:
    detail = json.loads(row[2])
    lines = [
        f"{device}: {row[1]}, decided {from_us(row[0]).isoformat(timespec='seconds')}",
        f"  because  {detail['winner'] or 'nobody claimed a setpoint or position'}",
    ]
    lines += [f"  against  {text}" for text in detail["losers"]]
    lines += [f"  limit    {text}" for text in detail["limits"]]
    lines += [f"  dropped  {text}" for text in detail["dropped"]]
    if detail["limits"]:
        lines.append(f"  leaves   {detail['interval']}")
    lines += [f"  note     {text}" for text in detail["notes"]]
    if detail["ages_s"]:
        lines.append("  inputs   " + ", ".join(f"{name} {age:g} s old" for name, age in sorted(detail["ages_s"].items())))
    for at_us, action, text in reversed(writes):
        what = json.loads(text)
        again = " (refresh)" if what["refresh"] else ""
        lines.append(
            f"  written  {from_us(at_us).isoformat(timespec='seconds')} {action}: {what['state']}{again}, {what['text']}"
        )
    return "\n".join(lines)
