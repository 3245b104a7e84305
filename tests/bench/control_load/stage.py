"""What runs in one part of the control benchmark: the field, one edge or the peer, each a process of its own."""

from __future__ import annotations

import json
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.demo.processes import Child, Crew
from deploy.ports import free_port
from tests.bench.control_load import sheet
from tests.bench.control_load.field import Plan
from tests.bench.ingest_load.stage import tool
from tieline_core.ids import PointId
from tieline_core.model_manifest import ModelManifest
from tieline_edge.forecasting.store import ModelStore

#: The model of the edge's own tests, for the site the benchmark calls by the same name.
MODEL: Final = Path("tests/edge/forecasting/data")
EDGE: Final = "harbour"
#: No hold, one sample, back at once: what is measured is the edge, not its patience.
AT_ONCE: Final[Mapping[str, Any]] = {
    "trip_pct": 100.0,
    "hold_s": 1e-6,
    "severe_pct": 100.0,
    "severe_hold_s": 1e-6,
    "target_pct": 95.0,
    "restore_pct": 85.0,
    "restore_hold_s": 0.0,
}
SWITCHED_AT_ONCE: Final[Mapping[str, Any]] = {
    "restore_step_s": 0.0,
    "restore_spread_s": 0.0,
    "restore_step_share": 1.0,
    "min_off_s": 0.0,
    "min_samples": 1,
    "effect_s": 1e-6,
    "failed_s": 0.0,
    "relapse_s": 0.0,
    "cold_load_factor": 1.0,
}


def edge_tree(plan: Plan, ports: list[int], folder: Path, status_port: int) -> dict[str, Any]:
    """The edge's configuration: a hub that is not there, every device polled once a second, cycles of one second."""
    kinds = {
        sheet.TRANSFORMER: sheet.catalogue_entry(sheet.TRANSFORMER, "transformer", switch=False),
        sheet.FEEDER: sheet.catalogue_entry(sheet.FEEDER, "load", switch=True),
        sheet.METER: sheet.catalogue_entry(sheet.METER, "meter", switch=False),
    }
    files = {}
    for name, entry in kinds.items():
        files[name] = folder / f"{name}.yaml"
        files[name].write_text(yaml.safe_dump(entry, sort_keys=False), encoding="utf-8")
    devices: list[dict[str, Any]] = []
    for number, port in enumerate(ports):
        kind = sheet.TRANSFORMER if number == 0 else sheet.FEEDER if number <= plan.feeders else sheet.METER
        device: dict[str, Any] = {
            "id": f"d{number:03d}",
            "catalog": str(files[kind]),
            "modbus": {"host": "127.0.0.1", "port": port},
        }
        if kind == sheet.FEEDER:
            device |= {"priority_class": 1 + number % 4, "p_max_w": 2 * plan.feeder_w, "min_on_s": 0.0, "min_off_s": 0.0}
        devices.append(device)
    return {
        "edge_id": EDGE,
        "state_dir": str(folder / "state"),
        "site": {"name": "Harbour", "rated_va": plan.rating_va},
        "hub": {
            "mqtt": {"host": "127.0.0.1", "port": free_port(), "insecure": True},
            "http": f"http://127.0.0.1:{free_port()}",
            "public_keys": ["ab" * 32],
        },
        "shedding": {
            "transformer": "d000",
            "thermal_overload": dict(AT_ONCE),
            "switching": dict(SWITCHED_AT_ONCE),
            "storage": {"relieve": False},
        },
        "metrics": {"port": status_port},
        "devices": devices,
    }


def install_model(state: Path) -> int:
    """Put the model of the tests where the edge looks for it; returns the size of its file."""
    manifest, onnx, seed = ((MODEL / name).read_bytes() for name in ("manifest.json", "model.onnx", "seed.f32"))
    point = PointId(ModelManifest.from_bytes(manifest, "model").point)
    ModelStore(state / "models").install(point, manifest, onnx, seed, "e" * 64)
    return len(onnx)


class Part:
    """One size of the benchmark, in a folder of its own."""

    def __init__(self, crew: Crew, folder: Path, plan: Plan) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._crew, self.folder, self.plan = crew, folder, plan
        self.log = folder / "crossings.jsonl"
        config = {"plan": asdict(plan), "log": str(self.log), "ports": str(folder / "ports.json")}
        self.field = self._python("field", "tests.bench.control_load.field", config)
        crew.wait_until("the field to listen", (folder / "ports.json").exists, 30, 0.02)
        time.sleep(0.2)
        self.ports: list[int] = json.loads((folder / "ports.json").read_text(encoding="utf-8"))
        self.status_port = free_port()
        self.edge: Child | None = None
        self.model_bytes = 0

    def _python(self, name: str, module: str, config: dict[str, Any], *, may_end: bool = False) -> Child:
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        return self._crew.start(f"{self.folder.name}-{name}", [sys.executable, "-m", module, str(path)], may_end=may_end)

    def start_edge(self) -> float:
        """Start the edge; returns the seconds from the command line to the first cycle, measured outside."""
        tree = edge_tree(self.plan, self.ports, self.folder, self.status_port)
        path = self.folder / "site.yaml"
        path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
        self.model_bytes = install_model(self.folder / "state")
        began = time.monotonic()
        self.edge = self._crew.start(f"{self.folder.name}-edge", [tool("tieline-edge"), "run", str(path)])
        self._crew.wait_until("the edge to be ready", self._ready, 30, 0.02)
        return time.monotonic() - began

    def _ready(self) -> bool:
        try:
            return self.status()["ready_s"] is not None
        except (OSError, urllib.error.URLError):
            return False

    def status(self) -> dict[str, Any]:
        """The edge's own status page."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.status_port}/status", timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def run_peer(self, seconds: float) -> dict[str, Any]:
        """Let the peer poll the same devices for a while."""
        out = self.folder / "peer-report.json"
        config = {
            "ports": self.ports,
            "feeders": self.plan.feeders,
            "feeder_pct": 100.0 * self.plan.feeder_w / self.plan.rating_va,
            "seconds": seconds,
            "out": str(out),
        }
        self._crew.finish(self._python("peer", "tests.bench.control_load.peer", config, may_end=True), seconds + 120)
        report: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        return report

    def stop(self, child: Child | None) -> None:
        """End one process."""
        if child is not None:
            self._crew.stop(child)
