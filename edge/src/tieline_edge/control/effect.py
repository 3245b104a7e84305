"""Has a write had its effect? Pure judgements of what the field shows afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from tieline_edge.control.facts import DeviceFacts
from tieline_edge.drivers.capabilities import Action, DeviceSpec, HoldPower, LimitGeneration, SwitchContact

#: Share of the expected change that counts as an effect.
EFFECT_SHARE = 0.7
#: A deviation below this share of the rating counts as reached.
REACHED_SHARE = 0.05
#: Differences below this share of the rating, and below 1 W, are not worth a write.
DEADBAND_SHARE = 0.001


@dataclass(frozen=True, slots=True)
class Written:
    """A write that reached the device.

    Attributes:
        action: What was written.
        at: When.
        baseline_w: Power of the device before it; None = not known.
    """

    action: Action
    at: datetime
    baseline_w: float | None


def rating_w(spec: DeviceSpec) -> float:
    """Largest power of a device [W]; 1 W when nothing is declared."""
    return max(abs(spec.p_min_w), abs(spec.p_max_w), 1.0)


def same(spec: DeviceSpec, old: Action | None, new: Action) -> bool:
    """True when the device need not be told again: equal but for the deadband."""
    band = max(1.0, DEADBAND_SHARE * rating_w(spec))
    if isinstance(old, HoldPower) and isinstance(new, HoldPower):
        # 0 W is a promise (dead time, safety), so it is written exactly.
        return abs(old.power_w - new.power_w) < band and (old.power_w == 0.0) == (new.power_w == 0.0)
    if isinstance(old, LimitGeneration) and isinstance(new, LimitGeneration):
        if old.min_power_w is None or new.min_power_w is None:
            return old.min_power_w is new.min_power_w
        return abs(old.min_power_w - new.min_power_w) < band
    if isinstance(old, SwitchContact) and isinstance(new, SwitchContact):
        return old.closed == new.closed
    return type(old) is type(new)


def effective(spec: DeviceSpec, written: Written, facts: DeviceFacts, now: datetime) -> bool | None:
    """True: the effect is there. False: a later measurement shows it is not (yet). None: nothing measured since."""
    action = written.action
    if isinstance(action, SwitchContact):
        return _switched(action, written, facts, now)
    if isinstance(action, HoldPower | LimitGeneration):
        if facts.p_w is None or _measured_at(facts, "p_w", now) <= written.at:
            return None
        near = REACHED_SHARE * rating_w(spec)
        if isinstance(action, LimitGeneration):
            return action.min_power_w is None or facts.p_w >= action.min_power_w - near
        if abs(facts.p_w - action.power_w) <= near:
            return True
        return _moved(written.baseline_w, action.power_w, facts.p_w)
    return True


def _switched(action: SwitchContact, written: Written, facts: DeviceFacts, now: datetime) -> bool | None:
    """The contact's own feedback decides; for an opening the power must have gone too, where it is measured."""
    position = facts.closed if _measured_at(facts, "closed", now) > written.at else None
    power = facts.p_w if _measured_at(facts, "p_w", now) > written.at else None
    if position is not None and position != action.closed:
        return False
    if not action.closed and power is not None and written.baseline_w is not None and written.baseline_w > 0:
        return power <= (1.0 - EFFECT_SHARE) * written.baseline_w
    return None if position is None else True


def _moved(baseline_w: float | None, target_w: float, power_w: float) -> bool:
    if baseline_w is None or baseline_w == target_w:
        return False
    share = (power_w - baseline_w) / (target_w - baseline_w)
    return EFFECT_SHARE <= share <= 2.0 - EFFECT_SHARE


def _measured_at(facts: DeviceFacts, quantity: str, now: datetime) -> datetime:
    return now - timedelta(seconds=facts.ages_s.get(quantity, 1e9))
