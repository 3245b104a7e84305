"""Gates of power: clamp, ramp, dead time at a change of sign, limit of generation. Pure functions."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime

from tieline_edge.control.claims import NO_LIMIT, Interval
from tieline_edge.control.facts import DeviceFacts
from tieline_edge.control.memory import PowerMemory
from tieline_edge.drivers.capabilities import Action, DeviceSpec, HoldPower, LimitGeneration, Release

#: A limit that gave way is not left again before this has passed without it: one that comes and goes moves a device twice
#: in this time at most, and a safety setpoint that falls silent is held for as long [s].
BACK_S = 30.0
#: Below this a power counts as 0 W; finer than any register's resolution.
ZERO_W = 1e-6


@dataclass(frozen=True, slots=True)
class Request:
    """Everything the gates look at.

    Attributes:
        spec: The device.
        memory: What was decided before.
        known: What the field shows.
        bounds: What all limits leave.
        claimed: What they leave without the device's own rating; a rating at its end is no reason to skip a ramp.
        fleeting: What the limits of safety and network leave: they come and go with measurements.
        spoken: Somebody claims a limit; the device's own state-of-charge window alone is no reason to hold it.
        now: Present instant.
        revert_s: Reversion time of the command [s].
        safety: The setpoint is safety's.
    """

    spec: DeviceSpec
    memory: PowerMemory
    known: DeviceFacts
    bounds: Interval
    claimed: Interval
    spoken: bool
    now: datetime
    revert_s: float
    fleeting: Interval = NO_LIMIT
    safety: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """The gated action; ``limited`` says that a generation limit is in force."""

    action: Action
    memory: PowerMemory
    notes: tuple[str, ...] = ()
    limited: bool = False


def hold(request: Request, setpoint_w: float | None) -> Result:
    """Power of a storage: the setpoint through all gates; released when nobody wants anything and nothing limits it."""
    notes: list[str] = []
    if _silent_for_s(request, request.memory.safety_at) < BACK_S and not request.safety:
        # A rule that asks every other second would else toggle the device against the plan.
        setpoint_w = _last(request)
        notes.append(f"safety has only just fallen silent: {setpoint_w:g} W is held for {BACK_S:g} s")
    if setpoint_w is None and not request.spoken and _silent_for_s(request, request.memory.bar_at) >= BACK_S:
        value = _fading(request)
        if value == 0.0:
            return Result(Release(), _moved(request, 0.0, 0.0), ("nobody claims a setpoint: released",))
        note = f"nobody claims a setpoint: {value:g} W on the way to its release"
        return Result(HoldPower(value, request.revert_s), _moved(request, value, value), (note,))
    wanted = 0.0 if setpoint_w is None else setpoint_w
    target = request.bounds.clamp(wanted)
    if target != wanted:
        notes.append(f"clamped from {wanted:g} W to {target:g} W by {request.bounds}")
    last, free = _last(request), target
    target = request.bounds.clamp(_not_back_yet(request, last, target))
    if target != free:
        notes.append(f"a limit has only just given way: {target:g} W is held for {BACK_S:g} s")
    value = _ramped(request, last, target)
    if value != target:
        notes.append(f"ramped: {value:g} W on the way to {target:g} W")
    if _must_rest(request, last, value):
        notes.append(f"dead time: 0 W for {request.spec.dead_time_s:g} s before the sign changes to {value:+g} W")
        value = 0.0
    memory = _barred(request, _moved(request, last, value), wanted)
    return Result(HoldPower(value, request.revert_s), memory, tuple(notes))


def limit_generation(request: Request) -> Result:
    """Limit of a plant: the lower end of what is allowed; None when it lies beyond the rating.

    A tighter limit counts at once; a wider one opens with the ramp.
    """
    full = request.spec.p_min_w
    wanted = min(0.0, max(request.bounds.lo, full))
    held = _held_bar(request)
    target = wanted if held is None else max(wanted, min(0.0, held))
    last, at = request.memory.power_w, request.memory.at
    notes: tuple[str, ...] = ()
    if target != wanted:
        notes = (f"a limit has only just given way: {target:g} W is kept for {BACK_S:g} s",)
    value = target
    if last is not None and at is None:
        # After a start: it opens from the limit of the run before, or from more where the plant shows that this one is over.
        last, at = min(last, request.known.p_w or 0.0), request.now
    if last is not None and at is not None and request.spec.ramp_w_per_s is not None and target < last:
        value = max(target, last - request.spec.ramp_w_per_s * _elapsed_s(at, request.now))
        if value != target:
            notes = (*notes, f"ramped: limit {value:g} W on the way to {target:g} W")
    free = value <= full
    memory = _barred(request, replace(request.memory, power_w=None if free else value, at=request.now), full)
    return Result(LimitGeneration(None if free else value, request.revert_s), memory, notes, not free)


def unheld(memory: PowerMemory, known: DeviceFacts) -> PowerMemory:
    """What is remembered while nobody here may touch the device: ramps start afterwards from the power it shows then."""
    sign = _sign(known.p_w or 0.0) or memory.sign
    return PowerMemory(sign=sign, at_end=memory.at_end, at_reserve=memory.at_reserve)


def _last(request: Request) -> float:
    if request.memory.power_w is not None:
        return request.memory.power_w
    return request.known.p_w or 0.0


def _silent_for_s(request: Request, since: datetime | None) -> float:
    return math.inf if since is None else _elapsed_s(since, request.now)


def _held_bar(request: Request) -> float | None:
    """The tightest fleeting limit of the last while [W]; None when there was none."""
    return request.memory.bar_w if _silent_for_s(request, request.memory.bar_at) < BACK_S else None


def _not_back_yet(request: Request, last: float, target: float) -> float:
    """The target without a move back over a limit that was in force only just now."""
    bar_w = _held_bar(request)
    if bar_w is None:
        return target
    return min(target, max(last, bar_w)) if request.memory.bar > 0 else max(target, min(last, bar_w))


def _barred(request: Request, memory: PowerMemory, wanted: float) -> PowerMemory:
    """The memory with the fleeting limit that stands in the way now, and the last word of safety."""
    if request.safety:
        memory = replace(memory, safety_at=request.now)
    if wanted > request.fleeting.hi:
        side, limit_w = 1, request.fleeting.hi
    elif wanted < request.fleeting.lo:
        side, limit_w = -1, request.fleeting.lo
    else:
        return memory
    held = _held_bar(request)
    if held is not None and request.memory.bar == side and side * (limit_w - held) > 0:
        # Looser than it was: the tighter one goes on until it has been away for long enough.
        return memory
    return replace(memory, bar=side, bar_w=limit_w, bar_at=request.now)


def _fading(request: Request) -> float:
    """What is left of a power nobody claims any more [W]: it goes with the ramp, a device without one is let go at once."""
    last, rate = request.memory.power_w, request.spec.ramp_w_per_s
    if last is None or rate is None:
        return 0.0
    value = request.bounds.clamp(_ramped(request, last, 0.0))
    return 0.0 if _sign(value) != _sign(last) else value


def _ramped(request: Request, last: float, target: float) -> float:
    rate = request.spec.ramp_w_per_s
    inward = (target < last and last >= request.claimed.hi) or (target > last and last <= request.claimed.lo)
    if rate is None or inward:
        return target
    at = request.memory.at or request.now
    step = rate * _elapsed_s(at, request.now)
    return request.bounds.clamp(last + min(max(target - last, -step), step))


def _before(request: Request, last: float) -> int | None:
    """Sign of the power before; None = not known, as for a device at rest after a start without a memory."""
    return _sign(last) or request.memory.sign


def _must_rest(request: Request, last: float, value: float) -> bool:
    memory, dead_s = request.memory, request.spec.dead_time_s
    before = _before(request, last)
    if dead_s <= 0 or _sign(value) == 0 or before in (0, _sign(value)):
        return False
    return _sign(last) != 0 or memory.zero_since is None or _elapsed_s(memory.zero_since, request.now) < dead_s


def _moved(request: Request, last: float, value: float) -> PowerMemory:
    sign = _sign(value)
    zero_since = None
    if sign == 0:
        zero_since = request.memory.zero_since if request.memory.zero_since is not None else request.now
    before = sign or _before(request, last)
    return replace(request.memory, power_w=value, at=request.now, sign=before, zero_since=zero_since)


def _sign(value: float) -> int:
    return 0 if abs(value) < ZERO_W else (1 if value > 0 else -1)


def _elapsed_s(since: datetime, now: datetime) -> float:
    return max(0.0, (now - since).total_seconds())
