"""Import and export cap of the site, from its contract or from the hub's operating envelope.

It speaks in the band of envelopes: below safety, and below an operator's approved command.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tieline_core.ids import DeviceId
from tieline_edge.control.claims import Band
from tieline_edge.shedding.rule import Finding, Look, RuleSite, RuleView, Standing
from tieline_edge.shedding.shares import share_and_delay
from tieline_edge.shedding.signals import Source, Steady, Stretch, ripe, sense, stretch
from tieline_edge.snapshot import Watch

NAME: Final = "exchange"
_POSSIBLE: Final = 20.0
#: Relief aims at this share of the cap, so that its ripple does not cross it again at once.
_TARGET: Final = 0.98


@dataclass(frozen=True, slots=True)
class ExchangeMemory:
    """Time above the import cap, and how the source has moved."""

    above: Stretch | None = None
    steady: Mapping[str, Steady] = field(default_factory=dict)


class Exchange:
    """The rule at the site's connection.

    Args:
        site: The site.
        meter: Whose ``p_w`` is the exchange, positive = import.
    """

    def __init__(self, site: RuleSite, meter: DeviceId) -> None:
        most_w = _POSSIBLE * site.rated_va
        self._told = site.settings.exchange
        self._min_samples = site.settings.switching.min_samples
        self._share, self._delay_s = share_and_delay(site, meter)
        self._source = Source(site.edge, meter, "p_w", -most_w, most_w)
        self.key = f"{NAME}/{meter}"
        self.fresh = ExchangeMemory()
        self.watches = () if self._told.import_w is None else (Watch(self._source.point, self._told.import_w),)

    def look(self, memory: Any, view: RuleView, standing: Standing) -> Look:  # noqa: ARG002 (it counts by its own flow)
        """Look once."""
        held: ExchangeMemory = memory
        told, meter = self._told, self._source.device
        sensed = sense(view, (self._source,), held.steady, told.stuck_s)
        held = replace(held, steady=sensed.steady)
        base = Finding(
            NAME,
            NAME,
            meter,
            f"the exchange is not known ({sensed.why})",
            blind=True,
            share=self._share,
            restore_hold_s=told.restore_hold_s,
            band=Band.ENVELOPE,
        )
        if sensed.sample is None:
            return Look(base, held)
        power, sample = sensed.sample.value, sensed.sample
        over = told.import_w is not None and power > told.import_w
        held = replace(held, above=stretch(held.above, over, sample, view.ages.of(meter)))
        finding = replace(base, text=f"{meter} at {power / 1000:+.1f} kW", blind=False, flow_w=power, measured_at=sample.at)
        if told.import_w is not None:
            finding = replace(
                finding,
                excess_w=power - _TARGET * told.import_w if over else 0.0,
                due=sample.good and ripe(held.above, told.hold_s + self._delay_s, self._min_samples, view.now),
                room_w=max(0.0, told.restore_share * told.import_w - power),
            )
        if told.export_w is not None:
            finding = replace(
                finding,
                surplus_w=-power - _TARGET * told.export_w if -power > told.export_w else 0.0,
                surplus_room_w=max(0.0, told.restore_share * told.export_w + power),
            )
        return Look(finding, held)


def build(site: RuleSite) -> tuple[Exchange, ...]:
    """The rule, where a cap is set and a meter is known."""
    meter = site.settings.exchange_at or site.settings.transformer
    told = site.settings.exchange
    capped = told.import_w is not None or told.export_w is not None
    return (Exchange(site, meter),) if capped and meter is not None else ()
