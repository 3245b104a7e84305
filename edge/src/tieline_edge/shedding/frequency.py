"""Under-frequency stages D1-D4, batteries' droop D0, and high frequency: demand response before the relay.

This is no under-frequency relay: a poll and a cycle are slower than one. Its stages lie above the first mandatory stage,
it moves no relay and opens nothing that a relay is meant to open; the relay goes on by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from tieline_core.messages.telemetry import Severity
from tieline_core.shedding import FrequencyParameters, FrequencyStage
from tieline_edge.shedding.rule import Finding, Look, RuleEvent, RuleSite, RuleView, Standing
from tieline_edge.shedding.signals import Sample, Source, Steady, Stretch, read, ripe, sense, stretch
from tieline_edge.snapshot import Watch

NAME: Final = "frequency"
#: A frequency outside of this share around nominal is a fault of the measurement.
_POSSIBLE: Final = 0.15
#: The droop is claimed in steps of this share of the rating, so that noise writes nothing.
_DROOP_STEP: Final = 0.01


@dataclass(frozen=True, slots=True)
class StandingStage:
    """A stage that has tripped and has not been released yet.

    Attributes:
        at: When it tripped.
        target_w: Power that is to be off while it stands [W].
        calm: Time above its restore level.
    """

    at: datetime
    target_w: float
    calm: Stretch | None = None


@dataclass(frozen=True, slots=True)
class FrequencyMemory:
    """Times below each stage, the stages that stand, droop and high frequency, and how the sources have moved."""

    below: Mapping[str, Stretch] = field(default_factory=dict)
    stages: Mapping[str, StandingStage] = field(default_factory=dict)
    low: Stretch | None = None
    droops: bool = False
    high: Stretch | None = None
    is_high: bool = False
    last_hz: float | None = None
    last_at: datetime | None = None
    steady: Mapping[str, Steady] = field(default_factory=dict)


class Frequency:
    """The rule at the site's frequency.

    Args:
        site: The site; ``frequency_at`` names the first source and, if there is one, the second.
    """

    def __init__(self, site: RuleSite) -> None:
        told = site.settings.frequency
        self._told: FrequencyParameters = told
        self._released_at = site.released_at
        spread = _POSSIBLE * told.nominal_hz
        least, most = told.nominal_hz - spread, told.nominal_hz + spread
        self._sources = tuple(Source(site.edge, device, "f_hz", least, most) for device in site.settings.frequency_at)
        volts = 2.0 * told.nominal_v
        self._voltages = tuple(Source(site.edge, device, "v_v", 0.0, volts) for device in site.settings.frequency_at)
        self._element = site.settings.frequency_at[0]
        self.key = f"{NAME}/{self._element}"
        self.fresh = FrequencyMemory()
        first = self._sources[0].point
        low = tuple(Watch(first, stage.below_hz, rising=False) for stage in told.stages)
        self.watches = (*low, Watch(first, told.high_hz))

    def look(self, memory: Any, view: RuleView, standing: Standing) -> Look:
        """Look once."""
        held: FrequencyMemory = memory
        sensed = sense(view, self._sources, held.steady, self._told.stuck_s)
        held = replace(held, steady=sensed.steady)
        base = Finding(NAME, NAME, self._element, f"the frequency is not known ({sensed.why})", blind=True)
        if sensed.sample is None:
            return Look(base, held)
        blocked = self._blocked(view)
        sample = sensed.sample
        counts = blocked is None and sample.good and self._plausible(held, sample)
        held = replace(held, last_hz=sample.value, last_at=sample.at) if sample.at != held.last_at else held
        held, events = self._stages(held, sample if counts else None, view, standing)
        held = self._droop(held, sample if counts else None, view)
        text = f"{self._element} at {sample.value:.2f} Hz" + ("" if blocked is None else f" ({blocked})")
        return Look(self._finding(replace(base, text=text, blind=False), held, sample, blocked, standing), held, events)

    def _blocked(self, view: RuleView) -> str | None:
        """Why a frequency is not believed now: without voltage it is noise."""
        if self._told.min_voltage_pu == 0.0:
            return None
        volts = next((sample.value for source in self._voltages if (sample := read(view, source)) is not None), None)
        if volts is None:
            return "the voltage there is not known"
        per_unit = volts / self._told.nominal_v
        return None if per_unit > self._told.min_voltage_pu else f"blocked: the voltage there is {per_unit:.2f} pu"

    def _plausible(self, held: FrequencyMemory, sample: Sample) -> bool:
        """No grid changes as fast as that; a step that stays is believed from its second sample on."""
        if held.last_hz is None or held.last_at is None or sample.at <= held.last_at:
            return True
        slope = abs(sample.value - held.last_hz) / (sample.at - held.last_at).total_seconds()
        return slope < self._told.max_slope_hz_per_s

    def _stages(
        self, held: FrequencyMemory, sample: Sample | None, view: RuleView, standing: Standing
    ) -> tuple[FrequencyMemory, tuple[RuleEvent, ...]]:
        gap_s = view.ages.of(self._element)
        below: dict[str, Stretch] = {}
        stages = dict(held.stages)
        events: list[RuleEvent] = []
        for stage in self._told.stages:
            # Consecutive good samples only: one that does not count ends the stretch.
            run = None if sample is None else stretch(held.below.get(stage.name), sample.value <= stage.below_hz, sample, gap_s)
            if run is not None:
                below[stage.name] = run
            if stage.name not in stages and ripe(run, stage.hold_s, self._told.min_samples, view.now):
                stages[stage.name] = StandingStage(view.now, stage.share_pct / 100.0 * standing.enrolled_w)
                events.append(_tripped(stage, sample))
            if stage.name in stages and sample is not None:
                one = stages[stage.name]
                calm = stretch(one.calm, sample.value >= stage.restore_hz, sample, gap_s)
                stages[stage.name] = replace(one, calm=calm)
                if self._released(stage, stages[stage.name], view):
                    del stages[stage.name]
                    events.append(RuleEvent(Severity.COMPLIANT, "frequency.released", f"stage {stage.name} is released"))
        return replace(held, below=below, stages=stages), tuple(events)

    def _released(self, stage: FrequencyStage, one: StandingStage, view: RuleView) -> bool:
        calm = one.calm
        if calm is not None and (view.now - calm.since).total_seconds() >= stage.restore_hold_s:
            return True
        # An operator's release does not close onto a low frequency either.
        return stage.latched and self._released_at is not None and self._released_at > one.at and calm is not None

    def _droop(self, held: FrequencyMemory, sample: Sample | None, view: RuleView) -> FrequencyMemory:
        if sample is None:
            return replace(held, low=None, high=None)
        told, gap_s = self._told, view.ages.of(self._element)
        low = stretch(held.low, sample.value <= told.droop_below_hz, sample, gap_s)
        high = stretch(held.high, sample.value >= told.high_hz, sample, gap_s)
        droops = ripe(low, told.droop_hold_s, told.min_samples, view.now) or (
            held.droops and sample.value < told.nominal_hz - told.dead_band_hz
        )
        is_high = ripe(high, told.high_hold_s, told.min_samples, view.now) or (
            held.is_high and sample.value > told.high_restore_hz
        )
        return replace(held, low=low, high=high, droops=droops, is_high=is_high)

    def _finding(
        self, base: Finding, held: FrequencyMemory, sample: Sample, blocked: str | None, standing: Standing
    ) -> Finding:
        told = self._told
        standing_stages = [stage for stage in told.stages if stage.name in held.stages]
        target_w = max((held.stages[stage.name].target_w for stage in standing_stages), default=0.0)
        if any(stage.share_pct == 100.0 for stage in standing_stages):
            target_w = max(target_w, standing.enrolled_w)
        excess_w = max(0.0, target_w - sum(standing.shed_w.values()))
        share = _signed_droop(told, sample.value) if held.droops or held.is_high else None
        if any(stage.discharge for stage in standing_stages):
            share = -1.0
        plants = 1.0
        if held.is_high:
            plants = max(0.0, 1.0 - max(0.0, sample.value - told.high_hz) / (told.droop_pct / 100.0 * told.nominal_hz))
        names = ", ".join(stage.name for stage in standing_stages)
        return replace(
            base,
            text=base.text + (f", stage {names}" if names else ""),
            excess_w=excess_w,
            # A blocked frequency opens nothing more; what stands stays.
            due=excess_w > 0.0 and blocked is None,
            room_w=0.0 if standing_stages or blocked is not None else base.room_w,
            storage_share=None if blocked is not None else share,
            plant_share=plants,
        )


def _signed_droop(told: FrequencyParameters, hertz: float) -> float:
    """Power of storages as a share of their rating: discharge (negative) below nominal, charge above, none in the band."""
    off_hz = hertz - told.nominal_hz
    beyond_hz = max(0.0, abs(off_hz) - told.dead_band_hz)
    share = min(1.0, beyond_hz / (told.droop_pct / 100.0 * told.nominal_hz))
    share = round(share / _DROOP_STEP) * _DROOP_STEP
    return share if off_hz > 0.0 else -share


def _tripped(stage: FrequencyStage, sample: Sample | None) -> RuleEvent:
    seen = "" if sample is None else f" at {sample.value:.3f} Hz"
    text = f"stage {stage.name} trips{seen}: {stage.share_pct:g} % of the enrolled power goes off"
    return RuleEvent(Severity.ALARM, "frequency.stage", text, data={"stage": stage.name})


def build(site: RuleSite) -> tuple[Frequency, ...]:
    """The rule, where a source is named."""
    return (Frequency(site),) if site.settings.frequency_at else ()
