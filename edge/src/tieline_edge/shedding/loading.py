"""Loading in per cent of a rating, for transformers and lines alike: two holds in, one target, one level out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from tieline_core.ids import DeviceId
from tieline_core.shedding import LineOverloadParameters, ThermalOverloadParameters
from tieline_edge.shedding.burden import Burden
from tieline_edge.shedding.rule import Finding, Look, RuleView, Standing
from tieline_edge.shedding.signals import Sample, Sensed, Steady, Stretch, ripe, stretch

#: A change of this share of the rating shows in any meter of an element.
_SHOWS: Final = 0.02
Levels = ThermalOverloadParameters | LineOverloadParameters


@dataclass(frozen=True, slots=True)
class LoadingMemory:
    """Times above the two levels, and how the sources have moved."""

    above: Stretch | None = None
    severe: Stretch | None = None
    steady: Mapping[str, Steady] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Watched:
    """An element whose loading is watched.

    Attributes:
        rule: Name of the rule.
        code: Its word in event codes.
        device: Whom it is about.
        levels: Levels and times.
        min_samples: Good samples a hold must contain.
        delay_s: Addition to the holds, where several edges act on one element and the hub has sent no shares [s].
        share: This edge's share of the relief.
        factors: Which loads it feeds; None = all.
    """

    rule: str
    code: str
    device: DeviceId
    levels: Levels
    min_samples: int
    delay_s: float = 0.0
    share: float = 1.0
    factors: Mapping[DeviceId, float] | None = None


def judge(watched: Watched, memory: LoadingMemory, sensed: Sensed, burden: Burden | None, view: RuleView) -> Look:
    """One look at a loading; an unknown one is blind, and a hold survives a gap shorter than the age limit."""
    levels, sample = watched.levels, sensed.sample
    base = Finding(
        watched.rule,
        watched.code,
        watched.device,
        f"the loading of {watched.device} is not known ({sensed.why})",
        blind=True,
        factors=watched.factors,
        share=watched.share,
        restore_hold_s=levels.restore_hold_s,
    )
    memory = replace(memory, steady=sensed.steady)
    if sample is None or burden is None:
        return Look(base, memory)
    gap_s = view.ages.of(watched.device)
    memory = replace(
        memory,
        above=stretch(memory.above, burden.loading_pct > levels.trip_pct, sample, gap_s),
        severe=stretch(memory.severe, burden.loading_pct > levels.severe_pct, sample, gap_s),
    )
    over = memory.above is not None
    return Look(
        replace(
            base,
            text=f"{watched.device} at {burden.loading_pct:.0f} %",
            blind=False,
            excess_w=burden.excess_w(levels.target_pct) if over and not burden.exports else 0.0,
            surplus_w=burden.excess_w(levels.target_pct) if over and burden.exports else 0.0,
            due=_due(watched, memory, sample, view),
            flow_w=burden.flow_w,
            measured_at=sample.at,
            room_w=burden.room_w(levels.restore_pct),
            surplus_room_w=replace(burden, p_w=-burden.flow_w).room_w(levels.restore_pct),
        ),
        memory,
    )


def must_have_moved(watched: Watched, standing: Standing, rated_va: float) -> tuple[datetime, ...]:
    """When loads went that the element feeds, if they were large enough to show in any meter of it."""
    fed = {device: at for device, at in standing.obeyed_at.items() if watched.factors is None or device in watched.factors}
    gone_w = sum(standing.shed_w.get(device, 0.0) for device in fed)
    return tuple(fed.values()) if gone_w >= _SHOWS * rated_va else ()


def _due(watched: Watched, memory: LoadingMemory, sample: Sample, view: RuleView) -> bool:
    levels, delay_s = watched.levels, watched.delay_s
    if not sample.good:
        return False
    return ripe(memory.above, levels.hold_s + delay_s, watched.min_samples, view.now) or ripe(
        memory.severe, levels.severe_hold_s + delay_s, watched.min_samples, view.now
    )
