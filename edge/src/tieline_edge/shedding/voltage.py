"""Under-voltage sheds in blocks, over-voltage charges storages and limits plants; the tap changer has its time first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from tieline_core.shedding import VoltageParameters
from tieline_edge.shedding.rule import Finding, Look, RuleSite, RuleView, Standing
from tieline_edge.shedding.signals import Sample, Source, Steady, Stretch, ripe, sense, stretch
from tieline_edge.snapshot import Watch

NAME: Final = "voltage"
#: Beyond these voltages [pu] it is the measurement that is wrong, or a dead busbar: that is another rule's matter.
_POSSIBLE: Final = (0.5, 1.5)
#: Plants are limited, and storages let go, in steps of this share of their rating.
_STEP: Final = 0.25


@dataclass(frozen=True, slots=True)
class VoltageMemory:
    """Times outside of the band, help in force, and how the sources have moved.

    Attributes:
        discharge: Share of their rating that storages deliver against a low voltage.
        charge: Share that they draw against a high one.
        plants: Largest output of plants as a share of their rating.
        changed_at: When this help was changed last.
    """

    low: Stretch | None = None
    severe: Stretch | None = None
    high: Stretch | None = None
    discharge: float = 0.0
    charge: float = 0.0
    plants: float = 1.0
    changed_at: datetime | None = None
    steady: Mapping[str, Steady] = field(default_factory=dict)


class Voltage:
    """The rule at the site's voltage.

    Args:
        site: The site; ``voltage_at`` names the first source and, if there is one, the second.
    """

    def __init__(self, site: RuleSite) -> None:
        self._told: VoltageParameters = site.settings.voltage
        self._switching, self._storage = site.settings.switching, site.settings.storage
        low, high = (share * self._told.nominal_v for share in _POSSIBLE)
        self._sources = tuple(Source(site.edge, device, "v_v", low, high) for device in site.settings.voltage_at)
        self._element = site.settings.voltage_at[0]
        self.key = f"{NAME}/{self._element}"
        self.fresh = VoltageMemory()
        first, nominal_v = self._sources[0].point, self._told.nominal_v
        levels = (self._told.low_pu, self._told.severe_pu)
        self.watches = tuple(Watch(first, level * nominal_v, rising=False) for level in levels)

    def look(self, memory: Any, view: RuleView, standing: Standing) -> Look:
        """Look once."""
        held: VoltageMemory = memory
        sensed = sense(view, self._sources, held.steady, self._told.stuck_s)
        held = replace(held, steady=sensed.steady)
        base = Finding(
            NAME,
            NAME,
            self._element,
            f"the voltage is not known ({sensed.why})",
            blind=True,
            restore_hold_s=self._told.restore_hold_s,
        )
        if sensed.sample is None:
            return Look(base, held)
        sample, told, gap_s = sensed.sample, self._told, view.ages.of(self._element)
        per_unit = sample.value / told.nominal_v
        held = replace(
            held,
            low=stretch(held.low, per_unit < told.low_pu, sample, gap_s),
            severe=stretch(held.severe, per_unit < told.severe_pu, sample, gap_s),
            high=stretch(held.high, per_unit > told.high_pu, sample, gap_s),
        )
        held = self._helped(held, per_unit, sample, view)
        due = self._due(held, sample, view, standing)
        share = -held.discharge if held.discharge > 0.0 else held.charge if held.charge > 0.0 else None
        finding = replace(
            base,
            text=f"{self._element} at {per_unit:.3f} pu",
            blind=False,
            excess_w=told.block_share * standing.enrolled_w if due else 0.0,
            due=due,
            room_w=base.room_w if per_unit > told.restore_pu else 0.0,
            storage_share=share,
            plant_share=held.plants,
        )
        return Look(finding, held)

    def _due(self, held: VoltageMemory, sample: Sample, view: RuleView, standing: Standing) -> bool:
        """A block is due after the hold, and the next one only once the voltage can show what the last one did."""
        told, samples = self._told, self._switching.min_samples
        held_long = ripe(held.low, told.hold_s, samples, view.now) or ripe(held.severe, told.severe_hold_s, samples, view.now)
        since = standing.switched_at
        shows = since is None or sample.at >= since + timedelta(seconds=self._switching.effect_s)
        return sample.good and held_long and shows

    def _helped(self, held: VoltageMemory, per_unit: float, sample: Sample, view: RuleView) -> VoltageMemory:
        """Storages and plants: in as far as the voltage asks for, out step by step once it is back in band."""
        told = self._told
        since_s = float("inf") if held.changed_at is None else (view.now - held.changed_at).total_seconds()
        calm = since_s >= self._storage.hold_s
        shown = held.changed_at is None or sample.at >= held.changed_at + timedelta(seconds=self._switching.effect_s)
        changed = held
        if held.low is not None and held.low.samples >= self._switching.min_samples and self._storage.relieve:
            changed = replace(held, discharge=1.0, charge=0.0)
        elif ripe(held.high, told.high_hold_s, self._switching.min_samples, view.now) and shown:
            charge = 1.0 if self._storage.relieve else 0.0
            # Storages first; plants once their charging shows and does not suffice.
            plants = held.plants - _STEP if held.charge == charge else held.plants
            changed = replace(held, discharge=0.0, charge=charge, plants=max(0.0, plants))
        elif calm and held.discharge > 0.0 and per_unit > told.restore_pu:
            changed = replace(held, discharge=max(0.0, held.discharge - _STEP))
        elif calm and held.plants < 1.0 and per_unit < told.high_restore_pu:
            changed = replace(held, plants=min(1.0, held.plants + _STEP))
        elif calm and held.charge > 0.0 and per_unit < told.high_restore_pu:
            changed = replace(held, charge=max(0.0, held.charge - _STEP))
        return held if changed == held else replace(changed, changed_at=view.now)


def build(site: RuleSite) -> tuple[Voltage, ...]:
    """The rule, where a source is named."""
    return (Voltage(site),) if site.settings.voltage_at else ()
