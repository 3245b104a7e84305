"""Instants as people write them at a terminal: ISO 8601, a time of day, or "2 minutes ago"."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tieline_core.errors import BadInputError

#: What :func:`read_instant` takes, for error messages and help texts.
FORMS: Final = (
    "now, '2 minutes ago', '17:45', 'yesterday 17:45', '2026-03-01 17:45', '2026-03-01T17:45:00Z', "
    "'2026-03-01 17:45+01:00' or '2026-03-01 17:45 Europe/Berlin'"
)
_UNITS_S: Final = {
    "s": 1,
    "sec": 1,
    "second": 1,
    "m": 60,
    "min": 60,
    "minute": 60,
    "h": 3600,
    "hour": 3600,
    "d": 86400,
    "day": 86400,
}
_AGO: Final = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)\s*([a-z]+?)s?\s+ago")
_CLOCK: Final = re.compile(r"(?:(today|yesterday)\s+)?(\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?)")
_ZONE: Final = re.compile(r"(.*\S)\s+([A-Za-z][\w+-]*(?:/[\w+-]+)*)")
_LONGEST: Final = 80


def read_instant(text: str, now: datetime, zone: ZoneInfo, source: str = "--at") -> datetime:
    """Read an instant; without a zone of its own it is local time of ``zone``.

    A time of day alone is its latest occurrence that is not ahead of ``now``.

    Args:
        text: What was written, see :data:`FORMS`.
        now: Present instant, aware.
        zone: Zone of the site.
        source: Named in errors.

    Returns:
        The instant in UTC.

    Raises:
        BadInputError: When it has another form, or local clocks showed that time twice or never (change of summer time).
    """
    wanted = text.strip()
    if len(wanted) > _LONGEST:
        raise BadInputError(source, "", wanted[:_LONGEST] + "...", f"is no instant; write {FORMS}")
    lower = wanted.lower()
    if lower in ("", "now"):
        return now.astimezone(UTC)
    if (ago := _AGO.fullmatch(lower)) is not None:
        return _ago(ago, now, source, wanted)
    named = _ZONE.fullmatch(wanted)
    if named is not None and named[2].lower() not in ("today", "yesterday"):
        zone, wanted = _zone(named[2], source, text), named[1]
    try:
        return _calendar(wanted, now, zone, source)
    except (ValueError, OverflowError) as error:
        raise BadInputError(source, "", text, f"is no instant ({error}); write {FORMS}") from error


def _ago(match: re.Match[str], now: datetime, source: str, text: str) -> datetime:
    unit = _UNITS_S.get(match[2])
    if unit is None:
        raise BadInputError(source, "", text, "is counted in seconds, minutes, hours or days")
    return (now - timedelta(seconds=float(match[1]) * unit)).astimezone(UTC)


def _zone(name: str, source: str, text: str) -> ZoneInfo:
    try:
        return ZoneInfo("UTC" if name in ("Z", "z") else name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadInputError(source, "", text, f"{name} is no time zone; write one like Europe/Berlin, or {FORMS}") from error


def _calendar(text: str, now: datetime, zone: ZoneInfo, source: str) -> datetime:
    clock = _CLOCK.fullmatch(text.lower())
    if clock is None:
        at = datetime.fromisoformat(text)
        return at.astimezone(UTC) if at.tzinfo is not None else _local(at, zone, source)
    today = now.astimezone(zone).date()
    hour, _, rest = clock[2].partition(":")
    of_day = time.fromisoformat(f"{int(hour):02d}:{rest}")
    if clock[1] is not None:
        day = today if clock[1] == "today" else today - timedelta(days=1)
        return _local(datetime.combine(day, of_day), zone, source)
    at = _local(datetime.combine(today, of_day), zone, source)
    return at if at <= now else _local(datetime.combine(today - timedelta(days=1), of_day), zone, source)


def _local(naive: datetime, zone: ZoneInfo, source: str) -> datetime:
    first, second = naive.replace(tzinfo=zone), naive.replace(tzinfo=zone, fold=1)
    if first.utcoffset() == second.utcoffset():
        return first.astimezone(UTC)
    if first.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != naive:
        raise BadInputError(source, "", naive.isoformat(" "), f"clocks in {zone.key} were put forward over it; say it in UTC")
    both = " or ".join(one.isoformat(sep=" ") for one in (first, second))
    raise BadInputError(source, "", naive.isoformat(" "), f"clocks in {zone.key} showed it twice; write {both}")
