"""The hub's small durable memory."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from tests.cloud.rooms import NOW

from tieline_cloud.dispatch.documents import DocumentStore, Price


def test_documents_survive_closing_and_come_newest_first(tmp_path: Path) -> None:
    with DocumentStore(tmp_path / "hub.sqlite") as store:
        store.put("plan", "a", b"1", NOW)
        store.put("plan", "b", b"2", NOW + timedelta(hours=1))
        store.put("plan", "a", b"3", NOW)
        store.put("model", "c", b"4", NOW)
    with DocumentStore(tmp_path / "hub.sqlite") as store:
        assert store.newest("plan") == [b"2", b"3"]
        assert store.newest("plan", 1) == [b"2"]
        assert store.get("model", "c") == b"4"
        assert store.get("model", "a") is None


def test_a_counter_never_goes_down(tmp_path: Path) -> None:
    with DocumentStore(tmp_path / "hub.sqlite") as store:
        assert store.counter("x") == 0
        store.raise_counter("x", 7)
        store.raise_counter("x", 3)
        assert store.counter("x") == 7


def test_prices_of_a_span_include_the_one_that_holds_at_its_start(tmp_path: Path) -> None:
    hours = [NOW + timedelta(hours=hour) for hour in range(4)]
    with DocumentStore(tmp_path / "hub.sqlite") as store:
        store.put_prices(Price(hour, float(number)) for number, hour in enumerate(hours))
        store.put_prices([Price(hours[2], -5.0)])
        found = store.prices(hours[1] + timedelta(minutes=30), hours[3])
        assert [price.eur_per_mwh for price in found] == [1.0, -5.0]
        assert [price.start for price in store.prices(NOW - timedelta(days=1), hours[1])] == hours[:1]
        assert store.prices(NOW - timedelta(days=2), NOW - timedelta(days=1)) == []
