"""A commit whose outcome cannot be asked at once: what its callers were told stays true."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import aiosqlite
import pytest

from tests.edge.outbox.samples import opened, reading, values
from tieline_core.errors import TransientError
from tieline_core.messages.telemetry import Stream
from tieline_edge.outbox.database import Database


def disk_error() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    return error


@pytest.mark.parametrize("refusals", [1, 3])
@pytest.mark.parametrize("kept", [True, False])
async def test_readings_refused_to_their_caller_are_there_once_after_it_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool, refusals: int
) -> None:
    execute, connect = aiosqlite.Connection.execute, Database.connect
    failing: dict[str, int] = {}

    async def faulty_execute(self: aiosqlite.Connection, sql: str, *rest: object) -> aiosqlite.Cursor:
        if sql == "COMMIT" and failing.pop("commit", 0):
            failing["connect"] = refusals
            if kept:
                await execute(self, sql)
            raise disk_error()
        return await execute(self, sql, *rest)

    async def faulty_connect(self: Database) -> None:
        if failing.get("connect", 0):
            failing["connect"] -= 1
            raise disk_error()
        await connect(self)

    async with opened(tmp_path) as outbox:
        await outbox.relabel(1)
        await outbox.record([reading(1)])
        monkeypatch.setattr(aiosqlite.Connection, "execute", faulty_execute)
        monkeypatch.setattr(Database, "connect", faulty_connect)
        failing["commit"] = 1
        with pytest.raises(TransientError, match="nothing was kept"):
            await outbox.record([reading(2)])
        for _ in range(refusals - 1):
            with pytest.raises(TransientError):
                await outbox.record([reading(2)])
        await outbox.record([reading(2)])
        await outbox.record([reading(3)])
        frames = await outbox.next_frames(Stream.MEASURE, 0, 10)
        assert values(frames) == [1.0, 2.0, 3.0]
        assert [frame.seq for frame in frames] == [1, 2, 3]
