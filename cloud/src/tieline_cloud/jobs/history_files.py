"""History files by their ending: csv (plain, gzip, zstd) and parquet, long or wide, read part by part in bounded memory.

Long: ``point, measured_at, value[, quality]``. Wide: ``measured_at`` and one column a point. A row that cannot be used is
named with its number, key, value and reason and left out; the others are handed on.
"""

from __future__ import annotations

from pathlib import Path

from tieline_cloud.jobs.history_csv import csv_identity, open_csv
from tieline_cloud.jobs.history_parquet import file_sha256, open_parquet
from tieline_cloud.jobs.history_part import FileMark, OpenedHistory
from tieline_cloud.jobs.history_source import PACKED
from tieline_core.errors import BadInputError


def kind_of(path: Path) -> str:
    """``csv`` or ``parquet``.

    Raises:
        BadInputError: When there is no such file or it has another ending.
    """
    if not path.is_file():
        raise BadInputError(str(path), "", path.name, "there is no such file on the hub's machine")
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".parquet"]:
        return "parquet"
    if suffixes[-1:] == [".csv"] or (suffixes[-2:-1] == [".csv"] and suffixes[-1] in PACKED):
        return "csv"
    raise BadInputError(str(path), "", "".join(suffixes), "expected a .parquet or .csv file, csv also as .csv.gz or .csv.zst")


def open_history(path: Path, mark: FileMark | None = None) -> OpenedHistory:
    """Open a file, by its ending.

    Raises:
        BadInputError: When the file as a whole cannot be used.
    """
    return open_parquet(path, mark) if kind_of(path) == "parquet" else open_csv(path, mark)


def identity_of(path: Path) -> str:
    """By what an interrupted import of this file is found again."""
    return file_sha256(path) if kind_of(path) == "parquet" else csv_identity(path)
