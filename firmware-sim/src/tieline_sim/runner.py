"""The only composition root: puts clock, world, servers and logs together and runs the tick."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import fmean
from typing import Any, Final, Protocol

from tieline_sim.clock import SimClock, utc_text
from tieline_sim.control import ControlServer
from tieline_sim.devices.mqtt_meter import MeterRow
from tieline_sim.errors import SimulatorError
from tieline_sim.files import replace_file
from tieline_sim.links import Link, LinkMode
from tieline_sim.network import load_base
from tieline_sim.ports import lasting_port
from tieline_sim.scenario import Scenario
from tieline_sim.servers.field_mqtt import FieldMeters, serials
from tieline_sim.servers.modbus import ModbusEndpoint, SunSpecUnit, contactor_units
from tieline_sim.servers.opcua import TransformerBay
from tieline_sim.status import status
from tieline_sim.story import Story
from tieline_sim.truth import EventLog, TruthLog
from tieline_sim.witness import Witness
from tieline_sim.world import World

_log = logging.getLogger(__name__)
_STATE_FILE: Final = "world.json"

Address = tuple[str, int]


class Server(Protocol):
    """Something that listens."""

    async def open(self) -> None:
        """Listen."""
        ...

    async def close(self) -> None:
        """Stop listening."""
        ...


class Simulator:
    """A running field.

    Args:
        scenario: The story.
        folder: State folder; a run found there is continued.
        brokers: Field broker by substation.
        targets: What stands behind each link.
        cache: Folder for converted SimBench data, None for the usual one.
    """

    def __init__(
        self,
        scenario: Scenario,
        folder: Path,
        brokers: Mapping[str, Address],
        targets: Mapping[str, Address],
        cache: Path | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.scenario, self._folder = scenario, folder
        base = load_base(scenario.network.simbench_code, cache)
        # The clock starts when the world is built: nothing of the story is spent on loading.
        self.clock = SimClock(folder / "clock.json", scenario.epoch_unix_s)
        self._event = EventLog(folder / "events.jsonl", self.clock.now, self.clock.wall)
        self.world = World(base, scenario, self.clock.now, self.clock.wall, self._event)
        self.story = Story(scenario, self.clock, self.world.faults, self._event)
        self.witness = Witness(folder / "witness.jsonl")
        known, taken = self._known_ports(), set(self._known_ports().values())
        ports = defaultdict(lambda: lasting_port(taken), known)
        self._endpoints = self._build_endpoints(ports)
        self._bays = {
            name: TransformerBay(station, ports[f"{name}/opcua"], self.witness, self.clock.now)
            for name, station in self.world.substations.items()
        }
        self._links = {name: Link(name, ports[f"link/{name}"], targets.get(name)) for name in scenario.links}
        self._control = ControlServer(ports["control"], self._handle)
        self._meters = self._build_meters(brokers)
        self._brokers = dict(brokers)
        self._stopping = asyncio.Event()
        self._hushed = False
        self._applying = asyncio.Lock()  # a tick and a command may both bring the servers into their state
        self._tick_ms: list[float] = []
        self._resume()
        self._truth = TruthLog(folder / "truth.csv", self.world)

    def _known_ports(self) -> dict[str, int]:
        """Ports of an earlier life, by name."""
        try:
            described = json.loads((self._folder / "ports.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {str(name): int(port) for name, port in described["by_name"].items()}

    def _build_endpoints(self, ports: Mapping[str, int]) -> dict[str, ModbusEndpoint]:
        """One endpoint for each SunSpec device, one for all contactors of a substation."""
        endpoints = {}
        for name, station in self.world.substations.items():

            def answered(device: str, values: dict[str, float], name: str = name) -> None:
                self.witness.log(self.clock.now(), name, device, "response", values)

            def written(device: str, values: dict[str, float], name: str = name) -> None:
                self._event("write", {"substation": name, "device": device, "values": values})
                self._save()  # before the answer: what was accepted survives a kill

            for device, sunspec in station.sunspec_devices().items():
                key = f"{name}/{device}"
                endpoints[key] = ModbusEndpoint(ports[key], {1: (device, SunSpecUnit(sunspec))}, answered, written)
            key = f"{name}/loads"
            endpoints[key] = ModbusEndpoint(ports[key], contactor_units(station.contactors), answered, written)
        return endpoints

    def _build_meters(self, brokers: Mapping[str, Address]) -> dict[str, FieldMeters]:
        meters = {}
        for number, (name, station) in enumerate(self.world.substations.items()):
            labels = serials(station, number)
            newest = {
                label: self.witness.newest_message[name, f"m{place + 1:02d}"]
                for place, label in enumerate(labels)
                if (name, f"m{place + 1:02d}") in self.witness.newest_message
            }
            row = MeterRow(labels, self.scenario.epoch_unix_s, self.scenario.meter_period_s, newest)
            meters[name] = FieldMeters(station, row, brokers.get(name), self.witness, self.clock.now)
        return meters

    def _resume(self) -> None:
        path = self._folder / _STATE_FILE
        if not path.exists():
            return
        state = json.loads(path.read_text(encoding="utf-8"))
        self.world.load_state(state["world"])
        self.story.load_state(state["story"])
        self._event("resume", {"from": utc_text(state["world"]["instant"])})

    def _save(self) -> None:
        state = {"world": self.world.to_state(), "story": self.story.to_state()}
        replace_file(self._folder / _STATE_FILE, json.dumps(state))

    def describe(self) -> dict[str, Any]:
        """Every endpoint, as written to ports.json."""
        stations: dict[str, Any] = {}
        by_name = {f"link/{name}": link.port for name, link in self._links.items()} | {"control": self._control.port}
        for number, (name, station) in enumerate(self.world.substations.items()):
            broker = self._brokers.get(name)
            by_name[f"{name}/opcua"] = self._bays[name].port
            by_name |= {key: row.port for key, row in self._endpoints.items() if key.startswith(f"{name}/")}
            stations[name] = {
                "opcua": {"url": self._bays[name].url, "host": "127.0.0.1", "port": self._bays[name].port},
                "sunspec": {
                    device: {"host": "127.0.0.1", "port": self._endpoints[f"{name}/{device}"].port, "unit": 1}
                    for device in station.sunspec_devices()
                },
                "loads": {
                    "host": "127.0.0.1",
                    "port": self._endpoints[f"{name}/loads"].port,
                    "units": {
                        f"load{unit:02d}": {
                            "unit": unit, "class": row.spec.priority_class, "rated_w": round(row.rated_w, 1),
                            "off_timer": row.has_off_timer,
                        }
                        for unit, row in station.contactors.items()
                    },
                },
                "meters": {f"m{place + 1:02d}": label for place, label in enumerate(serials(station, number))},
                "field_broker": {"host": broker[0], "port": broker[1]} if broker else None,
                "rating_va": station.spec.transformer.rating_kva * 1e3,
            }  # fmt: skip
        return {
            "version": 1,
            "pid": os.getpid(),
            "substations": stations,
            "links": {
                name: {"host": "127.0.0.1", "port": link.port, "target": link.target} for name, link in self._links.items()
            },
            "control": {"host": "127.0.0.1", "port": self._control.port},
            "clock": str((self._folder / "clock.json").resolve()),
            "edge_timings_s": self.scenario.edge_timings_s,
            "mean_price_eur_per_mwh": fmean(price for day in self.scenario.prices.days for price in day),
            "battery_wh": {
                f"{name}.{device}": face.battery.capacity_wh
                for name, station in self.world.substations.items()
                for device, face in station.batteries.items()
            },
            "by_name": by_name,
        }

    async def run(self, ready: Any) -> None:
        """Open everything, tell ``ready`` the description, and tick until stopped."""
        self.world.tick(round(self.clock.now(), 3))  # nobody may read a device before it has measured anything
        async with AsyncExitStack() as stack:
            servers: list[Server] = [*self._endpoints.values(), *self._bays.values(), *self._links.values(), self._control]
            for closable in servers:
                await closable.open()
                stack.push_async_callback(closable.close)
            for meters in self._meters.values():
                meters.start()
                stack.callback(meters.stop)
            await self._tick()
            described = self.describe()
            replace_file(self._folder / "ports.json", json.dumps(described, indent=1), durable=True)
            ready(described)
            await self._loop()
            self._save()

    async def _loop(self) -> None:
        beat = time.monotonic()
        while not self._stopping.is_set():
            beat = max(beat + self.scenario.clock.tick_s, time.monotonic())
            try:
                async with asyncio.timeout(beat - time.monotonic()):
                    await self._stopping.wait()
            except TimeoutError:
                begin = time.process_time()
                await self._tick()
                self._tick_ms = [*self._tick_ms[-199:], (time.process_time() - begin) * 1e3]

    async def _tick(self) -> None:
        instant = round(self.clock.now(), 3)
        previous = instant if self.world.instant is None else self.world.instant
        self.story.tick(instant)
        await self._apply_faults()
        self.world.tick(instant)
        for name, bay in self._bays.items():
            dead = {params["node"] for _, params in self.world.faults.of_kind("sensor_bad") if params["substation"] == name}
            await bay.publish(instant, dead)
        # A hushed meter makes nothing new; what waits for its receipt is still repeated.
        if not self._hushed:
            for meters in self._meters.values():
                meters.make(previous, instant)
        self._truth.append(instant, self.clock.wall(), self.clock.speed())
        # Saved before anything leaves: a life after a kill repeats what was said, it never makes it anew with other values.
        self._save()
        for meters in self._meters.values():
            meters.transmit()

    async def _apply_faults(self) -> None:
        """Bring servers and links into the state the active faults ask for."""
        async with self._applying:
            await self._switch_servers()

    async def _switch_servers(self) -> None:
        faults = self.world.faults
        dead = {f"{params['substation']}/{params['device']}" for _, params in faults.of_kind("device_dead")}
        for key, endpoint in self._endpoints.items():
            await (endpoint.close() if key in dead or self._hushed else endpoint.open())
        for name, bay in self._bays.items():
            await (bay.close() if f"{name}/tr1" in dead or self._hushed else bay.open())
        cut = {link for _, params in faults.of_kind("link_cut") for link in params["links"]}
        hanging = {link for _, params in faults.of_kind("link_half_open") for link in params["links"]}
        for name, link in self._links.items():
            mode = LinkMode.CUT if name in cut else LinkMode.HALF_OPEN if name in hanging else LinkMode.UP
            await link.set_mode(mode)

    def stop(self) -> None:
        """End the run after the current tick."""
        self._stopping.set()

    async def _handle(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer the control socket."""
        command = request.get("command")
        if command == "status":
            return self._status()
        if command == "start":
            self.story.start()
        elif command == "speed":
            self.clock.change_speed(float(request["speed"]))
            self._event("speed", {"speed": float(request["speed"])})
        elif command == "fault":
            self.story.set_fault(str(request["name"]), bool(request.get("active", True)), "ctl")
            await self._apply_faults()
        elif command == "link":
            name = str(request["name"])
            if name not in self._links:
                raise SimulatorError(f"no link {name!r}; known are {', '.join(self._links) or 'none'}")
            self._links[name].target = str(request["host"]), int(request["port"])
        elif command == "hush":
            self._hushed = bool(request.get("active", True))
            await self._apply_faults()
            self._event("hush", {"active": self._hushed})
        elif command == "stop":
            self.stop()
        else:
            raise SimulatorError(f"no command {command!r}; known are status, start, speed, fault, link, hush, stop")
        self._save()
        return {"ok": True, "sim": utc_text(self.clock.now())}

    def _status(self) -> dict[str, Any]:
        answer = status(self.world, self.story, self.clock)
        ticks = sorted(self._tick_ms) or [0.0]
        return answer | {
            "tick_ms": {"median": round(ticks[len(ticks) // 2], 2), "p99": round(ticks[int(len(ticks) * 0.99) - 1], 2)},
            "links": {name: link.mode.value for name, link in self._links.items()},
            "meters_outstanding": {name: row.outstanding for name, row in self._meters.items()},
        }
