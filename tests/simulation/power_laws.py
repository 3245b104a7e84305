"""Laws of batteries and plants, judged by what the devices are really told."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.simulation.field import Unit
from tieline_edge.drivers.capabilities import HoldPower, LimitGeneration, Release, Role

if TYPE_CHECKING:
    from tests.simulation.oracle import Oracle

#: What a slow device and a late cycle may add to the time between two orders [s].
_SLACK_S: Final = 3.5
#: Within this time a battery follows an operator who has nobody against him [s].
_FOLLOW_S: Final = 60.0
#: So long after a start a plant's limit may be opened from the one that was kept, which is at most so old [s].
_RESUMING_S: Final = 15.0
_KEPT_S: Final = 75.0
#: After this long without anybody who wants it, no order may stand [s].
_FAILSAFE_S: Final = 90.0


@dataclass(slots=True)
class Told:
    """What a device was told last.

    Attributes:
        power_w: Power of a battery or least power of a plant; a plant without a limit has its rating.
        at_s: When.
        sign: Sign of the last power that was not zero.
        zero_since_s: Since when it has been told nothing else than 0 W.
        odd_since_s: Since when nobody wants what it was told.
        lied: It has acknowledged the last order and not obeyed it.
        lately: When it was told what in the last run, as long as that may be what was remembered at its end.
    """

    power_w: float = 0.0
    at_s: float = -1e9
    sign: int = 0
    zero_since_s: float = -1e9
    odd_since_s: float | None = None
    lied: bool = False
    lately: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=60))


def _sign(value: float) -> int:
    return 0 if abs(value) < 1e-6 else int(math.copysign(1, value))


def _between(value: float, one: float, other: float, margin: float) -> bool:
    return min(one, other) - margin <= value <= max(one, other) + margin


class PowerLaws:
    """Watches every battery and plant."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self._told: dict[str, Told] = {}

    def _of(self, unit: Unit) -> Told:
        return self._told.setdefault(str(unit.spec.device_id), Told(unit.spec.p_min_w if unit.spec.role is Role.PV else 0.0))

    def told(self, unit: Unit, action: HoldPower | LimitGeneration | Release) -> None:
        """A device was told a power."""
        oracle, device, told = self._oracle, str(unit.spec.device_id), self._of(unit)
        now_s = oracle.now_s
        plant = unit.spec.role is Role.PV
        free = unit.spec.p_min_w if plant else 0.0
        if isinstance(action, HoldPower):
            value = action.power_w
        else:
            value = free if isinstance(action, Release) or action.min_power_w is None else action.min_power_w
        if not isinstance(action, Release) and not oracle.just_thawed:
            self._hard(unit, action, value)
            self._ramp(unit, told, value)
            self._wanted(unit, told, value)
            if not plant:
                self._dead_time(unit, told, value)
                self._charge(unit, value)
        if _sign(value):
            told.sign, told.zero_since_s = _sign(value), math.inf
        elif told.zero_since_s == math.inf:
            told.zero_since_s = now_s
        told.power_w, told.at_s, told.lied = value, now_s, unit.faults.lies
        if oracle.agent_up_s >= _RESUMING_S:
            told.lately.append((now_s, value))
        oracle.count("order", device)

    def reverted(self, unit: Unit) -> None:
        """A device's own timer has ended its order."""
        told = self._of(unit)
        if told.lied:
            # It has confirmed a later order with its timer: nobody expects this one to end.
            return
        told.power_w = unit.spec.p_min_w if unit.spec.role is Role.PV else 0.0
        told.at_s = self._oracle.now_s
        if unit.spec.role is not Role.PV and told.zero_since_s == math.inf:
            told.zero_since_s = self._oracle.now_s

    def _hard(self, unit: Unit, action: HoldPower | LimitGeneration, value: float) -> None:
        spec = unit.spec
        most = 0.0 if spec.role is Role.PV else spec.p_max_w
        if not spec.p_min_w - 1e-6 <= value <= most + 1e-6:
            self._oracle.violated("I4", str(spec.device_id), f"told {value:g} W, beyond [{spec.p_min_w:g}, {most:g}] W")
        if action.revert_s <= 0 and (isinstance(action, HoldPower) or action.min_power_w is not None):
            self._oracle.violated("I6", str(spec.device_id), "an order without a reversion timer")

    def _froms(self, unit: Unit, told: Told) -> list[float]:
        """Where a device stands: where it was told to be, and just after a start of the agent where it showed itself."""
        shown = self._oracle.last_two(unit, "p_w")[-1:] if unit.spec.role is Role.STORAGE else ()
        return [told.power_w, *(shown if self._oracle.agent_up_s < _RESUMING_S else ())]

    def _ramp(self, unit: Unit, told: Told, value: float) -> None:
        spec, oracle = unit.spec, self._oracle
        if spec.ramp_w_per_s is None:
            return
        # Away from a limit that binds, as an empty battery's end does at 0 W, no rate counts.
        inwards = not _sign(told.power_w) or (abs(value) < abs(told.power_w) and told.power_w * value >= 0)
        if spec.role is Role.PV:
            step = told.power_w - value  # a tighter limit may come at once
        elif (inwards and oracle.limited(unit)) or (value < told.power_w and oracle.relieving()):
            return
        else:
            step = min(abs(value - start) for start in self._froms(unit, told))
        elapsed_s = min(oracle.now_s - told.at_s, 2.0 * oracle.period_s)
        allowed = spec.ramp_w_per_s * (elapsed_s + _SLACK_S) + 1.0
        if step > allowed:
            oracle.violated(
                "ramp",
                str(spec.device_id),
                f"told {value:g} W {oracle.now_s - told.at_s:.1f} s after {told.power_w:g} W, {allowed:.0f} W are allowed",
            )

    def _dead_time(self, unit: Unit, told: Told, value: float) -> None:
        rested_s = self._oracle.now_s - told.zero_since_s
        if _sign(value) * told.sign < 0 and rested_s < unit.spec.dead_time_s - _SLACK_S:
            text = f"told {value:g} W after {max(0.0, rested_s):.1f} s at rest, {unit.spec.dead_time_s:g} s are needed"
            self._oracle.violated("dead time", str(unit.spec.device_id), text)

    def _charge(self, unit: Unit, value: float) -> None:
        shown = self._oracle.shown(unit, "soc_pct", at_least_s=2.0 * self._oracle.period_s + _SLACK_S)
        if shown is None:
            return
        spec = unit.spec
        if (value > 0 and shown >= spec.soc_max_pct) or (value < 0 and shown <= spec.soc_min_pct):
            self._oracle.violated("I4", str(spec.device_id), f"told {value:g} W with its charge at {shown:.1f} %")

    def _wanted(self, unit: Unit, told: Told, value: float) -> None:
        if not self._explained(unit, told, value):
            text = f"told {value:g} W after {told.power_w:g} W; ordered are {self._orders(unit)}"
            self._oracle.violated("I5", str(unit.spec.device_id), text)

    def _orders(self, unit: Unit) -> list[float]:
        device = str(unit.spec.device_id)
        standing = self._oracle.standing
        return [*standing.values(device, "power"), *standing.limits(device)]

    def _explained(self, unit: Unit, told: Told, value: float) -> bool:
        """A value that lies on the way from the last one to something ordered, to rest, or to where safety wants it."""
        spec = unit.spec
        margin = max(2.0, 0.002 * max(abs(spec.p_min_w), abs(spec.p_max_w)))
        ways = [spec.p_min_w, *([0.0] if self._oracle.mains_lost(180.0) else [])] if spec.role is Role.PV else [0.0]
        if spec.role is Role.STORAGE and self._oracle.relieving():
            ways.append(spec.p_min_w)
        if spec.role is Role.PV and self._oracle.agent_up_s < _RESUMING_S and told.lately:
            # Powers are kept once a minute, and whether the timer has ended the limit of the run before cannot be seen: it is
            # opened by the ramp from the one that was kept.
            last_s = told.lately[-1][0]
            ways.append(max(value for at_s, value in told.lately if at_s >= last_s - _KEPT_S))
        aims = (*ways, *self._orders(unit))
        return any(_between(value, start, aim, margin) for start in self._froms(unit, told) for aim in aims)

    def cycle(self, unit: Unit) -> None:
        """A second has passed: does what was told still have a reason?"""
        told, oracle, device = self._of(unit), self._oracle, str(unit.spec.device_id)
        rest = unit.spec.p_min_w if unit.spec.role is Role.PV else 0.0
        wanted = [rest, *self._orders(unit)]
        margin = max(2.0, 0.002 * max(abs(unit.spec.p_min_w), abs(unit.spec.p_max_w)))
        fine = any(abs(told.power_w - value) <= margin for value in wanted) or not oracle.steady(unit, _FAILSAFE_S)
        fine = fine or oracle.relieving() or oracle.mains_lost(300.0)
        if fine:
            told.odd_since_s = None
            if unit.spec.role is Role.STORAGE:
                self._follows(unit, told, margin)
            return
        told.odd_since_s = oracle.now_s if told.odd_since_s is None else told.odd_since_s
        if oracle.now_s - told.odd_since_s > _FAILSAFE_S:
            text = f"told {told.power_w:g} W, which nobody has wanted for {_FAILSAFE_S:g} s; ordered: {self._orders(unit)}"
            oracle.violated("I6", device, text)

    def _follows(self, unit: Unit, told: Told, margin: float) -> None:
        """An operator who has nobody above him is followed."""
        oracle, device = self._oracle, str(unit.spec.device_id)
        value = oracle.standing.setpoint(device, _FOLLOW_S)
        if value is None or abs(told.power_w - value) <= margin or oracle.limited(unit) or oracle.relieving():
            return
        soc = oracle.shown(unit, "soc_pct", at_least_s=0.0)
        window = unit.spec.soc_max_pct - 5.0, unit.spec.soc_min_pct + 5.0
        if soc is None or not window[1] < soc < window[0] or oracle.mains_lost(120.0):
            return
        if oracle.steady(unit, _FOLLOW_S):
            oracle.violated(
                "bands", device, f"an operator has wanted {value:g} W for {_FOLLOW_S:g} s, told are {told.power_w:g} W"
            )
