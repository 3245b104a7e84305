"""What the mechanism says to the arbiter: openings, and limits of storages and plants. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from tieline_core.ids import DeviceId
from tieline_edge.control.claims import NO_LIMIT, Band, Claim, Failsafe, Interval
from tieline_edge.shedding.relief import able_storages
from tieline_edge.shedding.rule import Finding, RuleView
from tieline_edge.shedding.shed_state import Parameters, ShedMemory

#: How long a limit stays when its rule falls silent in the middle of a violation [s].
FAILSAFE_S: Final = 60.0
_Key = tuple[DeviceId, str, int]
_Limit = tuple[DeviceId, str, float, float]


@dataclass(frozen=True, slots=True)
class Spoken:
    """The claims of one cycle and which limits are among them."""

    claims: tuple[Claim, ...]
    limits: tuple[_Key, ...]


@dataclass(slots=True)
class _Window:
    """What is left of a device's power by one rule's limits."""

    lo: float = -math.inf
    hi: float = math.inf
    reasons: list[str] = field(default_factory=list)

    def narrow(self, reason: str, lo: float = -math.inf, hi: float = math.inf) -> None:
        self.lo, self.hi = max(self.lo, lo), min(self.hi, hi)
        if reason not in self.reasons:
            self.reasons.append(reason)

    @property
    def interval(self) -> Interval:
        # Findings of one rule may exclude each other (one line too full, another one back-feeding): then 0 W.
        return Interval(self.lo, self.hi) if self.lo <= self.hi else Interval(0.0, 0.0)


def claims(parameters: Parameters, memory: ShedMemory, findings: Sequence[Finding], view: RuleView) -> Spoken:
    """All claims of this cycle; a limit of the last one that is over is lifted by saying so."""
    until = view.now + timedelta(seconds=view.ages.default_s)
    windows = _windows(parameters, memory, findings, view)
    limits = [
        Claim(
            device,
            Band(band),
            rule,
            "; ".join(window.reasons),
            limit=window.interval,
            expires_at=until,
            failsafe=Failsafe(window.interval, FAILSAFE_S),
        )
        for (device, rule, band), window in sorted(windows.items())
    ]
    lifted = [
        Claim(device, Band(band), rule, "it is over", limit=NO_LIMIT, expires_at=until, failsafe=Failsafe(NO_LIMIT, FAILSAFE_S))
        for device, rule, band in memory.spoken
        if (device, rule, band) not in windows and device in parameters.helpers
    ]
    openings = [
        Claim(
            one.device,
            Band(one.band),
            one.rule,
            f"class {one.priority}, shed at {one.at:%H:%M:%S} with {one.p_w / 1000:.1f} kW",
            closed=False,
            expires_at=until,
            off_timer_s=one.off_timer_s,
        )
        for one in memory.shed
    ]
    return Spoken((*openings, *_barred(parameters, memory, findings, view), *limits, *lifted), tuple(sorted(windows)))


def _barred(parameters: Parameters, memory: ShedMemory, findings: Iterable[Finding], view: RuleView) -> list[Claim]:
    """What is open stays open while a finding bars closing, and below an element that has too much already.

    A load that was let go and could not be reached until now would else come back in the middle of the next violation.
    """
    held = {one.device for one in memory.shed}
    return [
        Claim(
            device,
            finding.band,
            finding.rule,
            finding.text,
            closed=False,
            expires_at=view.now + timedelta(seconds=view.ages.default_s),
            keeps=True,
        )
        for finding in findings
        if finding.bars_closing or finding.excess_w > 0.0
        for device in sorted(parameters.loads)
        if device not in held
        and view.facts.of(device).closed is False
        and (finding.bars_closing or finding.factor(device) > 0.0)
    ]


def _windows(parameters: Parameters, memory: ShedMemory, findings: Sequence[Finding], view: RuleView) -> dict[_Key, _Window]:
    windows: dict[_Key, _Window] = {}
    for finding in findings:
        for device, reason, lo, hi in (
            *_of_storages(parameters, memory, finding, view),
            *_of_plants(parameters, memory, finding),
        ):
            windows.setdefault((device, finding.rule, int(finding.band)), _Window()).narrow(reason, lo, hi)
    return windows


def _of_storages(parameters: Parameters, memory: ShedMemory, finding: Finding, view: RuleView) -> Iterator[_Limit]:
    element, share = memory.of(finding.key), finding.storage_share
    fed = {device: one for device, one in parameters.helpers.items() if one.storage and finding.factor(device) > 0.0}
    giving = [device for device in able_storages(parameters, view, delivering=True) if device in fed]
    taking = [device for device in able_storages(parameters, view, delivering=False) if device in fed]
    give = _share(element.discharge_w, (fed[device].deliver_w for device in giving))
    take = _share(element.charge_w, (fed[device].charge_w for device in taking))
    if element.strained:
        yield from ((device, f"{finding.element} is overloaded: no charging", -math.inf, 0.0) for device in fed)
    if give > 0.0:
        yield from ((device, f"{finding.element} needs relief", -math.inf, -give * fed[device].deliver_w) for device in giving)
    if take > 0.0:
        yield from (
            (device, f"{finding.element} delivers too much", take * fed[device].charge_w, math.inf) for device in taking
        )
    if share == 0.0:
        yield from ((device, f"{finding.text}: stand-by", 0.0, 0.0) for device in fed)
    elif share is not None and share < 0.0:
        yield from ((device, f"{finding.text}: discharge", -math.inf, share * fed[device].deliver_w) for device in giving)
    elif share is not None:
        yield from ((device, f"{finding.text}: charge", share * fed[device].charge_w, math.inf) for device in taking)


def _of_plants(parameters: Parameters, memory: ShedMemory, finding: Finding) -> Iterator[_Limit]:
    plants = {device: one for device, one in parameters.helpers.items() if not one.storage and finding.factor(device) > 0.0}
    rated_w = sum(one.deliver_w for one in plants.values())
    limit_w = memory.of(finding.key).plants_w
    allowed = finding.plant_share if limit_w is None or rated_w <= 0.0 else min(finding.plant_share, limit_w / rated_w)
    if allowed < 1.0:
        reason = f"{finding.text}: at most {100 * allowed:.0f} % of the plant"
        yield from ((device, reason, -allowed * plant.deliver_w, math.inf) for device, plant in plants.items())


def _share(total_w: float, each_w: Iterable[float]) -> float:
    able_w = sum(each_w)
    return min(1.0, total_w / able_w) if able_w > 0.0 else 0.0
