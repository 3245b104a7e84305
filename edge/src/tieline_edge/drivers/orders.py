"""What an order asks of any device, whatever its protocol: is it allowed, which steps does it take, which numbers do they need.

Pure. Everything refused here has sent no byte.
"""

from __future__ import annotations

import math
from typing import TypeVar

from tieline_edge.drivers.capabilities import (
    Action,
    Capability,
    DevicePermanentError,
    DeviceSpec,
    HoldPower,
    LimitGeneration,
    Release,
    SwitchContact,
)
from tieline_edge.drivers.catalog.form import Form, Steps

_S = TypeVar("_S", bound=Form)

#: Set points are compared with limits that came through other roundings.
_TOLERANCE_W = 0.5


def check_order(action: Action, spec: DeviceSpec) -> None:
    """Refuse what the device cannot do and what lies outside its limits.

    Raises:
        DevicePermanentError: With the reasons; nothing was written.
    """
    needs = {
        HoldPower: Capability.HOLD_POWER,
        LimitGeneration: Capability.LIMIT_GENERATION,
        SwitchContact: Capability.SWITCH,
    }.get(type(action))
    if needs is not None and needs not in spec.capabilities:
        raise DevicePermanentError(f"{spec.device_id} cannot {needs.value}; nothing was written")
    reasons = []
    if isinstance(action, HoldPower):
        if not math.isfinite(action.power_w):
            reasons.append(f"{action.power_w} is no power")
        elif not spec.p_min_w - _TOLERANCE_W <= action.power_w <= spec.p_max_w + _TOLERANCE_W:
            reasons.append(f"{action.power_w:g} W is outside {spec.p_min_w:g} W to {spec.p_max_w:g} W")
    if isinstance(action, LimitGeneration) and action.min_power_w is not None:
        if not math.isfinite(action.min_power_w) or action.min_power_w > 0:
            reasons.append(f"a generation limit is at most 0 W (load convention), got {action.min_power_w:g} W")
        if spec.p_min_w >= 0:
            reasons.append("p_min_w (the rating, below 0 W) is not configured")
    if isinstance(action, HoldPower | LimitGeneration) and not (math.isfinite(action.revert_s) and action.revert_s > 0):
        reasons.append(f"revert_s must be above 0 s, got {action.revert_s:g}")
    if isinstance(action, SwitchContact) and not (math.isfinite(action.off_timer_s) and action.off_timer_s >= 0):
        reasons.append(f"off_timer_s must not be below 0 s, got {action.off_timer_s:g}")
    if reasons:
        raise DevicePermanentError(f"{spec.device_id}: {'; '.join(reasons)}; nothing was written")


def steps_of(action: Action, steps: Steps[_S], spec: DeviceSpec, name: str) -> tuple[_S, ...]:
    """The catalogue's steps for an action, in the order they are carried out.

    Args:
        action: What is asked.
        steps: The entry's writes.
        spec: The device.
        name: Name of the entry, for the message.

    Raises:
        DevicePermanentError: When the entry has none; a release may have none.
    """
    if isinstance(action, Release) or (isinstance(action, LimitGeneration) and action.min_power_w is None):
        return steps.release
    if isinstance(action, HoldPower):
        found = steps.hold_power
    elif isinstance(action, LimitGeneration):
        found = steps.limit_generation
    else:
        found = steps.close if action.closed else steps.open
    if not found:
        raise DevicePermanentError(f"{spec.device_id}: catalogue entry {name} has no writes for {action}; nothing was written")
    return found


def variables_of(action: Action, spec: DeviceSpec, rating_w: float | None = None) -> dict[str, float]:
    """The numbers an action gives to its steps: powers signed in load convention, times rounded up [s]."""
    match action:
        case HoldPower(power_w=power_w, revert_s=revert_s):
            power_w = min(max(power_w, spec.p_min_w), spec.p_max_w)
            found = {"power_w": power_w, **_times(revert_s)}
            if rating_w:
                found["power_pct"] = 100.0 * power_w / rating_w
            return found
        case LimitGeneration(min_power_w=float() | int() as limit_w, revert_s=revert_s):
            share = min(1.0, limit_w / spec.p_min_w) + 0.0
            return {"limit_w": -max(limit_w, spec.p_min_w) + 0.0, "limit_pct": 100.0 * share, **_times(revert_s)}
        case SwitchContact(off_timer_s=off_timer_s):
            return {"off_timer_s": float(math.ceil(off_timer_s))}
        case _:
            return {}


def _times(revert_s: float) -> dict[str, float]:
    whole_s = float(math.ceil(revert_s))
    return {"revert_s": whole_s, "revert_again_s": whole_s + (1.0 if whole_s % 2 else -1.0)}
