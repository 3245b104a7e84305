"""An import that is ended at any point and started again: every row once, every refused row once."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cloud.jobs.test_history_files import HEADER, good
from tests.cloud.rooms import Rooms, StoreWriter
from tieline_cloud.jobs import history_source
from tieline_cloud.jobs.import_job import ImportParams, import_files
from tieline_cloud.jobs.model import JobFailedError, JobProgress
from tieline_cloud.jobs.reject_file import reject_path
from tieline_cloud.store.duckdb_store import DuckDbStore
from tieline_core.frame import ReadingBatch

WRONG = b"harbour/site/load_w,2016-12-01T00:00:00Z,much\n"


class _KilledError(Exception):
    """Stands for the end of the process."""


@dataclass
class DyingWriter(StoreWriter):
    """Ends before or after one of its calls."""

    left: int = 10**9
    told: list[str] = field(default_factory=list)

    def _live(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise _KilledError

    async def import_readings(self, batch: ReadingBatch, source: str) -> int:
        self._live()
        new = await super().import_readings(batch, source)
        self._live()
        return new

    async def remember(self, key: str, body: bytes) -> None:
        self._live()
        await super().remember(key, body)
        self._live()


async def run(rooms: Rooms, path: Path, left: int = 10**9, **params: Any) -> dict[str, Any]:
    told: list[str] = []
    progress = JobProgress(lambda _share, message: told.append(message))
    writer = DyingWriter(rooms.store, left)
    result = await import_files(ImportParams(files=(path,), **params), writer, progress, rooms.folder / "rejects")
    assert not told or "rows/s" in told[-1]
    return result


def rejects(rooms: Rooms, path: Path) -> list[list[str]]:
    with reject_path(rooms.folder / "rejects", path).open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


async def test_killed_at_every_point_and_started_again_no_row_is_missed_doubled_or_named_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_source, "BLOCK_BYTES", 2000)
    path = tmp_path / "a.csv"
    path.write_bytes(HEADER + b"".join(good(200)[n * 500 : n * 500 + 500] for n in range(30)) + WRONG * 3)
    whole = Rooms(tmp_path / "whole")
    expected = await run(whole, path)
    assert (expected["new"], expected["bad"]) == (200, 3)
    for left in range(1, 20, 2):
        rooms = Rooms(tmp_path / f"left{left}")
        lives = 0
        while True:
            lives += 1
            try:
                result = await run(rooms, path, left)
            except _KilledError:
                assert lives < 200
                left += 1  # noqa: PLW2901 (each life is a little longer, so that one gets to the end)
                continue
            break
        assert rooms.store.statistics().readings == 200
        assert (result["rows"], result["bad"]) == (expected["rows"], expected["bad"])
        assert rejects(rooms, path) == rejects(whole, path)


async def test_an_interrupted_file_that_has_grown_is_read_on_and_one_that_was_changed_is_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_source, "BLOCK_BYTES", 70_000)
    rooms, path = Rooms(tmp_path), tmp_path / "a.csv"
    path.write_bytes(HEADER + good(3000))
    with pytest.raises(_KilledError):
        await run(rooms, path, 5)
    path.write_bytes(HEADER + good(3600))
    grown = await run(rooms, path)
    assert grown["resumed_at_row"] > 1000
    assert rooms.store.statistics().readings == 3600
    path.write_bytes(HEADER + good(3000))
    with pytest.raises(_KilledError):
        await run(rooms, path, 5)
    path.write_bytes((HEADER + good(3000)).replace(b"2016-12-01T00:19", b"2017-12-01T00:19"))
    changed = await run(rooms, path)
    assert "resumed_at_row" not in changed
    assert rooms.store.statistics().readings == 3660


async def test_a_dry_run_judges_every_row_and_stores_nothing(tmp_path: Path) -> None:
    rooms, path = Rooms(tmp_path), tmp_path / "a.csv"
    path.write_bytes(HEADER + good(100) + WRONG)
    result = await run(rooms, path, dry_run=True)
    assert (result["rows"], result["new"], result["bad"], result["dry_run"]) == (101, 0, 1, True)
    assert rooms.store.statistics().readings == 0
    assert rejects(rooms, path)[1:] == [["a.csv", "102", "value", "much", "is no number"]]
    assert (await run(rooms, path))["new"] == 60 + 40


async def test_too_many_wrong_rows_stop_the_import_and_name_the_first(tmp_path: Path) -> None:
    rooms, path = Rooms(tmp_path), tmp_path / "a.csv"
    path.write_bytes(HEADER + good(100) + WRONG * 11)
    with pytest.raises(JobFailedError, match=r"more than 10 rows .* row 102: value = 'much': is no number"):
        await run(rooms, path, max_errors=10)
    assert (await run(rooms, path, max_errors=11))["bad"] == 11


async def test_the_reject_file_is_bounded_and_every_row_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tieline_cloud.jobs.reject_file.MAX_BYTES", 4000)
    rooms, path = Rooms(tmp_path), tmp_path / "a.csv"
    path.write_bytes(HEADER + WRONG * 5000)
    result = await run(rooms, path)
    assert (result["bad"], len(result["bad_rows"])) == (5000, 100)
    assert reject_path(rooms.folder / "rejects", path).stat().st_size <= 4000


async def test_refused_rows_of_two_files_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path)
    paths = (tmp_path / "one" / "a.csv", tmp_path / "two" / "a.csv")
    for number, path in enumerate(paths):
        path.parent.mkdir()
        path.write_bytes(HEADER + WRONG * (number + 1))
    progress = JobProgress(lambda _share, _message: None)
    result = await import_files(ImportParams(files=paths), StoreWriter(rooms.store), progress, rooms.folder / "rejects")
    assert [len(rejects(rooms, path)) - 1 for path in paths] == [1, 2]
    assert len(set(result["reject_files"])) == 2


def test_a_process_killed_in_the_middle_of_a_real_import_goes_on_where_it_was(tmp_path: Path) -> None:
    config = tmp_path / "hub.yaml"
    tree = {"data_dir": "data", "signing_key": "hub.key", "mqtt": {"host": "127.0.0.1", "insecure": True}}
    config.write_text(yaml.safe_dump(tree), encoding="utf-8")
    path = tmp_path / "a.csv"
    with path.open("wb") as file:
        file.write(HEADER)
        for day in range(1, 29):
            file.write(WRONG + good(3600).replace(b"2016-12-01T00", b"2016-12-%02dT00" % day))
            for meter in range(9):
                name = b"mill/m%d/p_w" % meter
                file.write(good(3600).replace(b"harbour/site/load_w", name).replace(b"12-01T00", b"11-%02dT00" % day))
    command = [sys.executable, "-m", "tieline_cloud", "import", str(path), "--config", str(config), "--json"]
    refused = reject_path(tmp_path / "data" / "rejects", path)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline, wake = time.monotonic() + 60, threading.Event()
        while not refused.exists() and time.monotonic() < deadline:
            wake.wait(0.01)
        wake.wait(0.3)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the import was over before the kill"
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["resumed_at_row"] > 1
    assert (result["rows"], result["bad"]) == (28 * 3601 + 28 * 9 * 3600, 28)
    with DuckDbStore(tmp_path / "data" / "hub.duckdb") as store:
        assert store.statistics().readings == 28 * 3600 * 10
    assert len(refused.read_text(encoding="utf-8").splitlines()) == 29
