"""Instants as people write them."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline_core.errors import BadInputError
from tieline_core.instant_text import read_instant
from tieline_core.timegrid import from_us

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 3, 1, 16, 50, tzinfo=UTC)  # 17:50 in Berlin


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        ("2 minutes ago", NOW - timedelta(minutes=2)),
        ("90 s ago", NOW - timedelta(seconds=90)),
        ("1.5 hours ago", NOW - timedelta(minutes=90)),
        ("3 days ago", NOW - timedelta(days=3)),
        ("17:45", datetime(2026, 3, 1, 16, 45, tzinfo=UTC)),
        ("17:55", datetime(2026, 2, 28, 16, 55, tzinfo=UTC)),
        ("7:05:30", datetime(2026, 3, 1, 6, 5, 30, tzinfo=UTC)),
        ("yesterday 17:45", datetime(2026, 2, 28, 16, 45, tzinfo=UTC)),
        ("17:45 UTC", datetime(2026, 2, 28, 17, 45, tzinfo=UTC)),
        ("2026-03-01 17:45", datetime(2026, 3, 1, 16, 45, tzinfo=UTC)),
        ("2026-03-01T17:45:00Z", datetime(2026, 3, 1, 17, 45, tzinfo=UTC)),
        ("2026-03-01 17:45+01:00", datetime(2026, 3, 1, 16, 45, tzinfo=UTC)),
        ("2026-07-01 17:45 Europe/Berlin", datetime(2026, 7, 1, 15, 45, tzinfo=UTC)),
    ],
)
def test_what_people_write_is_read_in_the_zone_of_the_site(text: str, expected: datetime) -> None:
    assert read_instant(text, NOW, BERLIN) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("noon", "write now"),
        ("25:00", "write now"),
        ("2 fortnights ago", "seconds, minutes, hours or days"),
        ("17:45 Europe/Atlantis", "no time zone"),
        ("2026-02-30", "write now"),
        ("x" * 200, "write now"),
        ("2026-03-29 02:30", "put forward"),
        ("2026-10-25 02:30", "showed it twice; write 2026-10-25 02:30:00.02:00 or 2026-10-25 02:30:00.01:00"),
    ],
)
def test_anything_else_is_refused_with_what_would_do(text: str, reason: str) -> None:
    with pytest.raises(BadInputError, match=reason):
        read_instant(text, NOW, BERLIN)


@given(st.text(max_size=90))
def test_no_text_does_anything_but_be_read_or_refused(text: str) -> None:
    with contextlib.suppress(BadInputError):
        assert read_instant(text, NOW, BERLIN).tzinfo is UTC


@given(st.integers(631152000_000_000, 5680281600_000_000).map(from_us))
def test_an_instant_with_its_zone_survives_being_written(at: datetime) -> None:
    assert read_instant(at.astimezone(BERLIN).isoformat(), NOW, ZoneInfo("UTC")) == at
