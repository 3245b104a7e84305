"""What a device is: the catalogue's defaults with the instance's own values on top."""

from __future__ import annotations

from typing import TypeVar

from tieline_edge.drivers.capabilities import DeviceSpec
from tieline_edge.drivers.catalog.entry import CatalogEntry
from tieline_edge.drivers.catalog.load import entry as catalog_entry
from tieline_edge.drivers.plausibility import Nominal
from tieline_edge.settings import DeviceSettings

_T = TypeVar("_T")


def _or(value: _T | None, default: _T) -> _T:
    return default if value is None else value


def spec_of(settings: DeviceSettings) -> DeviceSpec:
    """The specification of a configured device.

    Raises:
        BadInputError: When its catalogue entry does not exist.
    """
    entry = catalog_entry(settings.catalog)
    return DeviceSpec(
        device_id=settings.id,
        role=entry.role,
        capabilities=frozenset(entry.capabilities),
        priority_class=settings.priority_class,
        p_min_w=_or(settings.p_min_w, 0.0),
        p_max_w=_or(settings.p_max_w, 0.0),
        energy_wh=settings.energy_wh,
        soc_min_pct=_or(settings.soc_min_pct, 0.0),
        soc_max_pct=_or(settings.soc_max_pct, 100.0),
        soc_reserve_pct=_or(settings.soc_reserve_pct, 0.0),
        reverts=entry.reverts,
        off_timer=entry.off_timer,
        safe_closed=entry.safe_closed,
        ramp_w_per_s=settings.ramp_w_per_s,
        dead_time_s=_or(settings.dead_time_s, entry.dead_time_s),
        min_on_s=_or(settings.min_on_s, entry.min_on_s),
        min_off_s=_or(settings.min_off_s, entry.min_off_s),
        effect_s=settings.effect_s,
        switches_per_h=_or(settings.switches_per_h, 12),
    )


def nominal_of(settings: DeviceSettings, entry: CatalogEntry) -> Nominal:
    """What is known of a device's values before anything is read."""
    largest_w = max(abs(_or(settings.p_min_w, 0.0)), abs(_or(settings.p_max_w, 0.0)))
    return Nominal(_or(settings.nominal_v, entry.nominal_v), settings.nominal_hz, largest_w)
