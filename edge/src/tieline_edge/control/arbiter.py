"""The one judge: claims in, one decision a device out. A pure function of frozen values.

Limits are intersected from the interlock band down (:mod:`tieline_edge.control.limits`); the setpoint or contact position
comes from the highest band that claims one; then it is clamped, ramped and held to minimum times. Nothing here depends on
the order of the claims.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from tieline_core.ids import DeviceId
from tieline_core.shedding import VITAL
from tieline_edge.control import contacts, energy, power
from tieline_edge.control.claims import NO_LIMIT, Band, Claim, Interval
from tieline_edge.control.facts import DeviceFacts, SiteFacts
from tieline_edge.control.limits import Bounds, intersect
from tieline_edge.control.memory import ArbiterMemory, ContactMemory, PowerMemory
from tieline_edge.drivers.capabilities import Action, Capability, DeviceSpec


@dataclass(frozen=True, slots=True)
class Decision:
    """What one device is to do, and why.

    Attributes:
        device: Whom it is about.
        action: What to write; None = leave it alone.
        winner: The claim that was followed; None when nobody claimed a setpoint or position.
        losers: Claims of a setpoint or position that were not followed.
        limits: Limits that were heard.
        dropped: Limits and claims that were refused.
        interval: What the limits left.
        notes: Gates, refusals and expiries, in words.
        ages_s: Age of the inputs by quantity [s].
    """

    device: DeviceId
    action: Action | None
    winner: Claim | None = None
    losers: tuple[Claim, ...] = ()
    limits: tuple[Claim, ...] = ()
    dropped: tuple[Claim, ...] = ()
    interval: Interval = NO_LIMIT
    notes: tuple[str, ...] = ()
    ages_s: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def hands_off(self) -> bool:
        """True when nothing at all may be written to the device."""
        return self.winner is not None and self.winner.hands_off

    @property
    def band(self) -> Band | None:
        """Band of the winner."""
        return None if self.winner is None else self.winner.band


@dataclass(frozen=True, slots=True)
class Decisions:
    """The decisions of one cycle and what is to be remembered."""

    by_device: Mapping[DeviceId, Decision]
    memory: ArbiterMemory


def decide(
    specs: Mapping[DeviceId, DeviceSpec],
    claims: Iterable[Claim],
    memory: ArbiterMemory,
    facts: SiteFacts,
    now: datetime,
    revert_s: float,
) -> Decisions:
    """Judge all claims.

    Args:
        specs: The devices of the site; claims on others are ignored.
        claims: What everybody wants, in any order.
        memory: What the previous call returned, or a fresh one.
        facts: What is known of the field.
        now: Present instant.
        revert_s: Reversion time written with each power command [s].
    """
    heard = tuple(sorted({*claims}, key=lambda claim: claim.order))
    limits = _remembered(heard, memory.limits, now)
    everything = (*(claim for claim in heard if claim.limit is None), *limits)
    decisions: dict[DeviceId, Decision] = {}
    powers: dict[DeviceId, PowerMemory] = {}
    positions: dict[DeviceId, ContactMemory] = {}
    for device in sorted(specs):
        spec, known = specs[device], facts.of(device)
        own = [claim for claim in everything if claim.device == device]
        barred = next((claim for claim in own if claim.hands_off), None)
        if barred is not None:
            decisions[device] = _hands_off(barred, own, known)
            _watch(spec, memory, known, now, positions, powers)
        elif Capability.SWITCH in spec.capabilities:
            decisions[device], positions[device] = _contact(
                spec, own, memory.contacts.get(device, ContactMemory()), known, facts.bus_live, now
            )
        elif spec.capabilities & {Capability.HOLD_POWER, Capability.LIMIT_GENERATION}:
            decisions[device], powers[device] = _power(spec, own, memory.power.get(device, PowerMemory()), known, now, revert_s)
    kept = tuple(claim for claim in limits if claim.band is not Band.INTERLOCK and claim.limit != NO_LIMIT)
    new = ArbiterMemory(powers, positions, kept)
    return Decisions(MappingProxyType(decisions), new)


def _hands_off(barred: Claim, own: list[Claim], known: DeviceFacts) -> Decision:
    """The decision under a tag: whatever else is wanted, limits of the device included, nothing is written."""
    others = [claim for claim in own if claim is not barred]
    return Decision(
        barred.device,
        None,
        barred,
        losers=tuple(claim for claim in others if claim.limit is None),
        dropped=tuple(claim for claim in others if claim.limit is not None),
        notes=("nothing is written to it while the tag stands",),
        ages_s=known.ages_s,
    )


def _watch(
    spec: DeviceSpec,
    memory: ArbiterMemory,
    known: DeviceFacts,
    now: datetime,
    positions: dict[DeviceId, ContactMemory],
    powers: dict[DeviceId, PowerMemory],
) -> None:
    """Remember what the field shows of a device that others have their hands on, for times and ramps afterwards."""
    device = spec.device_id
    if Capability.SWITCH in spec.capabilities:
        request = contacts.Request(spec, memory.contacts.get(device, ContactMemory()), known, None, now)
        positions[device] = contacts.switch(request, None, None, 0.0).memory
    else:
        powers[device] = power.unheld(memory.power.get(device, PowerMemory()), known)


def _remembered(heard: tuple[Claim, ...], held: tuple[Claim, ...], now: datetime) -> tuple[Claim, ...]:
    """Limits of now, and earlier ones whose speaker fell silent: those last until their failsafe is over."""
    spoken = {claim.key for claim in heard if claim.limit is not None}
    silent = (claim for claim in held if claim.key not in spoken)
    current = (claim for claim in heard if claim.limit is not None)
    return tuple(
        sorted((claim for claim in (*current, *silent) if claim.limit_at(now) is not None), key=lambda claim: claim.order)
    )


def interlocks(spec: DeviceSpec, known: DeviceFacts, memory: PowerMemory) -> tuple[Claim, ...]:
    """Limits a device has by itself: rating and, for a storage, the window of its state of charge."""
    rating = Claim(spec.device_id, Band.INTERLOCK, "rating", "limits of the device", limit=Interval(spec.p_min_w, spec.p_max_w))
    window = energy.window(spec, known, memory)
    return (rating,) if window is None else (rating, window)


def _power(
    spec: DeviceSpec, own: list[Claim], memory: PowerMemory, known: DeviceFacts, now: datetime, revert_s: float
) -> tuple[Decision, PowerMemory]:
    memory = energy.looked(spec, known, memory)
    own_limits = [claim for claim in own if claim.limit is not None]
    rating, *inherent = interlocks(spec, known, memory)
    bounds = intersect([*own_limits, rating, *inherent], now)
    # Of what was heard only: a limit that was dropped for the rating gives no right to skip a ramp.
    site = intersect([claim for claim in bounds.active if claim is not rating], now)
    wishes = [claim for claim in own if claim.limit is None and claim.live(now)]
    able = Capability.HOLD_POWER in spec.capabilities
    fitting = [claim for claim in wishes if able and claim.setpoint_w is not None]
    misfits = tuple(claim for claim in wishes if claim not in fitting)
    winner = _first(fitting)
    kept = energy.reserve(spec, memory, winner)
    allowed, claimed = _kept(bounds.interval, kept), _kept(site.interval, kept)
    fleeting = intersect([one for one in bounds.active if one.band in (Band.SAFETY, Band.ENVELOPE)], now).interval
    spoken = any(claim.limit_at(now) != NO_LIMIT for claim in own_limits)
    request = power.Request(spec, memory, known, allowed, claimed, spoken, now, revert_s, fleeting, _safe(winner))
    if able:
        result = power.hold(request, None if winner is None else winner.setpoint_w)
    else:
        result = power.limit_generation(request)
        winner = _binding(bounds, result.limited)
    decision = Decision(
        spec.device_id,
        result.action,
        winner,
        tuple(claim for claim in fitting if claim is not winner),
        bounds.active,
        (*bounds.dropped, *misfits),
        allowed,
        (*bounds.notes, *((kept,) if kept else ()), *_refusals(misfits, spec), *result.notes),
        known.ages_s,
    )
    return decision, result.memory


def _safe(winner: Claim | None) -> bool:
    return winner is not None and winner.band <= Band.SAFETY


def _kept(interval: Interval, kept: str | None) -> Interval:
    """The interval without discharging; a limit that demands a discharge is stronger than the reserve."""
    return interval if kept is None else interval.meet(Interval(lo=0.0)) or interval


def _contact(
    spec: DeviceSpec,
    own: list[Claim],
    memory: ContactMemory,
    known: DeviceFacts,
    bus_live: bool | None,
    now: datetime,
) -> tuple[Decision, ContactMemory]:
    wishes = [claim for claim in own if claim.limit is not None or claim.live(now)]
    shut_out = [claim for claim in wishes if _opens(claim, now) and spec.priority_class == VITAL]
    misfits = [claim for claim in wishes if claim.closed is None and not _opens(claim, now)]
    fitting = [claim for claim in wishes if claim not in shut_out and claim not in misfits]
    first = min((claim.band for claim in fitting), default=None)
    # In one band an opening beats a closing: the position nearest to 0 W. Who only keeps open comes between them.
    ranked = sorted(
        (claim for claim in fitting if claim.band == first),
        key=lambda claim: (not _opens(claim, now), claim.keeps, claim.order),
    )
    winner = ranked[0] if ranked else None
    wish = None if winner is None else not _opens(winner, now)
    result = contacts.switch(
        contacts.Request(spec, memory, known, bus_live, now),
        wish,
        winner.band if winner else None,
        _off_timer(winner),
        keeps=winner is not None and winner.keeps,
    )
    notes = [f"refused {claim}: class 0 is never opened" for claim in shut_out]
    decision = Decision(
        spec.device_id,
        result.action,
        winner,
        tuple(claim for claim in fitting if claim is not winner),
        tuple(claim for claim in fitting if claim.limit is not None),
        (*shut_out, *misfits),
        NO_LIMIT,
        (*notes, *_refusals(tuple(misfits), spec), *result.notes),
        known.ages_s,
    )
    return decision, result.memory


def _opens(claim: Claim, now: datetime) -> bool:
    """An opening, or a limit under which a plain load cannot run."""
    limit = claim.limit_at(now)
    return claim.closed is False or (limit is not None and limit.hi <= 0.0)


def _off_timer(winner: Claim | None) -> float:
    return 0.0 if winner is None else winner.off_timer_s


def _first(claims: list[Claim]) -> Claim | None:
    """The highest band; inside it the setpoint nearest to 0 W, then a fixed order."""
    return min(claims, key=lambda claim: (claim.band, abs(claim.setpoint_w or 0.0), claim.order), default=None)


def _binding(bounds: Bounds, limited: bool) -> Claim | None:
    if not limited:
        return None
    return next((claim for claim in bounds.active if claim.limit is not None and claim.source != "rating"), None)


def _refusals(claims: tuple[Claim, ...], spec: DeviceSpec) -> list[str]:
    return [f"ignored {claim}: a {spec.role} cannot do that" for claim in claims]
