"""Instants and grids: aware UTC, interval label = start, steps as ISO 8601 durations."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

_ISO = re.compile(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Instants outside these come from broken clocks, not from measurements; no store and no codec has to hold them.
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)


def parse_step(text: str) -> timedelta:
    """Read an ISO 8601 duration of hours, minutes and seconds such as ``PT15M``.

    Raises:
        ValueError: When the text has another form, or the duration is not positive or beyond all calendars.
    """
    match = _ISO.fullmatch(text)
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    try:
        step = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    except OverflowError as error:
        raise ValueError(f"{text!r} is longer than a step can be") from error
    if step <= timedelta(0):
        raise ValueError(f"{text!r} is no positive step; write it like 'PT15M'")
    return step


def format_step(step: timedelta) -> str:
    """Write a step as ISO 8601, the inverse of :func:`parse_step`."""
    total = int(step.total_seconds())
    hours, rest = divmod(total, 3600)
    minutes, seconds = divmod(rest, 60)
    return "PT" + (f"{hours}H" if hours else "") + (f"{minutes}M" if minutes else "") + (f"{seconds}S" if seconds else "")


def to_us(instant: datetime) -> int:
    """Microseconds since 1970 of an aware instant, exact.

    Raises:
        ValueError: When the instant is naive.
    """
    if instant.tzinfo is None:
        raise ValueError(f"{instant} has no time zone")
    return (instant - EPOCH) // timedelta(microseconds=1)


def from_us(us: int) -> datetime:
    """The aware UTC instant of microseconds since 1970."""
    return EPOCH + timedelta(microseconds=us)


def floor_to(instant: datetime, step: timedelta) -> datetime:
    """Start of the interval that holds the instant, on the UTC grid."""
    return instant - (instant - EPOCH) % step


def ceil_to(instant: datetime, step: timedelta) -> datetime:
    """First grid instant not before the instant."""
    return floor_to(instant + step - timedelta(microseconds=1), step)


def grid(start: datetime, end: datetime, step: timedelta) -> Iterator[datetime]:
    """Interval starts from start (inclusive) to end (exclusive)."""
    while start < end:
        yield start
        start += step


def local_day(day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """UTC start and end of a local calendar day: 23, 24 or 25 hours apart."""
    start = datetime.combine(day, time(0), zone)
    end = datetime.combine(day + timedelta(days=1), time(0), zone)
    return start.astimezone(UTC), end.astimezone(UTC)
