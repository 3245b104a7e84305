"""The evening, step by step, with a line of progress for everything that happens."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from deploy.demo.processes import DemoError
from deploy.demo.stage import Stage, get_json, tool

#: Every register write is in the simulator's event log; telling them would drown the story.
UNTOLD = ("write", "speed", "hush")
LADDER = ("current plan", "last plan", "local schedule", "device default")


@dataclass
class Telling:
    """What the story has gathered so far, for the report."""

    began: float = field(default_factory=time.monotonic)
    ladder: list[dict[str, Any]] = field(default_factory=list)
    backlog: list[dict[str, Any]] = field(default_factory=list)
    plans: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    memory_mb: dict[str, float] = field(default_factory=dict)
    cycle_p99_ms: dict[str, float] = field(default_factory=dict)
    broker: str = ""

    def say(self, text: str) -> None:
        """One line of progress with the seconds since the start."""
        print(f"[{time.monotonic() - self.began:6.1f} s] {text}", flush=True)


def set_the_stage(stage: Stage, telling: Telling) -> None:
    """Brokers, field, hub, edges; what the utility knows is written meanwhile."""
    telling.broker = stage.start_brokers()
    telling.say(f"{len(stage.brokers)} MQTT brokers are up ({telling.broker}): one at the hub, one on each gateway")
    history = [tool("tieline-sim"), "history", str(stage.scenario_file), "--out", str(stage.folder / "history")]
    writer = stage.crew.start("history", [*history, "--days", "340"], may_end=True)
    stage.start_simulator()
    substations = ", ".join(stage.edges)
    telling.say(f"the simulated field is up: SimBench 1-MV-urban, substations {substations}, solved by AC power flow")
    stage.start_hub()
    telling.say(f"the hub is up, console at {stage.api}/")
    stage.start_edges()
    slowest = max(stage.start_s[f"edge-{edge}"] for edge in stage.edges)
    telling.say(f"{len(stage.edges)} edge agents are up, the slowest was ready in {slowest:.1f} s")
    stage.crew.finish(writer)


def teach(stage: Stage, telling: Telling) -> None:
    """Import what the utility knows, train, gate and push the models, make and push the first plan."""
    history = stage.folder / "history"
    stage.cloud("network", "network", str(history / "network.json"))
    stage.cloud("prices", "prices", str(history / "prices.csv"))
    stage.cloud("import", "import", str(history / "measurements.parquet"))
    telling.say("the hub holds the published network, day-ahead prices and eleven months of quarter-hours")
    stage.cloud("train", "train")
    for model in get_json(f"{stage.api}/v1/models"):
        metrics = model["manifest"]["metrics"]
        telling.say(
            f"model for {model['point']}: MAPE {metrics['mape']:.1f} % over 28 days, "
            f"weekly naive {metrics['naive_mape']:.1f} %, "
            f"90 % band covers {100 * metrics['coverage_90']:.0f} %, ONNX parity {metrics['onnx_parity']:.0e}"
        )
    stage.cloud("plan", "plan")
    stage.crew.wait_until("every edge on the plan", lambda: _all_on_plan(stage), 60.0, 0.3)
    telling.say("models and plans are signed, pulled, verified and running on every edge")


def _edges(stage: Stage) -> list[dict[str, Any]]:
    answer = get_json(f"{stage.api}/v1/edges")
    return [row for row in answer if row["edge_id"] in stage.edges]


def _all_on_plan(stage: Stage) -> bool:
    rows = _edges(stage)
    confirmed = [row for row in rows if row["ladder"] == "current_plan" and row["desired_confirmed"]]
    return len(confirmed) == len(stage.edges)


class Watcher:
    """Follows the evening: the field's own event log, the edges' status pages, the hub's plans."""

    def __init__(self, stage: Stage, telling: Telling) -> None:
        self._stage = stage
        self._telling = telling
        self._events = stage.sim_state / "events.jsonl"
        self._read = self._events.stat().st_size if self._events.exists() else 0
        self._steps: dict[str, int] = {}
        self._next_line = 0.0

    def look(self) -> dict[str, Any]:
        """Look once; returns the simulator's status."""
        self._stage.crew.check()
        self._tell_events()
        for edge in self._stage.edges:
            self._look_at(edge)
        status = self._stage.sim_status()
        if time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + 10.0
            self._tell_state(status)
        return status

    def _tell_events(self) -> None:
        if not self._events.exists():
            return
        with self._events.open("rb") as log:
            log.seek(self._read)
            data = log.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            event = json.loads(line)
            if event["event"] in UNTOLD:
                continue
            details = {key: value for key, value in event.items() if key not in ("sim", "sim_unix_s", "wall_unix_s", "event")}
            words = ", ".join(f"{key} {value}" for key, value in details.items() if value is not None)
            self._telling.say(f"  {event['sim'][11:19]}  {event['event'].replace('_', ' ')}: {words}")

    def _look_at(self, edge: str) -> None:
        try:
            status = get_json(self._stage.status_url(edge), 3.0)
        except OSError:
            return
        step = int(status["ladder"]["step"])
        if self._steps.get(edge) != step:
            self._steps[edge] = step
            row = {"edge": edge, "at": status["at"], "step": LADDER[step], "reason": status["ladder"]["reason"]}
            self._telling.ladder.append(row)
            self._telling.say(f"  {row['at'][11:19]}  {edge} runs on: {row['step']} ({row['reason']})")
        waiting = sum(stream["frames"] for stream in status["backlog"].values())
        self._telling.backlog.append({"edge": edge, "at": status["at"], "frames": waiting})

    def _tell_state(self, status: dict[str, Any]) -> None:
        loads = ", ".join(
            f"{name} {row['loading_pct']:.0f} % (without {row['loading_without_pct']:.0f} %)"
            for name, row in status["substations"].items()
        )
        self._telling.say(f"{status['sim'][11:19]}  x{status['speed']:g}  {loads}")


def play(stage: Stage, telling: Telling) -> None:
    """Let the evening run to the end of its last scene."""
    watcher = Watcher(stage, telling)
    stage.sim_command("start")
    quiet = stage.scenario["clock"]["quiet_speed"]
    telling.say(f"the evening begins, {quiet:g} times faster than life; at normal speed from 30 s before the link is cut")
    deadline = time.monotonic() + 600.0
    while not watcher.look()["finished"]:
        if time.monotonic() > deadline:
            raise DemoError("the evening did not come to its end within 10 minutes")
        time.sleep(0.5)
    telling.say("everything is restored and the link is back")


def drain(stage: Stage, telling: Telling) -> None:
    """Hush the field and wait until every outbox is empty: from then on what was said and what is stored must agree."""
    for edge in stage.edges:
        status = get_json(stage.status_url(edge))
        telling.memory_mb[edge] = pss_mb(stage.children[f"edge-{edge}"].process.pid)
        telling.cycle_p99_ms[edge] = float(status["cycle"]["p99_ms"])
        plans = get_json(f"{stage.api}/v1/plans?edge={edge}&limit=50")
        telling.plans[edge] = [get_json(f"{stage.api}/v1/plans/{row['plan_id']}") for row in plans]
    (stage.folder / "plans.json").write_text(json.dumps(telling.plans), encoding="utf-8")
    stage.sim_command("hush")
    seconds = stage.crew.wait_until(
        "every backlog to drain", lambda: all(_drained(stage, edge) for edge in stage.edges), 90.0, 0.3
    )
    telling.say(f"the field is silent and every backlog is drained ({seconds:.1f} s)")


def _drained(stage: Stage, edge: str) -> bool:
    status = get_json(stage.status_url(edge))
    return all(stream["frames"] == 0 for stream in status["backlog"].values())


def pss_mb(pid: int) -> float:
    """Proportional set size of a process and its children [MB]; Linux only, 0 elsewhere."""
    total = 0.0
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                total += float(line.split()[1]) / 1024
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return total
    return total + sum(pss_mb(int(child)) for child in children)


def verify(stage: Stage, points: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Let the simulator compare the hub's export with its own log; returns its verdict and its report."""
    export = stage.folder / "stored.parquet"
    epoch = _iso(stage.scenario["clock"]["epoch"])
    status = stage.sim_status()
    stage.cloud("export", "export", "--from", epoch, "--to", status["sim"], "--out", str(export))
    command = [tool("tieline-sim"), "verify", str(stage.sim_state), "--stored", str(export), "--points", str(points)]
    out = stage.folder / "verify.json"
    stage.crew.run("verify", [*command, "--json", str(out)], good=(0, 1))  # 1 = a promise is broken; the report says which
    report = json.loads(stage.crew.run("sim-report", [tool("tieline-sim"), "report", str(stage.sim_state)]))
    return json.loads(out.read_text(encoding="utf-8")), report


def _iso(instant: object) -> str:
    return instant.isoformat() if isinstance(instant, datetime) else str(instant)


def fresh_folder(folder: Path) -> Path:
    """An empty folder; what an earlier evening left there is removed."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def scenes() -> tuple[Callable[[Stage, Telling], None], ...]:
    """The scenes in order."""
    return (set_the_stage, teach, play, drain)
