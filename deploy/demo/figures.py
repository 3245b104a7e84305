"""The figures of the evening: ``report.json``, each number from whoever measured it."""

from __future__ import annotations

import csv
import platform
import time
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

from deploy.demo.stage import Stage, get_json
from deploy.demo.story import Telling

_PACKAGES = (
    "tieline-core", "tieline-edge", "tieline-cloud", "tieline-sim", "numpy", "pandapower", "power-grid-model", "highspy",
    "lightgbm", "onnxruntime", "duckdb", "paho-mqtt", "pymodbus", "asyncua", "fastapi",
)  # fmt: skip
#: A setpoint counts as followed when the mean power of its quarter-hour is this close to it, as a share of the rating.
FOLLOWED_BAND = 0.05
#: Seconds of the clock that a changed setpoint may take to arrive: three cycles at the fastest clock.
SETTLE_S = 120.0


def read_truth(path: Path) -> list[dict[str, float]]:
    """The simulator's own record of the evening, a row a tick."""
    with path.open(encoding="utf-8", newline="") as table:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(table) if None not in row.values()]


def _unix(instant: str) -> float:
    return datetime.fromisoformat(instant).timestamp()


def planned_w(plans: list[dict[str, Any]], device: str, at: float) -> float | None:
    """The setpoint in force for a device at an instant: from the newest plan its edge had confirmed by then."""
    known = [row for row in plans if row["confirmed_at"] and _unix(row["confirmed_at"]) <= at]
    for row in sorted(known, key=lambda row: _unix(row["published_at"]), reverse=True):
        if not _unix(row["start"]) <= at < _unix(row["end"]):
            continue
        plan = row["plan"]
        for part in plan["devices"]:
            if part["device_id"] == device and part["mode"] == "setpoint_w":
                value: float | None = part["values_w"][int((at - _unix(plan["start"])) // plan["step_s"])]
                return value
    return None


def followed_pct(stage: Stage, telling: Telling, truth: list[dict[str, float]], until: float) -> float | None:
    """Share of planned battery quarter-hours, before the crisis, whose mean power was within 5 % of rating of the setpoint.

    A tick counts when its setpoint has stood for ``SETTLE_S``: a replan in the middle of a quarter-hour starts a new wait.
    """
    quarters: dict[tuple[str, str, float], list[float]] = {}
    ratings = {
        (site["id"], battery["id"]): 1000.0 * battery["power_kw"]
        for site in stage.scenario["substations"]
        for battery in site["batteries"]
    }
    for row in truth:
        at = row["sim_unix_s"]
        for edge, device in ratings if at < until else ():
            setpoint = planned_w(telling.plans[edge], device, at)
            if setpoint is not None and planned_w(telling.plans[edge], device, at - SETTLE_S) == setpoint:
                quarters.setdefault((edge, device, at // 900), []).append(row[f"{edge}.{device}_w"] - setpoint)
    kept = [
        abs(fmean(deviations)) <= FOLLOWED_BAND * ratings[edge, device]
        for (edge, device, _), deviations in quarters.items()
        if len(deviations) >= 3
    ]
    return 100 * sum(kept) / len(kept) if kept else None


def _forecast(stage: Stage) -> dict[str, Any]:
    by_point = {model["point"]: model["manifest"]["metrics"] for model in get_json(f"{stage.api}/v1/models")}
    averaged = ("mape", "naive_mape", "coverage_90", "evening_mape")
    return {
        **{key: fmean(row[key] for row in by_point.values()) for key in averaged},
        "onnx_parity": max(row["onnx_parity"] for row in by_point.values()),
        "by_point": by_point,
    }


def figures(
    stage: Stage,
    telling: Telling,
    verdict: dict[str, Any],
    field: dict[str, Any],
    truth: list[dict[str, float]],
    build_s: float,
) -> dict[str, Any]:
    """Everything of ``report.json``.

    Args:
        verdict: What ``tieline-sim verify`` said.
        field: What ``tieline-sim report`` said.
        truth: The simulator's record.
        build_s: Seconds the first build of the environment took; 0 when it was there.
    """
    cut = next((_unix(row["at"].isoformat()) for row in stage.scenario["timeline"] if row["fault"] == "hub-link"), float("inf"))
    worst = max(stage.edges, key=lambda edge: field["peak_loading_pct"]["by_substation"][edge]["without"])
    readings = ("produced", "stored", "lost", "duplicated", "fabricated", "unrecorded_in_flight", "checksum_equal")
    return {
        "readings": {key: verdict[key] for key in readings},
        "forecast": _forecast(stage),
        "plan": {
            "peak_loading_pct": {key: field["peak_loading_pct"][key] for key in ("without", "with")},
            "cost": {**field["cost_eur_storage_adjusted"], "unit": "EUR", "as_paid": field["cost_eur"]},
            "certificate": telling.plans[worst][0]["plan"]["certificate"] if telling.plans[worst] else None,
            "followed_pct": followed_pct(stage, telling, truth, cut),
        },
        "shedding": {
            "hold_s": field["hold_s"],
            "hold_set_s": float(stage.scenario["edge_timings_s"]["overload_hold"]),
            "relief_after_hold_s": field["relief_after_hold_s"],
            "shed_kw_by_class": field["shed_kw_by_class"],
            "vital_shed_kw": field["vital_shed_kw"],
            "restored_pct": field["restored_pct"],
            "crisis_loading_pct": field["crisis_loading_pct"],
            "episodes": field["episodes"],
        },
        "edge": {
            "pss_mb": max(telling.memory_mb.values()),
            "start_s": max(seconds for name, seconds in stage.start_s.items() if name.startswith("edge-")),
            "cycle_p99_ms": max(telling.cycle_p99_ms.values()),
        },
        "ladder": telling.ladder,
        "broker": telling.broker,
        "build_s": build_s,
        "wall_s": time.monotonic() - telling.began,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
    }


@dataclass(frozen=True)
class Promise:
    """One promise of the evening: what, the target, what was measured, and whether it was kept."""

    what: str
    target: str
    measured: str
    kept: bool


def promises(report: dict[str, Any]) -> list[Promise]:
    """Every promise; they decide the demo's exit code."""
    readings, forecast, plan, shed, edge = (report[key] for key in ("readings", "forecast", "plan", "shedding", "edge"))
    peak, hold_s, relief_s = plan["peak_loading_pct"], shed["hold_s"], shed["relief_after_hold_s"]
    # The worst point decides: an average would let one hopeless naive flatter the rest.
    ratio = max(row["mape"] / row["naive_mape"] for row in forecast["by_point"].values())
    defects = readings["lost"] + readings["duplicated"] + readings["fabricated"]
    verdict = (plan["certificate"] or {"verdict": "none"})["verdict"]
    measured_edge = f"{edge['pss_mb']:.0f} MB, {edge['start_s']:.1f} s; cycle p99 {edge['cycle_p99_ms']:.0f} ms"
    return [
        Promise("readings lost, doubled, invented", "0, 0, 0",
                "{lost}, {duplicated}, {fabricated} of {produced}".format(**readings), defects == 0),
        Promise("checksums of field and store", "equal", "equal" if readings["checksum_equal"] else "differ",
                readings["checksum_equal"]),
        Promise("forecast error, share of weekly naive's", "at most 66.7 %", f"{100 * ratio:.1f} % at the worst substation",
                ratio <= 2 / 3),
        Promise("90 % band covers", "80 to 97 %", f"{100 * forecast['coverage_90']:.0f} %",
                0.80 <= forecast["coverage_90"] <= 0.97),
        Promise("peak loading without and with plan", "5 points lower", f"{peak['without']:.1f} % and {peak['with']:.1f} %",
                peak["without"] - peak["with"] >= 5),
        Promise("plan certificate", "valid", verdict, verdict in ("clean", "relief")),
        Promise("battery setpoints followed", "at least 90 %", _pct(plan["followed_pct"]), (plan["followed_pct"] or 0) >= 90),
        Promise("no shed before the hold", f"at least {shed['hold_set_s']:g} s", _s(hold_s),
                hold_s is not None and hold_s >= shed["hold_set_s"]),
        Promise("relief after the hold", "at most 3 s", _s(relief_s), relief_s is not None and relief_s <= 3),
        Promise("vital load shed", "0 kW", f"{shed['vital_shed_kw']:.1f} kW", shed["vital_shed_kw"] == 0),
        Promise("load restored", "at least 99 %", _pct(shed["restored_pct"]), (shed["restored_pct"] or 0) >= 99),
        Promise("edge memory and start", "160 MB, 3 s", measured_edge, edge["pss_mb"] < 160 and edge["start_s"] <= 3),
    ]  # fmt: skip


def _pct(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1f} %"


def _s(value: float | None) -> str:
    return "not seen" if value is None else f"{value:.1f} s"
