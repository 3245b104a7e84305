"""Readers of history files: every form, every defect named, bombs refused, nothing but our own errors."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tieline_cloud.jobs import history_csv, history_source
from tieline_cloud.jobs.history_files import open_history
from tieline_cloud.jobs.history_parquet import open_parquet
from tieline_cloud.jobs.history_part import BadRow, FileMark, HistoryPart
from tieline_core.errors import BadInputError

HEADER = b"point,measured_at,value\n"
GOOD = b"harbour/site/load_w,2016-12-01T00:%02d:%02dZ,%d.5\n"


def good(count: int) -> bytes:
    return b"".join(GOOD % (n // 60 % 60, n % 60, n) for n in range(count))


def read(path: Path, content: bytes | None = None, mark: FileMark | None = None) -> list[HistoryPart]:
    if content is not None:
        path.write_bytes(content)
    return list(open_history(path, mark).parts)


def values(parts: list[HistoryPart]) -> list[float]:
    return [value for part in parts for value in part.batch.values.tolist()]


def bad(parts: list[HistoryPart]) -> list[BadRow]:
    return [row for part in parts for row in part.bad]


WRONG = {
    b"harbour/site/load_w,2016-12-01T00:00:00,1": ("measured_at", "it has no time zone"),
    b"harbour/site/load_w,2016-12-01T00:00:00Z,much": ("value", "is no number"),
    b"harbour/site/load_w,2016-12-01T00:00:00Z,": ("value", "there is no number"),
    b"harbour/site/load_w,2016-12-01T00:00:00Z,nan": ("value", "not finite"),
    b"harbour/site/load_w,2016-12-01T00:00:00Z,1.7e308": ("value", "no measurement is beyond 1e+100"),
    b"harbour/site/load_w,1970-01-01T00:00:00Z,1": ("measured_at", "from 2000"),
    b"Harbour,2016-12-01T00:00:00Z,1": ("point", "expected a form"),
    b",2016-12-01T00:00:00Z,1": ("point", ""),
    b"harbour/site/load_w,,1": ("measured_at", ""),
    b"harbour/site/load_w,2016-12-01T00:00:00Z": ("", "2 cells"),
    b"harbour/site/load_w,2016-12-01T00:00:00Z,1,2": ("", "4 cells"),
    b'"harbour/site/load_w,2016-12-01T00:00:00Z,1': ("", "not readable as csv"),
}


@pytest.mark.parametrize("line", WRONG, ids=[f"{key or 'row'}-{number}" for number, (key, _) in enumerate(WRONG.values())])
def test_a_wrong_line_among_thousands_is_named_by_number_key_and_reason(tmp_path: Path, line: bytes) -> None:
    parts = read(tmp_path / "a.csv", HEADER + good(1500) + line + b"\n" + good(1500))
    (row,) = bad(parts)
    key, reason = WRONG[line]
    assert (row.row, row.key) == (1502, key)
    assert reason in row.reason
    assert values(parts) == [n + 0.5 for n in range(1500)] * 2
    assert sum(part.rows for part in parts) == 3001


@given(
    lines=st.lists(st.sampled_from([b"", *WRONG]) | st.integers(0, 59), max_size=80),
    block=st.integers(60, 500),
    singly=st.integers(1, 8),
)
@settings(max_examples=150, deadline=None)
def test_any_mixture_of_lines_gives_the_good_ones_in_order_and_names_the_others(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes | int], block: int, singly: int
) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    texts = [GOOD[:-1] % (0, line, line) if isinstance(line, int) else line for line in lines]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history_source, "BLOCK_BYTES", block)
        patch.setattr(history_csv, "_SINGLY", singly)
        parts = read(path, HEADER + b"\n".join(texts))
    assert values(parts) == [line + 0.5 for line in lines if isinstance(line, int)]
    named = [number + 2 for number, line in enumerate(lines) if isinstance(line, bytes) and line]
    assert [row.row for row in bad(parts)] == named


@pytest.mark.parametrize("pack", [".gz", ".zst"])
def test_packed_csv_is_read_and_one_cut_short_is_refused(tmp_path: Path, pack: str) -> None:
    path = tmp_path / f"a.csv{pack}"
    packed = (gzip.compress if pack == ".gz" else zstandard.ZstdCompressor().compress)(HEADER + good(3000))
    assert len(values(read(path, packed))) == 3000
    with pytest.raises(BadInputError, match="damaged or cut short"):
        read(path, packed[:-20])
    with pytest.raises(BadInputError, match="damaged or cut short"):
        read(path, b"no such stream at all" * 9)


def test_two_packed_members_are_one_file(tmp_path: Path) -> None:
    content = gzip.compress(HEADER + good(10)) + gzip.compress(good(10))
    assert len(values(read(tmp_path / "a.csv.gz", content))) == 20


def test_a_bomb_is_refused_by_its_ratio_and_an_endless_line_by_its_length(tmp_path: Path) -> None:
    line = GOOD % (0, 0, 1)
    bomb = zstandard.ZstdCompressor(level=1).compress(HEADER + line * (80_000_000 // len(line)))
    with pytest.raises(BadInputError, match="times the size is unpacked"):
        read(tmp_path / "a.csv.zst", bomb)
    with pytest.raises(BadInputError, match="a line is longer"):
        read(tmp_path / "b.csv.gz", gzip.compress(HEADER + bytes(60_000_000)))
    with pytest.raises(BadInputError, match="a line is longer"):
        read(tmp_path / "c.csv", b"p" * 3_000_000)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ((HEADER + good(3)).decode().encode("utf-16"), "UTF-16"),
        (HEADER + good(3) + "harbour/site/wärme,2016-12-01T00:00:00Z,1\n".encode("latin-1"), "not UTF-8: byte 0xe4 at column"),
        ("größe,measured_at,value\n".encode("latin-1"), "not UTF-8"),
        (b"PK\x03\x04zip", "zip archive or a spreadsheet"),
        (b"", "lacks point"),
        (b"point,point,value\n", "each name once"),
        (b"measured_at,harbour/a\n", "has unknown 'harbour/a'"),
        (b'point,"measured_at,value\n', "not readable as csv"),
    ],
)
def test_text_that_cannot_be_read_is_refused_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(BadInputError, match=reason):
        read(tmp_path / "a.csv", content)


def test_a_byte_order_mark_semicolons_and_line_ends_of_windows_are_taken(tmp_path: Path) -> None:
    text = "\ufeff" + (HEADER + good(5)).decode().replace(",", ";").replace("\n", "\r\n")
    assert values(read(tmp_path / "a.csv", text.encode())) == [n + 0.5 for n in range(5)]
    comma = HEADER.replace(b",", b";") + b"harbour/site/load_w;2016-12-01T00:00:00Z;1,5\n"
    assert "written with a point" in bad(read(tmp_path / "b.csv", comma))[0].reason


def test_a_wide_file_is_one_column_a_point_and_an_empty_cell_is_no_reading(tmp_path: Path) -> None:
    text = b"measured_at,mill/m1/p_w,mill/m2/p_w\n2016-12-01T00:00:00Z,1,2\n2016-12-01T00:15:00Z,,4\n"
    broken = b"2016-12-01T00:30:00Z,x,6\n"
    parts = read(tmp_path / "a.csv", text + broken)
    found = {(reading.point, reading.value) for part in parts for reading in part.batch.readings()}
    assert found == {("mill/m1/p_w", 1.0), ("mill/m2/p_w", 2.0), ("mill/m2/p_w", 4.0), ("mill/m2/p_w", 6.0)}
    assert [(row.row, row.key, row.value) for row in bad(parts)] == [(4, "mill/m1/p_w", "x")]
    at = pa.array(np.arange(3) * 900_000_000 + 1480550400_000000, pa.timestamp("us", tz="UTC"))
    pq.write_table(pa.table({"measured_at": at, "mill/m1/p_w": [1.0, None, 3.0]}), tmp_path / "a.parquet")
    assert values(read(tmp_path / "a.parquet")) == [1.0, 3.0]


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_reading_on_from_any_mark_gives_what_is_left_and_a_changed_file_begins_anew(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_source, "BLOCK_BYTES", 3000)
    monkeypatch.setattr(open_parquet, "__defaults__", (70,))
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        at = pa.array(np.arange(500) * 1_000_000 + 1480550400_000000, pa.timestamp("us", tz="UTC"))
        table = pa.table({"point": ["harbour/site/load_w"] * 500, "measured_at": at, "value": np.arange(500.0)})
        pq.write_table(table, path, row_group_size=150)
    else:
        content = HEADER + good(500)
        path.write_bytes(gzip.compress(content) if suffix == ".csv.gz" else content)
    parts = read(path)
    assert len(parts) > 3
    whole = values(parts)
    for number, part in enumerate(parts):
        opened = open_history(path, part.mark)
        assert opened.resumed
        assert values(parts[: number + 1]) + values(list(opened.parts)) == whole
    changed = parts[0].mark.model_copy(update={"sha256": "0" * 64})
    opened = open_history(path, changed)
    assert not opened.resumed
    assert values(list(opened.parts)) == whole


def _parquet(**columns: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


@pytest.mark.parametrize(
    "columns",
    [
        {"value": pa.array(["a"])},
        {"value": pa.array([[1.0]])},
        {"value": pa.array([None], pa.null())},
        {"point": pa.array([7])},
        {"point": pa.array([b"x"])},
        {"measured_at": pa.array([1])},
        {"quality": pa.array([[1]])},
    ],
)
def test_a_parquet_column_of_another_kind_is_refused(tmp_path: Path, columns: dict[str, Any]) -> None:
    at = pa.array([1480550400_000000], pa.timestamp("us", tz="UTC"))
    base = {"point": pa.array(["a/b/c"]), "measured_at": at, "value": pa.array([1.0])}
    with pytest.raises(BadInputError, match=r"expected a (column|timestamp)"):
        read(tmp_path / "a.parquet", _parquet(**base | columns))


def test_a_parquet_file_that_declares_far_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    rows = 25_000_000
    at = pa.array(np.full(rows, 1480550400_000000), pa.timestamp("us", tz="UTC"))
    ones = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), pa.array(["a/b/c"]))
    table = pa.table({"point": ones, "measured_at": at, "value": np.zeros(rows)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=rows, compression="zstd")
    with pytest.raises(BadInputError, match="write smaller row groups"):
        read(tmp_path / "a.parquet")


@given(st.binary(max_size=300), st.sampled_from([".csv", ".csv.gz", ".csv.zst", ".parquet"]))
@settings(max_examples=300, deadline=None)
def test_no_bytes_raise_anything_but_our_error(tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str) -> None:
    path = tmp_path_factory.mktemp("fuzz") / f"a{suffix}"
    for data in (content, HEADER + content):
        try:
            read(path, data)
        except BadInputError:
            continue


_WHOLE = _parquet(
    point=pa.array(["mill/m1/p_w", "mill/m2/p_w"] * 20).dictionary_encode(),
    measured_at=pa.array(np.arange(40) + 1480550400_000000, pa.timestamp("us", tz="UTC")),
    value=np.arange(40.0),
    quality=pa.array(["good"] * 40),
)


@given(st.lists(st.tuples(st.integers(0, len(_WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=6))
@settings(max_examples=15, deadline=None)
def test_a_damaged_parquet_file_raises_nothing_but_our_error(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(_WHOLE)
    for offset, byte in changes:
        data[offset] = byte
    try:
        read(tmp_path_factory.mktemp("fuzz") / "a.parquet", bytes(data))
    except BadInputError:
        return


_MEASURE = """
import resource, sys
from pathlib import Path
from tieline_cloud.jobs.history_files import open_history
import pyarrow.csv, pyarrow.parquet
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = sum(part.rows for part in open_history(Path(sys.argv[1])).parts)
print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    block = good(100_000)
    with path.open("wb") as file:
        file.write(HEADER)
        for _ in range(30):
            file.write(block)
    done = subprocess.run([sys.executable, "-c", _MEASURE, str(path)], capture_output=True, text=True, check=True)
    rows, grown_kb = map(int, done.stdout.split())
    assert rows == 3_000_000
    assert path.stat().st_size > 130_000_000
    assert grown_kb < 110_000
