"""What is planned at a site whose edge runs a configuration of the hub's: its devices of now, not of the hub's start.

A plan that names a device an edge has not is refused there as a whole; a battery that joins with a configuration is worth
a plan at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import ValidationError

from tieline_cloud.settings import EdgeAssets
from tieline_cloud.settings.area import BatteryAsset
from tieline_core.ids import DeviceId, EdgeId
from tieline_core.strict_yaml import parse

_KINDS: Final = ("batteries", "pv", "flexible_loads")


def running_assets(edge: EdgeId, assets: EdgeAssets, text: str) -> tuple[EdgeAssets, tuple[str, ...]]:
    """The assets of a site as its edge runs it.

    Args:
        edge: Which.
        assets: As the hub's settings name them; what they say of a device counts.
        text: The site file that the edge runs (YAML, checked by the edge).

    Returns:
        The assets without those that the edge does not have and with its other batteries, at the efficiencies and wear the
        settings assume; and what was left out or assumed, in words.
    """
    tree: Any = parse(text.encode(), f"configuration of {edge}")
    rows: dict[DeviceId, Mapping[str, Any]] = {DeviceId(row["id"]): row for row in tree["devices"]}
    notes = [
        f"{edge}/{device}: the configuration that runs there has no such device; it is not planned"
        for kind in _KINDS
        for device in getattr(assets, kind)
        if device not in rows
    ]
    kept = {kind: {device: asset for device, asset in getattr(assets, kind).items() if device in rows} for kind in _KINDS}
    for device, battery, note in _joined(edge, rows, kept["batteries"]):
        notes.append(note)
        if battery is not None:
            kept["batteries"][device] = battery
    return assets.model_copy(update=kept), tuple(notes)


def _joined(
    edge: EdgeId, rows: Mapping[DeviceId, Mapping[str, Any]], known: Mapping[DeviceId, Any]
) -> Iterator[tuple[DeviceId, BatteryAsset | None, str]]:
    """Storages (who has a capacity is one) that only the configuration knows."""
    for device, row in rows.items():
        if device in known or row.get("energy_wh") is None:
            continue
        window = {name: row[name] for name in ("soc_min_pct", "soc_max_pct") if row.get(name) is not None}
        least = window.get("soc_min_pct", BatteryAsset.model_fields["soc_min_pct"].default)
        try:
            battery = BatteryAsset(
                p_charge_max_w=row.get("p_max_w") or 0.0,
                p_discharge_max_w=-(row.get("p_min_w") or 0.0),
                energy_wh=row["energy_wh"],
                # What an edge keeps for safety is not the planner's.
                **{**window, "soc_min_pct": least + (row.get("soc_reserve_pct") or 0.0)},
            )
        except ValidationError as error:
            first = error.errors()[0]
            yield device, None, f"{edge}/{device}: it is not planned: {'.'.join(map(str, first['loc']))} {first['msg']}"
        else:
            yield device, battery, f"{edge}/{device}: known from its configuration only; efficiencies and wear are assumed"
