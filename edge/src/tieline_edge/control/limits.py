"""How limits of several bands become one interval."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from tieline_edge.control.claims import NO_LIMIT, Band, Claim, Interval


@dataclass(frozen=True, slots=True)
class Bounds:
    """The interval that is left.

    Attributes:
        interval: Allowed signed power.
        active: Limits that were heard, in the order of bands.
        dropped: Limits of lower bands that would have left nothing.
        notes: What happened on the way, in words.
    """

    interval: Interval
    active: tuple[Claim, ...]
    dropped: tuple[Claim, ...]
    notes: tuple[str, ...]


def intersect(claims: Iterable[Claim], now: datetime) -> Bounds:
    """Intersect limits from the interlock band down.

    A limit that would empty the interval left by higher bands is dropped. Limits of one band that exclude each other
    leave the one point between them that is nearest to 0 W. The order of the claims does not matter.
    """
    limits = sorted((claim for claim in claims if claim.limit_at(now) is not None), key=lambda claim: claim.order)
    interval = NO_LIMIT
    active: list[Claim] = []
    dropped: list[Claim] = []
    notes: list[str] = []
    for band in Band:
        met: list[Interval] = []
        for claim in (one for one in limits if one.band is band):
            wanted = claim.limit_at(now) or NO_LIMIT
            inside = interval.meet(wanted)
            if inside is None:
                dropped.append(claim)
                notes.append(f"dropped {claim}: it excludes {interval}, which higher bands allow")
                continue
            met.append(inside)
            active.append(claim)
            if not claim.live(now):
                notes.append(f"{claim.source} expired: its failsafe {wanted} holds")
        if met:
            interval, note = _within_band(met, band)
            notes.extend(note)
    return Bounds(interval, tuple(active), tuple(dropped), tuple(notes))


def _within_band(met: list[Interval], band: Band) -> tuple[Interval, tuple[str, ...]]:
    lo, hi = max(one.lo for one in met), min(one.hi for one in met)
    if lo <= hi:
        return Interval(lo, hi), ()
    point = Interval(hi, lo).clamp(0.0)
    return Interval(point, point), (f"limits of band {band.name.lower()} exclude each other: {point:g} W is nearest to 0 W",)
