"""Everything that runs in the benchmark: brokers, hub, real edges as command lines, generator and field beside them."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import socket
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import yaml

from deploy.demo.processes import Child, Crew
from deploy.ports import free_port
from tests.bench.ingest_load import field, generator

_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def listens(port: int) -> bool:
    """Whether something answers on a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def tool(name: str) -> str:
    """A command of this environment."""
    return str(Path(sys.executable).parent / name)


def broker_program() -> str:
    """The real broker; raises FileNotFoundError where it is not installed."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if found is None:
        raise FileNotFoundError("mosquitto is not installed; this benchmark needs the real broker")
    return found


class Remote:
    """A process of ours that is spoken to over a pipe."""

    def __init__(self, body: Callable[[Any, Connection], None], what: object) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, there = context.Pipe()
        self.process = context.Process(target=body, args=(what, there), daemon=True)
        self.process.start()
        there.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process.pid is not None
        return self.process.pid

    def ask(self, word: object) -> dict[str, Any]:
        """Say something and wait for the answer."""
        self._pipe.send(word)
        answer: dict[str, Any] = self._pipe.recv()
        return answer

    def stop(self, word: object) -> None:
        """Let it end."""
        if self.process.is_alive():
            self._pipe.send(word)
            self.process.join(10)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


@dataclass(frozen=True, slots=True)
class Size:
    """How large the benchmark is."""

    virtual_edges: int = 97
    real_edges: int = 3
    meters: int = 1000
    real_messages_per_s: float = 50.0
    real_meters: int = 100
    period_s: float = 0.97
    seed: int = 20260115
    meters_file: Path | None = None


class Stage:
    """Use :func:`set_up`."""

    def __init__(self, crew: Crew, folder: Path, size: Size, hub_extra: dict[str, Any]) -> None:
        self.crew, self.folder, self.size = crew, folder, size
        folder.mkdir(parents=True, exist_ok=True)
        self.hub_broker, self.field_broker, self.http = free_port(), free_port(), free_port()
        self.real = tuple(f"real-{number}" for number in range(size.real_edges))
        self.real_status = {edge: free_port() for edge in self.real}
        self.children: dict[str, Child] = {}
        self._broker("broker", self.hub_broker)
        self._broker("field broker", self.field_broker)
        self.key = self._key()
        self._start_hub(hub_extra)
        self.generator = Remote(
            generator.run,
            generator.Load(self.hub_broker, size.virtual_edges, size.meters, size.period_s, size.seed, size.meters_file),
        )
        self.field = Remote(
            field.run, field.Field(self.field_broker, self.real, size.real_meters, size.real_messages_per_s, size.seed)
        )
        for edge in self.real:
            self._start_edge(edge)

    def pids(self) -> dict[str, int]:
        """Process ids by part."""
        return {
            **{name: child.process.pid for name, child in self.children.items()},
            "generator": self.generator.pid,
            "field": self.field.pid,
        }

    def _start(self, name: str, command: list[str]) -> None:
        self.children[name] = self.crew.start(name.replace(" ", "-"), command)

    def _broker(self, name: str, port: int) -> None:
        conf = self.folder / f"mosquitto-{port}.conf"
        conf.write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
            "max_inflight_messages 2000\nmax_queued_messages 200000\nset_tcp_nodelay true\n",
            encoding="utf-8",
        )
        self._start(name, [broker_program(), "-c", str(conf)])
        self.crew.wait_until(f"the {name} to listen", lambda: listens(port), 10)

    def _key(self) -> str:
        return self.crew.run("keygen", [tool("tieline-cloud"), "keygen", str(self.folder / "keys")]).strip().split()[-1]

    def _yaml(self, name: str, tree: dict[str, Any]) -> str:
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(tree), encoding="utf-8")
        return str(path)

    def _start_hub(self, extra: dict[str, Any]) -> None:
        tree = {
            "data_dir": str(self.folder / "hub"),
            "signing_key": str(self.folder / "keys/hub.key"),
            "listen": {"host": "127.0.0.1", "port": self.http},
            "mqtt": {"host": "127.0.0.1", "port": self.hub_broker, "insecure": True},
            "planning": {"enabled": False},
            **extra,
        }
        self._start("hub", [tool("tieline-cloud"), "serve", self._yaml("hub", tree)])
        self.crew.wait_until("the hub to listen", lambda: listens(self.http), 60)

    def _start_edge(self, edge: str) -> None:
        mqtt = {"host": "127.0.0.1", "insecure": True}
        tree = {
            "edge_id": edge,
            "state_dir": str(self.folder / edge),
            "site": {"name": edge, "rated_va": 630_000},
            "hub": {"mqtt": {**mqtt, "port": self.hub_broker}, "http": f"http://127.0.0.1:{self.http}"},
            "field_broker": {**mqtt, "port": self.field_broker},
            "forecast": {"enabled": False},
            "metrics": {"port": self.real_status[edge]},
            "devices": [
                {"id": f"m{n:04d}", "catalog": "mqtt-json-meter", "mqtt": {"serial": field.serial(edge, n)}}
                for n in range(self.size.real_meters)
            ],
        }
        self._start(edge, [tool("tieline-edge"), "run", self._yaml(edge, tree)])

    # Questions

    def get(self, path: str) -> Any:
        """JSON from the hub's API."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=30) as answer:
            return json.loads(answer.read())

    def real_waiting(self) -> int:
        """Frames the real edges hold that the hub has not committed."""
        waiting = 0
        for port in self.real_status.values():
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=30) as answer:
                waiting += sum(stream["frames"] for stream in json.loads(answer.read())["backlog"].values())
        return waiting

    def metrics(self) -> dict[str, float]:
        """The hub's metrics, by name with labels as they are written."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def close(self) -> None:
        """End what is not a command line."""
        self.generator.stop(("stop",))
        self.field.stop("stop")


@contextmanager
def set_up(folder: Path, size: Size, hub_extra: dict[str, Any]) -> Iterator[Stage]:
    """A running stage; everything ends with the context."""
    with Crew(folder, _ONE_THREAD) as crew:
        stage = Stage(crew, folder, size, hub_extra)
        try:
            yield stage
        finally:
            stage.close()
