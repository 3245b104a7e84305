"""What is planned at a site whose edge runs a configuration of the hub's: its devices of now, not of the hub's start.

A plan that names a device an edge has not, or has as another kind, is refused there as a whole; a battery that joins with a
configuration is worth a plan at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from tieline_cloud.settings import EdgeAssets
from tieline_cloud.settings.area import BatteryAsset
from tieline_core.errors import BadInputError
from tieline_core.ids import DeviceId, EdgeId
from tieline_core.shedding import VITAL
from tieline_core.strict_yaml import parse


class _Row(BaseModel):
    """What the hub reads of a device in a site file, numbers as the edge reads them: YAML takes ``6e4`` for a text."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    id: DeviceId
    priority_class: int | None = None
    p_min_w: float | None = None
    p_max_w: float | None = None
    energy_wh: float | None = None
    soc_min_pct: float | None = None
    soc_max_pct: float | None = None
    soc_reserve_pct: float | None = None


class _SiteFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    devices: tuple[_Row, ...]


#: Who has a capacity is a storage, who has a class is a load that can be switched: an edge takes no file where that is not so.
_KINDS: Final[Mapping[str, tuple[str, Callable[[_Row], bool]]]] = {
    "batteries": ("storage", lambda row: row.energy_wh is not None),
    "pv": ("plant", lambda row: row.energy_wh is None and row.priority_class is None),
    "flexible_loads": ("load that may be limited", lambda row: row.priority_class not in (None, VITAL)),
}


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
    try:
        file = _SiteFile.model_validate(parse(text.encode(), f"configuration of {edge}"))
    except (BadInputError, ValidationError) as error:
        # One site that a newer release may understand must not cost all the others their plan.
        return assets, (f"{edge}: the configuration that runs there cannot be read, the settings count: {error}"[:300],)
    rows = {row.id: row for row in file.devices}
    kept: dict[str, dict[DeviceId, Any]] = {}
    notes: list[str] = []
    for kind, (word, is_one) in _KINDS.items():
        named: Mapping[DeviceId, Any] = getattr(assets, kind)
        kept[kind] = {device: asset for device, asset in named.items() if device in rows and is_one(rows[device])}
        for device in named:
            if device not in rows:
                notes.append(f"{edge}/{device}: the configuration that runs there has no such device; it is not planned")
            elif device not in kept[kind]:
                notes.append(f"{edge}/{device}: is no {word} in the configuration that runs there; it is not planned")
    for device, battery, note in _joined(edge, rows, kept["batteries"]):
        notes.append(note)
        if battery is not None:
            kept["batteries"][device] = battery
    return assets.model_copy(update=kept), tuple(notes)


def _joined(
    edge: EdgeId, rows: Mapping[DeviceId, _Row], known: Mapping[DeviceId, Any]
) -> Iterator[tuple[DeviceId, BatteryAsset | None, str]]:
    """Storages that only the configuration knows."""
    for device, row in rows.items():
        if device in known or row.energy_wh is None:
            continue
        window = {name: value for name in ("soc_min_pct", "soc_max_pct") if (value := getattr(row, name)) is not None}
        least = window.get("soc_min_pct", BatteryAsset.model_fields["soc_min_pct"].default)
        try:
            battery = BatteryAsset(
                p_charge_max_w=row.p_max_w or 0.0,
                p_discharge_max_w=-(row.p_min_w or 0.0),
                energy_wh=row.energy_wh,
                # What an edge keeps for safety is not the planner's.
                **{**window, "soc_min_pct": least + (row.soc_reserve_pct or 0.0)},
            )
        except ValidationError as error:
            first = error.errors()[0]
            yield device, None, f"{edge}/{device}: it is not planned: {'.'.join(map(str, first['loc']))} {first['msg']}"
        else:
            yield device, battery, f"{edge}/{device}: known from its configuration only; efficiencies and wear are assumed"
