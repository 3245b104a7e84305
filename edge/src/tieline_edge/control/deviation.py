"""What the plan wanted and the site could not give: told to the hub once, with the reason, and once when it is over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tieline_core.ids import DeviceId
from tieline_core.messages.telemetry import Severity
from tieline_edge.control.arbiter import Decision
from tieline_edge.control.claims import NO_LIMIT, Band, Claim
from tieline_edge.control.effect import REACHED_SHARE, rating_w
from tieline_edge.drivers.capabilities import DeviceSpec, HoldPower, LimitGeneration, Release, SwitchContact
from tieline_edge.shedding.rule import RuleEvent

#: A deviation or its end lasts this long before it is told [s]: ramps and dead times are no deviations.
SETTLE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Deviation:
    """What a device was to do by plan, what it was told instead, and why.

    Powers are signed [W]; ``given_w`` is None for a device that was let go or left alone.
    """

    wanted_w: float
    given_w: float | None
    because: str


def deviations(decisions: Mapping[DeviceId, Decision], specs: Mapping[DeviceId, DeviceSpec]) -> dict[DeviceId, Deviation]:
    """Where the decisions differ from the plan by more than a twentieth of the rating: a pure function."""
    found = {}
    for device, decision in decisions.items():
        spec, claim = specs.get(device), _planned(decision)
        if spec is None or claim is None:
            continue
        one = _setpoint(decision, claim, spec) if claim.setpoint_w is not None else _limit(decision, claim)
        if one is not None:
            found[device] = one
    return found


def _planned(decision: Decision) -> Claim | None:
    everything = (*((decision.winner,) if decision.winner else ()), *decision.losers, *decision.limits, *decision.dropped)
    return next((claim for claim in everything if claim.band is Band.PLAN), None)


def _setpoint(decision: Decision, claim: Claim, spec: DeviceSpec) -> Deviation | None:
    wanted, action = claim.setpoint_w or 0.0, decision.action
    given = action.power_w if isinstance(action, HoldPower) else (0.0 if isinstance(action, Release) else None)
    if given is not None and abs(given - wanted) <= REACHED_SHARE * rating_w(spec):
        return None
    return Deviation(wanted, given, _because(decision, claim))


def _limit(decision: Decision, claim: Claim) -> Deviation | None:
    limit, action = claim.limit or NO_LIMIT, decision.action
    if isinstance(action, SwitchContact):
        # A contactor knows two positions: only an opening that was not made is a deviation.
        missed = action.closed and limit.hi <= 0.0
    else:
        missed = claim in decision.dropped and limit != NO_LIMIT
    if not missed:
        return None
    given = action.min_power_w if isinstance(action, LimitGeneration) else None
    return Deviation(limit.clamp(0.0), given, _because(decision, claim))


def _because(decision: Decision, claim: Claim) -> str:
    winner = decision.winner
    if winner is not None and winner is not claim and not isinstance(decision.action, SwitchContact):
        return str(winner)
    return "; ".join(decision.notes) or "it was not followed"


@dataclass(frozen=True, slots=True)
class _Mark:
    """What was last told of a device, and since when it has been otherwise."""

    told: bool = False
    otherwise_since: datetime | None = None


class DeviationWatch:
    """Tells of deviations that last, once each."""

    def __init__(self) -> None:
        self._marks: dict[DeviceId, _Mark] = {}

    def look(
        self, decisions: Mapping[DeviceId, Decision], specs: Mapping[DeviceId, DeviceSpec], now: datetime
    ) -> list[RuleEvent]:
        """Compare once; ``now`` is on the line that never steps."""
        found = deviations(decisions, specs)
        events, marks = [], {}
        for device in sorted({*found, *self._marks}):
            mark, one = self._marks.get(device, _Mark()), found.get(device)
            deviates = one is not None
            if deviates == mark.told:
                mark = _Mark(mark.told)
            elif mark.otherwise_since is None:
                mark = _Mark(mark.told, now)
            elif (now - mark.otherwise_since).total_seconds() >= SETTLE_S:
                mark = _Mark(deviates)
                events.append(_event(device, one))
            if mark != _Mark():
                marks[device] = mark
        self._marks = marks
        return events


def _event(device: DeviceId, one: Deviation | None) -> RuleEvent:
    if one is None:
        return RuleEvent(Severity.COMPLIANT, "plan.kept", f"{device} follows its plan again", device)
    given = "is left to itself" if one.given_w is None else f"is told {one.given_w:g} W"
    text = f"{device} {given}, planned were {one.wanted_w:g} W: {one.because}"
    data = {"wanted_w": one.wanted_w, "given_w": one.given_w}
    return RuleEvent(Severity.ACTION, "plan.deviation", text[:500], device, data)
