"""History import: streaming, bad rows named, twice is once."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cloud.rooms import NOW, Rooms, StoreWriter
from tieline_cloud.jobs import history_parquet
from tieline_cloud.jobs.import_job import ImportParams, import_files
from tieline_cloud.jobs.model import JobProgress
from tieline_core.errors import BadInputError
from tieline_core.ids import PointId

LOAD = PointId("harbour/site/load_w")
PV = PointId("harbour/site/pv_w")


def write_parquet(path: Path, rows: list[tuple[Any, Any, Any, Any]]) -> Path:
    columns: list[list[Any]] = [list(column) for column in zip(*rows, strict=True)]
    table = pa.table(
        {
            "point": pa.array(columns[0], pa.string()).dictionary_encode(),
            "measured_at": pa.array(columns[1], pa.timestamp("us", tz="UTC")),
            "value": pa.array(columns[2], pa.float64()),
            "quality": pa.array(columns[3], pa.string()),
        }
    )
    pq.write_table(table, path)
    return path


def quarter(number: int) -> datetime:
    return datetime(2016, 12, 1, tzinfo=UTC) + timedelta(minutes=15 * number)


async def run(rooms: Rooms, *files: Path) -> dict[str, Any]:
    params = ImportParams(files=files)
    return await import_files(params, StoreWriter(rooms.store), JobProgress(lambda _share, _message: None), rooms.folder / "r")


async def test_good_rows_of_several_batches_are_stored_and_a_second_import_adds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_parquet.open_parquet, "__defaults__", (7,))
    rooms = Rooms(tmp_path)
    rows = [(point, quarter(n), float(n), "good") for n in range(20) for point in (LOAD, PV)]
    path = write_parquet(tmp_path / "history.parquet", rows)
    assert await run(rooms, path) == {"rows": 40, "new": 40, "bad": 0, "bad_rows": []}
    assert (await run(rooms, path))["new"] == 0
    assert rooms.store.series(LOAD, quarter(0), quarter(99)).values.tolist() == [float(n) for n in range(20)]
    assert rooms.store.series(PV, quarter(3), quarter(4)).values.tolist() == [3.0]


async def test_bad_rows_of_a_parquet_file_are_left_out_and_named_by_number(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path)
    rows = [
        ("Harbour/Load", quarter(0), 1.0, "good"),
        (LOAD, quarter(1), 2.0, "good"),
        (LOAD, None, 3.0, "good"),
        (LOAD, quarter(3), math.nan, "good"),
        (LOAD, quarter(4), 5.0, "excellent"),
        (LOAD, quarter(5), None, "bad"),
        (LOAD, quarter(6), math.inf, "good"),
        (None, quarter(7), 1.0, "good"),
    ]
    result = await run(rooms, write_parquet(tmp_path / "history.parquet", rows))
    assert (result["rows"], result["new"], result["bad"]) == (8, 2, 6)
    reasons = {row["row"]: row["reason"] for row in result["bad_rows"]}
    assert list(reasons) == [1, 3, 4, 5, 7, 8]
    assert reasons[1].startswith("point = 'Harbour/Load': expected a form like")
    assert reasons[3] == "there is no measured_at"
    assert "not finite" in reasons[4]
    assert reasons[5].startswith("quality = 'excellent': is none of good")
    assert reasons[7] == "value = 'inf': the number is not finite"


async def test_a_csv_names_bad_rows_by_line(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path)
    path = tmp_path / "history.csv"
    path.write_text(
        "point,measured_at,value\n"
        f"{LOAD},2016-12-01T00:00:00Z,1.5\n"
        f"{LOAD},2016-12-01 00:15:00,2.5\n"
        f"{LOAD},2016-12-01T00:30:00+00:00,much\n"
        f"{LOAD},2016-12-01T01:45:00+01:00,4.5\n",
        encoding="utf-8",
    )
    result = await run(rooms, path)
    assert (result["rows"], result["new"], result["bad"]) == (4, 2, 2)
    assert [row["row"] for row in result["bad_rows"]] == [3, 4]
    assert "no time zone" in result["bad_rows"][0]["reason"]
    assert rooms.store.series(LOAD, quarter(0), quarter(99)).values.tolist() == [1.5, 4.5]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", "point,value\n", "lacks measured_at"),
        ("a.csv", "point,measured_at,value,colour\n", "unknown colour"),
        ("a.parquet", "no parquet", "not a parquet file"),
        ("a.xlsx", "", r"expected a \.parquet or \.csv"),
    ],
)
async def test_a_file_that_cannot_be_used_is_refused_with_the_reason(
    tmp_path: Path, name: str, content: str, reason: str
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(BadInputError, match=reason):
        await run(Rooms(tmp_path), tmp_path / name)


async def test_a_missing_file_is_named_before_anything_is_stored(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path)
    good = write_parquet(tmp_path / "good.parquet", [(LOAD, quarter(0), 1.0, "good")])
    with pytest.raises(BadInputError, match="there is no such file"):
        await run(rooms, good, tmp_path / "absent.csv")
    assert not len(rooms.store.series(LOAD, quarter(0), NOW).at_us)


async def test_a_column_without_a_time_zone_is_refused(tmp_path: Path) -> None:
    table = pa.table(
        {"point": ["harbour/site/load_w"], "measured_at": pa.array([quarter(0)], pa.timestamp("us")), "value": [1.0]}
    )
    pq.write_table(table, tmp_path / "naive.parquet")
    with pytest.raises(BadInputError, match="with a time zone"):
        await run(Rooms(tmp_path), tmp_path / "naive.parquet")
