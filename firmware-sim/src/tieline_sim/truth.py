"""What really was, for plots and for the report: ``truth.csv`` (one row a tick) and ``events.jsonl``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tieline_sim.clock import utc_text
from tieline_sim.files import append_record, open_log
from tieline_sim.world import World


class EventLog:
    """Appends ``{"sim": ISO, "sim_unix_s": ..., "wall_unix_s": ..., "event": name, ...}`` lines.

    Args:
        path: File to append to.
        now: Simulated seconds since 1970.
        wall: Wall seconds since 1970.
    """

    def __init__(self, path: Path, now: Callable[[], float], wall: Callable[[], float]) -> None:
        self._descriptor = open_log(path)
        self._now, self._wall = now, wall

    def __call__(self, name: str, details: Mapping[str, Any]) -> None:
        """Append one event."""
        now = self._now()
        row = {
            "sim": utc_text(now),
            "sim_unix_s": round(now, 3),
            "wall_unix_s": round(self._wall(), 3),
            "event": name,
            **details,
        }
        append_record(self._descriptor, json.dumps(row, separators=(",", ":")))


class TruthLog:
    """Wide CSV, one row a tick; columns are ``<substation>.<quantity>``."""

    def __init__(self, path: Path, world: World) -> None:
        self._world = world
        fresh = not path.exists() or path.stat().st_size == 0
        self._descriptor = open_log(path)
        if fresh:
            append_record(self._descriptor, ",".join(["sim_unix_s", "wall_unix_s", "speed", *self._row()]))

    def _row(self) -> dict[str, float]:
        values: dict[str, float] = {}
        for name, station in self._world.substations.items():
            row = {
                "loading_pct": station.busbar.loading_pct,
                "loading_without_pct": station.free_busbar.loading_pct,
                "vm_pu": station.busbar.vm_pu,
                "p_w": station.busbar.p_w,
                "oil_degc": station.oil.temp_degc,
                "shed_w": sum(row.demand_w for row in station.contactors.values() if not row.closed),
                "open_units": sum(1 << unit for unit, row in station.contactors.items() if not row.closed),
            }
            for device, face in station.batteries.items():
                row[f"{device}_w"], row[f"{device}_soc_pct"] = face.battery.p_w, face.battery.soc_pct
                row[f"{device}_target_w"] = face.target_w()
            for device, inverter in station.pv.items():
                row[f"{device}_w"] = -inverter.panel.injected_w
            values.update({f"{name}.{key}": round(value, 4) for key, value in row.items()})
        return values

    def append(self, instant: float, wall: float, speed: float) -> None:
        """Append the present truth."""
        cells = [f"{instant:.3f}", f"{wall:.3f}", f"{speed:g}", *(f"{value:g}" for value in self._row().values())]
        append_record(self._descriptor, ",".join(cells))
