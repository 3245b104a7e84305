"""What ``tieline-sim ctl DIR status`` and ``tieline-sim report`` say about a world."""

from __future__ import annotations

from typing import Any

from tieline_sim.clock import SimClock, utc_text
from tieline_sim.record import RunRecord
from tieline_sim.story import Phase, Story
from tieline_sim.world import World


def status(world: World, story: Story, clock: SimClock) -> dict[str, Any]:
    """The present, in the units of the field."""
    contactors = [row for station in world.substations.values() for row in station.contactors.values()]
    all_closed = all(row.closed for row in contactors)
    phase = story.phase(all_closed)
    stations = {}
    for name, station in world.substations.items():
        opened = [row for row in station.contactors.values() if not row.closed]
        stations[name] = {
            "loading_pct": round(station.busbar.loading_pct, 2),
            "loading_without_pct": round(station.free_busbar.loading_pct, 2),
            "vm_pu": round(station.busbar.vm_pu, 4),
            "p_kw": round(station.busbar.p_w / 1e3, 2),
            "oil_degc": round(station.oil.temp_degc, 2),
            "shed_kw": round(sum(row.demand_w for row in opened) / 1e3, 2),
            "open_units": [row.spec.unit for row in opened],
            "batteries": {
                device: {
                    "p_kw": round(face.battery.p_w / 1e3, 2),
                    "soc_pct": round(face.battery.soc_pct, 2),
                    "target_kw": round(face.target_w() / 1e3, 2),
                }
                for device, face in station.batteries.items()
            },
        }
    return {
        "sim": utc_text(clock.now()),
        "sim_unix_s": round(clock.now(), 3),
        "speed": clock.speed(),
        "phase": phase.value,
        "started": phase is not Phase.SETUP,
        "finished": phase is Phase.AFTER,
        "faults": sorted(world.faults.active),
        "all_closed": all_closed,
        "substations": stations,
        "grid": {
            "vm_min_pu": round(world.grid_state.vm_min_pu, 4) if world.grid_state else None,
            "worst_line_pct": round(world.grid_state.worst_line_pct, 2) if world.grid_state else None,
        },
        **summary(world.record),
    }


def summary(record: RunRecord) -> dict[str, Any]:
    """Peaks, costs, what was shed; first of a pair is with, second without control."""

    def worst(table: dict[str, list[float]], place: int) -> float | None:
        return round(max(row[place] for row in table.values()), 3) if table else None

    return {
        "peak_loading_pct": {
            "with": worst(record.peak, 0),
            "without": worst(record.peak, 1),
            "by_substation": {
                name: {"with": round(row[0], 3), "without": round(row[1], 3)} for name, row in record.peak.items()
            },
        },
        "crisis_loading_pct": {"with": worst(record.crisis_peak, 0), "without": worst(record.crisis_peak, 1)},
        "cost_eur": {"with": round(record.cost_eur[0], 4), "without": round(record.cost_eur[1], 4)},
        "energy_kwh": {"with": round(record.energy_wh[0] / 1e3, 3), "without": round(record.energy_wh[1] / 1e3, 3)},
        "shed_kw_by_class": record.shed_kw_by_class(),
        "vital_shed_kw": round(sum(row.shed_kw for row in record.shed if row.priority_class == 0), 3),
        "restored_pct": round(record.restored_pct(), 3),
    }
