"""Price files."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tieline_cloud.jobs.prices_job import read_prices
from tieline_core.errors import BadInputError


def test_prices_are_read_with_their_instants(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text("start,price_eur_per_mwh\n2016-12-07T00:00:00Z,41.5\n2016-12-07T01:00:00Z,-3\n", encoding="utf-8")
    prices = read_prices(path)
    assert [price.eur_per_mwh for price in prices] == [41.5, -3.0]
    assert prices[0].start == datetime(2016, 12, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("start,price\n", "expected start, price_eur_per_mwh"),
        ("start,price_eur_per_mwh\n2016-12-07T00:00:00,41\n", "line 2"),
        ("start,price_eur_per_mwh\n2016-12-07T00:00:00Z,nan\n", "finite"),
        ("start,price_eur_per_mwh\n2016-12-07T00:00:00Z,\n", "line 2"),
    ],
)
def test_a_wrong_price_file_is_refused_with_the_line(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInputError, match=reason):
        read_prices(path)
