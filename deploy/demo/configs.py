"""Writes the configuration files of the story from what the simulator says it offers (``ports.json``).

They are the same YAML a substation engineer and a platform engineer would write by hand.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

SITE_NAMES = {"harbour": "Harbour", "mill": "Mill Lane", "market": "Market Square"}


@dataclass(frozen=True)
class Address:
    """A TCP address on this machine."""

    port: int
    host: str = "127.0.0.1"

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class HubAddresses:
    """Where the hub's broker and API are, directly and through the link that will be cut."""

    mqtt: Address
    http: Address
    mqtt_link: Address
    http_link: Address


def _battery(power_w: float, energy_wh: float) -> dict[str, Any]:
    return {
        "p_min_w": -power_w,
        "p_max_w": power_w,
        "energy_wh": energy_wh,
        "soc_min_pct": 10.0,
        "soc_max_pct": 95.0,
    }


def _devices(site: dict[str, Any], scenario: dict[str, Any]) -> list[dict[str, Any]]:
    sunspec = site["sunspec"]

    def endpoint(name: str) -> dict[str, Any]:
        return {key: sunspec[name][key] for key in ("host", "port", "unit")}

    batteries = {row["id"]: _battery(1000.0 * row["power_kw"], 1000.0 * row["energy_kwh"]) for row in scenario["batteries"]}
    pv = {row["id"]: {"p_min_w": -1000.0 * row["power_kw"], "p_max_w": 0.0} for row in scenario["pv"]}
    bay = {"url": site["opcua"]["url"], "insecure": True}  # on this machine, like everything of the demonstration
    devices: list[dict[str, Any]] = [
        {"id": "tr1", "catalog": "transformer-bay-opcua", "opcua": bay, "poll_s": 1.0},
        {"id": "fm1", "catalog": "sunspec-meter-203", "modbus": endpoint("fm1"), "poll_s": 5.0},
        {"id": "bat1", "catalog": "sunspec-storage-704", "modbus": endpoint("bat1"), "poll_s": 1.0, **batteries["bat1"]},
        {"id": "bat2", "catalog": "sunspec-storage-124", "modbus": endpoint("bat2"), "poll_s": 1.0, **batteries["bat2"]},
        {"id": "pv1", "catalog": "sunspec-pv-704", "modbus": endpoint("pv1"), "poll_s": 2.0, **pv["pv1"]},
        {"id": "pv2", "catalog": "sunspec-pv-123", "modbus": endpoint("pv2"), "poll_s": 2.0, **pv["pv2"]},
    ]
    loads = site["loads"]
    for name, load in loads["units"].items():
        devices.append(
            {
                "id": name,
                "catalog": "modbus-load-switch" if load["off_timer"] else "modbus-load-switch-latched",
                "modbus": {"host": loads["host"], "port": loads["port"], "unit": load["unit"]},
                "poll_s": 1.0,
                "priority_class": load["class"],
                "p_max_w": load["rated_w"],
            }
        )
    for name, serial in site["meters"].items():
        devices.append({"id": name, "catalog": "mqtt-json-meter", "mqtt": {"serial": serial}, "poll_s": 60.0})
    return devices


def edge_config(
    edge: str, ports: dict[str, Any], scenario: dict[str, Any], hub: HubAddresses, key: str, folder: Path, metrics: int
) -> dict[str, Any]:
    """The YAML tree of one edge agent."""
    site = ports["substations"][edge]
    described = next(row for row in scenario["substations"] if row["id"] == edge)
    timings = ports["edge_timings_s"]
    vital = [name for name, load in site["loads"]["units"].items() if load["class"] == 0]
    return {
        "edge_id": edge,
        "state_dir": str(folder / "edges" / edge),
        "site": {"name": SITE_NAMES.get(edge, edge), "time_zone": "Etc/GMT-1", "rated_va": site["rating_va"]},
        "hub": {
            "mqtt": {"host": hub.mqtt_link.host, "port": hub.mqtt_link.port, "insecure": True},
            "http": f"http://{hub.http_link}",
            "public_keys": [key],
        },
        "clock": {"source": "file", "path": ports["clock"], "max_speed": scenario["clock"]["quiet_speed"]},
        "field_broker": {**_host_port(site["field_broker"]), "insecure": True},
        "cycle": {"period_s": 1.0, "floor_wall_s": 0.5, "max_input_age_s": 5.0},
        # Ninety times faster than life, a device must not revert between two polls of half a second: 45 s of the clock.
        "reversion": {"refresh_s": 100.0, "timer_s": 300.0},
        "shedding": {
            "transformer": "tr1",
            "vital": vital,
            "thermal_overload": {
                "trip_pct": 100.0,
                "hold_s": timings["overload_hold"],
                "severe_pct": 150.0,
                "severe_hold_s": timings["overload_hold"],
                "target_pct": 95.0,
                "restore_pct": 90.0,
                "restore_hold_s": timings["restore_delay"],
            },
            "switching": {
                "restore_step_s": timings["restore_step"],
                "restore_spread_s": 1.0,
                "min_off_s": timings["restore_delay"],
                "min_samples": 3,
                "effect_s": 4.0,
                "restore_step_share": 0.3,
            },
        },
        "metrics": {"port": metrics},
        "devices": _devices(site, described),
    }


def _host_port(broker: Any) -> dict[str, Any]:
    if isinstance(broker, dict):
        return {"host": broker["host"], "port": broker["port"]}
    host, port = str(broker).rsplit(":", 1)
    return {"host": host, "port": int(port)}


def hub_config(ports: dict[str, Any], scenario: dict[str, Any], hub: HubAddresses, folder: Path) -> dict[str, Any]:
    """The YAML tree of the hub."""
    edges = {}
    for row in scenario["substations"]:
        edges[row["id"]] = {
            "transformer": "tr1",
            "rated_va": ports["substations"][row["id"]]["rating_va"],
            "batteries": {
                battery["id"]: {
                    "p_charge_max_w": 1000.0 * battery["power_kw"],
                    "p_discharge_max_w": 1000.0 * battery["power_kw"],
                    "energy_wh": 1000.0 * battery["energy_kwh"],
                    "soc_min_pct": 10.0,
                    "soc_max_pct": 95.0,
                }
                for battery in row["batteries"]
            },
            "pv": {plant["id"]: {"p_rated_w": 1000.0 * plant["power_kw"]} for plant in row["pv"]},
        }
    return {
        "data_dir": str(folder / "hub"),
        "signing_key": str(folder / "keys" / "hub.key"),
        "listen": {"host": hub.http.host, "port": hub.http.port},
        "mqtt": {"host": hub.mqtt.host, "port": hub.mqtt.port, "insecure": True},
        "clock": {"source": "file", "path": ports["clock"]},
        "site": {"time_zone": "Etc/GMT-1", "country": "DE"},
        "grid": {"id": "urban"},
        "planning": {"horizon_hours": 24, "replan_every_s": 3600.0},
        "workers": {"processes": 2},
        "edges": edges,
    }


def write_yaml(path: Path, tree: dict[str, Any]) -> Path:
    """Write a tree as YAML."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return path


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object."""
    tree = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(tree, dict):
        raise TypeError(f"{path}: expected an object")
    return tree
