"""The stage of the story: brokers, simulated field, hub and edges, each a command line that can be killed and started again."""

from __future__ import annotations

import json
import shutil
import socket
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from deploy.demo.configs import Address, HubAddresses, edge_config, hub_config, read_json, write_yaml
from deploy.demo.processes import Child, Crew, DemoError
from deploy.ports import free_port

_BIN = Path(sys.executable).parent


def tool(name: str) -> str:
    """Path of one of our command lines, from the environment that runs this."""
    return str(_BIN / name)


def listens(address: Address) -> bool:
    """Whether something accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex((address.host, address.port)) == 0


def get_json(url: str, seconds: float = 10.0) -> Any:
    """GET a JSON document of the hub's public API, or of a status page on loopback."""
    with urllib.request.urlopen(url, timeout=seconds) as answer:  # noqa: S310 (a loopback address made here)
        return json.load(answer)


def answers(url: str) -> bool:
    """Whether a URL answers with success."""
    try:
        get_json(url, 2.0)
    except (OSError, ValueError, urllib.error.URLError):
        return False
    return True


@dataclass
class Stage:
    """Everything that runs, by name.

    Attributes:
        crew: Owner of the processes.
        folder: Where configuration, state and logs go.
        scenario_file: The simulator's scenario.
    """

    crew: Crew
    folder: Path
    scenario_file: Path
    scenario: dict[str, Any] = field(init=False)
    children: dict[str, Child] = field(init=False, default_factory=dict)
    commands: dict[str, list[str]] = field(init=False, default_factory=dict)
    brokers: dict[str, Address] = field(init=False, default_factory=dict)
    ports: dict[str, Any] = field(init=False, default_factory=dict)
    hub_addresses: HubAddresses = field(init=False)
    status_ports: dict[str, int] = field(init=False, default_factory=dict)
    start_s: dict[str, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.scenario = yaml.safe_load(self.scenario_file.read_text(encoding="utf-8"))

    @property
    def edges(self) -> list[str]:
        """Ids of the substations, which are those of their edges."""
        return [row["id"] for row in self.scenario["substations"]]

    @property
    def api(self) -> str:
        """Base address of the hub's API and console."""
        return f"http://{self.hub_addresses.http}"

    @property
    def sim_state(self) -> Path:
        """State folder of the simulator."""
        return self.folder / "sim"

    def start(self, name: str, command: list[str]) -> Child:
        """Start and remember a command line under a name."""
        self.commands[name] = command
        self.children[name] = self.crew.start(name, command)
        return self.children[name]

    def kill(self, name: str) -> None:
        """SIGKILL, no goodbye."""
        child = self.children.pop(name)
        child.process.kill()
        child.process.wait()
        self.crew.children.remove(child)

    def revive(self, name: str) -> None:
        """Start again what was killed, by the same command line."""
        self.start(name, self.commands[name])

    def ready(self, name: str) -> bool:
        """Whether what was started under this name answers."""
        if name == "sim":
            control = self.ports["control"]
            return listens(Address(control["port"], control["host"]))
        if name == "hub":
            return answers(f"{self.api}/v1/health")
        if name.startswith("edge-"):
            return answers(self.status_url(name.removeprefix("edge-")))
        return listens(self.brokers[name.removeprefix("broker-")])

    def start_brokers(self) -> str:
        """One broker for the hub and one on each gateway; returns which program serves."""
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
        for name in ["hub", *self.edges]:
            address = Address(free_port())
            self.brokers[name] = address
            self.start(f"broker-{name}", self._broker_command(program, name, address))
        for name, address in self.brokers.items():
            self.crew.wait_until(f"the broker {name} on {address}", lambda a=address: listens(a), 15.0)  # type: ignore[misc]  # a lambda with a default
        return program or "the embedded broker"

    def _broker_command(self, program: str | None, name: str, address: Address) -> list[str]:
        if program is None:
            return [tool("tieline-sim"), "broker", "--port", str(address.port)]
        conf = self.folder / "brokers" / f"{name}.conf"
        conf.parent.mkdir(parents=True, exist_ok=True)
        # Anonymous on loopback for the demonstration only. A broker is no store: persistence stays off on purpose. It keeps
        # its user: a change of user would cut the tie by which the kernel ends it when the conductor is killed.
        conf.write_text(
            f"listener {address.port} {address.host}\nallow_anonymous true\npersistence false\nuser root\n"
            "max_inflight_messages 500\nmax_queued_messages 100000\nmax_queued_bytes 67108864\n",
            encoding="utf-8",
        )
        return [program, "-c", str(conf)]

    def start_simulator(self) -> None:
        """The simulated field, with the links to the hub running through it."""
        mqtt, http = self.brokers["hub"], Address(free_port())
        field_brokers = ",".join(f"{edge}={self.brokers[edge]}" for edge in self.edges)
        command = [tool("tieline-sim"), "run", str(self.scenario_file), "--state", str(self.sim_state)]
        command += ["--brokers", field_brokers, "--link", f"hub-mqtt={mqtt}", "--link", f"hub-http={http}"]
        self.start("sim", command)
        self.crew.wait_until("the simulated field", self._simulator_ready, 90.0)
        self.ports = read_json(self.sim_state / "ports.json")
        links = {name: Address(row["port"], row["host"]) for name, row in self.ports["links"].items()}
        self.hub_addresses = HubAddresses(mqtt, http, links["hub-mqtt"], links["hub-http"])

    def _simulator_ready(self) -> bool:
        log = self.children["sim"].log
        return '"ready": true' in log.read_text(encoding="utf-8", errors="replace")

    def start_hub(self) -> None:
        """Keys, configuration, hub."""
        keys = self.folder / "keys"
        if not (keys / "hub.key").exists():
            self.crew.run("keygen", [tool("tieline-cloud"), "keygen", str(keys)])
        config = write_yaml(self.folder / "hub.yaml", hub_config(self.ports, self.scenario, self.hub_addresses, self.folder))
        begin = time.monotonic()
        self.start("hub", [tool("tieline-cloud"), "serve", str(config)])
        self.crew.wait_until("the hub's API", lambda: answers(f"{self.api}/v1/health"), 60.0)
        self.start_s["hub"] = time.monotonic() - begin

    def edge_config_file(self, edge: str) -> Path:
        """Where an edge's YAML lies."""
        return self.folder / f"edge-{edge}.yaml"

    def start_edges(self) -> None:
        """The edge agents one after the other; each is ready when its status page answers."""
        key = (self.folder / "keys" / "hub.pub").read_text(encoding="ascii").strip()
        for edge in self.edges:
            self.status_ports.setdefault(edge, free_port())
            tree = edge_config(edge, self.ports, self.scenario, self.hub_addresses, key, self.folder, self.status_ports[edge])
            write_yaml(self.edge_config_file(edge), tree)
        files = [str(self.edge_config_file(edge)) for edge in self.edges]
        self.crew.run("check-config", [tool("tieline-edge"), "check-config", *files])
        for edge in self.edges:
            begin = time.monotonic()
            self.start(f"edge-{edge}", [tool("tieline-edge"), "run", str(self.edge_config_file(edge))])
            self.crew.wait_until(f"edge {edge}", lambda e=edge: answers(self.status_url(e)), 30.0, 0.02)  # type: ignore[misc]  # a lambda with a default
            self.start_s[f"edge-{edge}"] = time.monotonic() - begin

    def status_url(self, edge: str) -> str:
        """Status page of an edge on loopback."""
        return f"http://127.0.0.1:{self.status_ports[edge]}/status"

    def sim_status(self) -> dict[str, Any]:
        """What the simulator says of itself."""
        return self.sim_command("status")

    def sim_command(self, *words: str) -> dict[str, Any]:
        """One `tieline-sim ctl` command."""
        text = self.crew.run("sim-ctl", [tool("tieline-sim"), "ctl", str(self.sim_state), *words], 90.0)
        answer = json.loads(text)
        if not isinstance(answer, dict):
            raise DemoError(f"tieline-sim ctl {' '.join(words)} answered {text!r}")
        return answer

    def cloud(self, name: str, *words: str, seconds: float = 180.0) -> str:
        """One `tieline-cloud` command against the running hub."""
        return self.crew.run(name, [tool("tieline-cloud"), *words, "--url", self.api], seconds)
