"""Loss of mains: nothing closes onto a dead or unsynchronised busbar; it has to be live, in band and stable first.

The last gate before a contactor (:mod:`tieline_edge.control.contacts`) closes nothing onto a dead busbar either; this rule
adds the band and the waiting time, and says what storages and plants do meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from tieline_core.messages.telemetry import Severity
from tieline_edge.shedding.rule import Finding, Look, RuleEvent, RuleSite, RuleView, Standing
from tieline_edge.shedding.signals import Source, read
from tieline_edge.snapshot import Watch

NAME: Final = "loss-of-mains"


@dataclass(frozen=True, slots=True)
class MainsMemory:
    """Whether the mains were lost and since when they are back."""

    lost: bool = False
    healthy_since: datetime | None = None


class LossOfMains:
    """The rule at the site's busbar.

    Args:
        site: The site; its voltage and frequency sources are used where there are any.
    """

    def __init__(self, site: RuleSite) -> None:
        settings = site.settings
        self._told = settings.loss_of_mains
        names = settings.voltage_at or tuple(filter(None, [settings.transformer]))
        volts = 3.0 * (self._told.nominal_v or 1e6)
        self._voltages = tuple(Source(site.edge, device, "v_v", 0.0, volts) for device in names)
        self._frequencies = tuple(Source(site.edge, device, "f_hz", 10.0, 100.0) for device in settings.frequency_at)
        self.key = f"{NAME}/busbar"
        self.fresh = MainsMemory()
        #: Waiting one cycle closes nothing that was open.
        self.watches: tuple[Watch, ...] = ()

    def look(self, memory: Any, view: RuleView, standing: Standing) -> Look:  # noqa: ARG002 (it looks at the busbar only)
        """Look once."""
        held: MainsMemory = memory
        told, fault, dead = self._told, self._fault(view), view.facts.bus_live is False
        events: tuple[RuleEvent, ...] = ()
        if fault is not None:
            if not held.lost:
                text = f"mains lost: {fault}; nothing closes until it is back and stable for {told.stable_s:g} s"
                events = (RuleEvent(Severity.ALARM, "mains.lost", text),)
            held = MainsMemory(lost=True)
        elif held.lost:
            since = held.healthy_since or view.now
            held = replace(held, healthy_since=since)
            if (view.now - since).total_seconds() >= told.stable_s:
                held = MainsMemory()
                text = f"mains are back and stable for {told.stable_s:g} s"
                events = (RuleEvent(Severity.COMPLIANT, "mains.back", text),)
        text = fault or ("the busbar is back, not yet stable" if held.lost else "the busbar is live")
        finding = Finding(
            NAME,
            "mains",
            "busbar",
            text,
            bars_closing=held.lost,
            room_w=0.0 if held.lost else float("inf"),
            storage_share=0.0 if dead and told.batteries == "stand-by" else None,
            plant_share=0.0 if dead and told.plants == "off" else 1.0,
        )
        return Look(finding, held, events)

    def _fault(self, view: RuleView) -> str | None:
        """Why nothing may close now; None when the busbar is live and in band."""
        told = self._told
        if view.facts.bus_live is not True:
            return "the busbar is dead" if view.facts.bus_live is False else "the busbar is of unknown state"
        if told.nominal_v is not None and self._voltages:
            volts = next((sample.value for source in self._voltages if (sample := read(view, source)) is not None), None)
            if volts is None:
                return "the voltage of the busbar is not known"
            if abs(volts / told.nominal_v - 1.0) > told.band_pu:
                return f"the busbar is out of band at {volts / told.nominal_v:.2f} pu"
        if self._frequencies:
            hertz = next((sample.value for source in self._frequencies if (sample := read(view, source)) is not None), None)
            if hertz is None:
                return "the frequency of the busbar is not known"
            if abs(hertz - told.nominal_hz) > told.band_hz:
                return f"the busbar is not synchronous: {hertz:.2f} Hz"
        return None


def build(site: RuleSite) -> tuple[LossOfMains, ...]:
    """The rule, where a transformer or a voltage tells of the busbar."""
    tells = site.settings.transformer is not None or bool(site.settings.voltage_at)
    return (LossOfMains(site),) if tells and site.settings.loss_of_mains.enabled else ()
