"""``prices``: energy prices from a csv with the columns ``start`` and ``price_eur_per_mwh``."""

from __future__ import annotations

import asyncio
import csv
import math
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from tieline_cloud.dispatch.documents import DocumentStore, Price
from tieline_cloud.jobs.model import JobKind, JobParams, JobProgress
from tieline_core.errors import BadInputError
from tieline_core.timegrid import to_us

_COLUMNS: Final = ("start", "price_eur_per_mwh")
_MAX_ROWS: Final = 1_000_000


class PricesParams(JobParams):
    """A file on the hub's machine."""

    file: Path


def read_prices(path: Path) -> list[Price]:
    """Read a price file.

    Raises:
        BadInputError: Naming the line: a price series with a hole in it must not be used unnoticed.
    """
    prices: list[Price] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != _COLUMNS:
                raise BadInputError(str(path), "columns", reader.fieldnames, f"expected {', '.join(_COLUMNS)}")
            for row in reader:
                prices.append(_price(row, f"line {reader.line_num}", path))
                if len(prices) > _MAX_ROWS:
                    raise BadInputError(str(path), "", path.name, f"at most {_MAX_ROWS} rows are read")
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise BadInputError(str(path), "", path.name, f"cannot be read as csv: {error}") from error
    return prices


def _price(row: dict[str, str], line: str, path: Path) -> Price:
    try:
        start = datetime.fromisoformat(row["start"])
        to_us(start)
        value = float(row["price_eur_per_mwh"])
    except (ValueError, TypeError) as error:
        raise BadInputError(str(path), line, dict(row), f"expected an instant with offset and a number: {error}") from error
    if not math.isfinite(value):
        raise BadInputError(str(path), line, row["price_eur_per_mwh"], "a price is a finite number")
    return Price(start, value)


def prices_kind(documents: DocumentStore) -> JobKind[PricesParams]:
    """The row of the table."""

    async def run(params: PricesParams, _progress: JobProgress) -> dict[str, Any]:
        prices = await asyncio.to_thread(read_prices, params.file)
        return {"prices": documents.put_prices(prices)}

    return JobKind("prices", "import energy prices from csv: start, price_eur_per_mwh", PricesParams, run)
