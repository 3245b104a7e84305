"""What both sides of the durable lane compare to know that they hold the same: frames by hour, counted and hashed.

A frame belongs to the hour of the oldest instant in it (readings: ``measured_at``; events: ``at``; forecasts:
``issued_at``), so edge and hub name the same hour whatever the labels it was sent under. Skip frames hold nothing and
are not compared. The digest of an hour does not depend on the order of its frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

HOUR_US: Final = 3_600_000_000
_MODULUS: Final = 1 << 128


@dataclass(frozen=True, slots=True, order=True)
class HourDigest:
    """What one side holds of one hour of a stream.

    Attributes:
        hour_us: Start of the hour, microseconds since 1970 UTC.
        frames: Distinct frame contents.
        readings: Readings in them (records of a record frame count 0).
        digest: 32 hex digits; equal exactly when both sides hold the same contents.
    """

    hour_us: int
    frames: int
    readings: int
    digest: str


def digest_of(hashes: Iterable[str]) -> str:
    """Sum of the first 16 bytes of the sha256 of each content, modulo 2**128, as 32 hex digits; repetitions count once."""
    total = sum(int(sha256[:32], 16) for sha256 in set(hashes)) % _MODULUS
    return f"{total:032x}"


def by_hour(contents: Iterable[tuple[int, str, int]]) -> list[HourDigest]:
    """Digests by hour, ascending, of (oldest instant in us, sha256, readings); a content that repeats counts once."""
    hours: dict[int, dict[str, int]] = {}
    for first_us, sha256, readings in contents:
        hours.setdefault(first_us - first_us % HOUR_US, {})[sha256] = readings
    return [HourDigest(hour, len(rows), sum(rows.values()), digest_of(rows)) for hour, rows in sorted(hours.items())]


def differing(mine: Sequence[HourDigest], theirs: Sequence[HourDigest]) -> list[int]:
    """Starts of the hours in which the two sides differ, ascending; an hour only one side has differs."""
    left, right = {row.hour_us: row for row in mine}, {row.hour_us: row for row in theirs}
    return sorted(hour for hour in left.keys() | right.keys() if left.get(hour) != right.get(hour))
