"""What the demo's report takes from the simulator, read from the state folder of a run that may have ended."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from tieline_sim.clock import utc_text
from tieline_sim.errors import SimulatorError
from tieline_sim.record import Episode, RunRecord
from tieline_sim.status import summary


def report(state: Path) -> dict[str, Any]:
    """Peaks, costs, overload episodes, what was shed and restored, how closely batteries followed their setpoints.

    Raises:
        SimulatorError: When the folder holds no run.
    """
    try:
        saved = json.loads((state / "world.json").read_text(encoding="utf-8"))
        ports = json.loads((state / "ports.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SimulatorError(f"{state}: holds no run: {error}") from error
    record = RunRecord.of_state(saved["world"]["record"])
    hold_s = float(ports["edge_timings_s"].get("overload_hold", 0.0))
    started = saved["story"]["started_at"]
    episodes = [_episode(row, hold_s) for row in record.episodes]
    shedding = [row for row in episodes if row["hold_s"] is not None]
    return {
        **summary(record),
        **_adjusted_cost(state, record, started),
        "started_at": utc_text(started) if started is not None else None,
        "until": utc_text(saved["world"]["instant"]),
        "episodes": episodes,
        "hold_s": shedding[0]["hold_s"] if shedding else None,
        "relief_after_hold_s": shedding[0]["relief_after_hold_s"] if shedding else None,
        "shed": [
            {
                "substation": row.substation,
                "unit": row.unit,
                "class": row.priority_class,
                "kw": row.shed_kw,
                "restored": row.restored,
            }
            for row in record.shed
        ],
        "tracking_pct": _tracking(state / "truth.csv"),
        "files": {
            name: str(state / name) for name in ("truth.csv", "events.jsonl", "witness.jsonl", "clock.json", "ports.json")
        },
    }


def _episode(row: Episode, hold_s: float) -> dict[str, Any]:
    """Durations of one overload in wall seconds; the hold in seconds of the site's clock, by which it is counted.

    The clock has just slowed down to 1 when the overload begins, and on a busy machine not at once.
    """

    def since(later: list[float] | None, earlier: list[float], place: int = 1) -> float | None:
        return round(later[place] - earlier[place], 3) if later else None

    relief = since(row.relief_at, row.over_at)
    return {
        "substation": row.substation,
        "over_at": utc_text(row.over_at[0]),
        "worst_loading_pct": round(row.worst_loading_pct, 2),
        "hold_s": since(row.first_open_at, row.over_at, 0),
        "hold_wall_s": since(row.first_open_at, row.over_at),
        "relief_s": relief,
        "relief_after_first_open_s": since(row.relief_at, row.first_open_at) if row.first_open_at else None,
        "relief_after_hold_s": round(relief - hold_s, 3) if relief is not None else None,
        "all_closed_s": since(row.all_closed_at, row.over_at),
    }


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            return [row for row in csv.DictReader(handle) if None not in row.values()]
    except OSError as error:
        raise SimulatorError(f"{path}: cannot be read: {error.strerror}") from error


def _adjusted_cost(state: Path, record: RunRecord, started: float | None) -> dict[str, Any]:
    """Cost with the change of the batteries' content valued at the mean published price: an emptied battery is no gain."""
    rows = _rows(state / "truth.csv")
    columns = [name for name in (rows[0] if rows else {}) if name.endswith("_soc_pct")]
    first = next((row for row in rows if started is None or float(row["sim_unix_s"]) >= started), None)
    ports = json.loads((state / "ports.json").read_text(encoding="utf-8"))
    price = float(ports["mean_price_eur_per_mwh"])
    change_pct = {name: float(rows[-1][name]) - float(first[name]) for name in columns} if first else {}
    capacity = ports["battery_wh"]
    change_wh = sum(change / 100 * capacity[name.removesuffix("_soc_pct")] for name, change in change_pct.items())
    return {
        "mean_price_eur_per_mwh": round(price, 3),
        "storage_change_kwh": round(change_wh / 1e3, 3),
        "cost_eur_storage_adjusted": {
            "with": round(record.cost_eur[0] - change_wh * price / 1e6, 4),
            "without": round(record.cost_eur[1], 4),
        },
    }


def _tracking(path: Path) -> dict[str, float]:
    """By battery: share of ticks at which its power was within 5 % of the largest setpoint ever, of the setpoint."""
    rows = _rows(path)
    result: dict[str, float] = {}
    for column in [name for name in (rows[0] if rows else {}) if name.endswith("_target_w")]:
        device = column.removesuffix("_target_w")
        targets = [float(row[column]) for row in rows]
        powers = [float(row[f"{device}_w"]) for row in rows]
        asked = [(target, power) for target, power in zip(targets, powers, strict=True) if target]
        band = 0.05 * max((abs(target) for target in targets), default=0.0)
        if asked:
            result[device.replace(".", "/")] = round(100 * sum(abs(a - b) <= band for a, b in asked) / len(asked), 2)
    return result
