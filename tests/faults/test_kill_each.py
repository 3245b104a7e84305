"""Broker, edge, hub and simulator are each killed at a random point of a running loop and started again.

Everything is real: processes, brokers, sockets, SIGKILL. Afterwards the simulator, which shares no code with the product,
compares its log with the hub's export: nothing acknowledged is lost, nothing is stored twice or invented, and no hand was
needed.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.demo.__main__ import ONE_THREAD
from deploy.demo.processes import Crew
from deploy.demo.stage import Stage, answers, get_json, tool

pytestmark = pytest.mark.e2e

DEMO = Path(__file__).parents[2] / "deploy/demo"
SEED = 20161214
VICTIMS = ("broker-hub", "edge-harbour", "hub", "broker-harbour", "sim")
#: Only with these can an answer of the field die unrecorded, in flight or before its commit; a receipt never does.
ANSWER_LOST_WITH = ("edge-harbour", "sim")
#: Simulated seconds around such a kill.
GAP_BEFORE_S, GAP_AFTER_S = 3.0, 8.0


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One substation, its edge, a hub; the clock runs at 1 and nothing is scripted."""
    folder = tmp_path_factory.mktemp("kill")
    scenario = yaml.safe_load((DEMO / "scenario.yaml").read_text(encoding="utf-8"))
    scenario["substations"] = [row for row in scenario["substations"] if row["id"] == "harbour"]
    scenario["meter_period_s"] = 5
    scenario["faults"], scenario["timeline"] = {}, []
    path = folder / "scenario.yaml"
    path.write_text(yaml.safe_dump(scenario, sort_keys=False), encoding="utf-8")
    with Crew(folder, ONE_THREAD) as crew:
        made = Stage(crew, folder, path)
        made.start_brokers()
        made.start_simulator()
        made.start_hub()
        made.start_edges()
        yield made


def sim_now(stage: Stage) -> float:
    """Simulated seconds since 1970 by the simulator's own word."""
    return float(stage.sim_status()["sim_unix_s"])


def stored(stage: Stage) -> int:
    """Last stored meter reading: any progress of it means that field, edge, broker and hub all work."""
    last = {row["point"]: row["at"] for row in get_json(f"{stage.api}/v1/readings/last?edge=harbour")}
    return hash(tuple(sorted((point, at) for point, at in last.items() if "/m0" in point)))


def flows(stage: Stage, before: int) -> bool:
    """Whether meter readings reach the hub again."""
    try:
        return stored(stage) != before
    except OSError:
        return False


def drained(stage: Stage) -> bool:
    """Whether the field is silent and nothing waits in the outbox."""
    waiting = get_json(stage.status_url("harbour"))["backlog"].values()
    return sum(stage.sim_status()["meters_outstanding"].values()) == 0 and all(row["frames"] == 0 for row in waiting)


def verdict(stage: Stage, gaps: list[tuple[float, float]]) -> dict[str, Any]:
    """The simulator's comparison of its log with the hub's export."""
    (stage.folder / "gaps.json").write_text(json.dumps(gaps), encoding="utf-8")
    out, export = stage.folder / "verify.json", stage.folder / "stored.parquet"
    span = ("--from", "2016-01-01T00:00:00Z", "--to", "2017-01-01T00:00:00Z")
    stage.cloud("export", "export", *span, "--out", str(export))
    points = ("--points", str(DEMO / "points.yaml"), "--gaps", str(stage.folder / "gaps.json"), "--json", str(out))
    command = [tool("tieline-sim"), "verify", str(stage.sim_state), "--stored", str(export), *points]
    stage.crew.run("verify", command, good=(0, 1))
    answer: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return answer


def test_nothing_acknowledged_is_lost_whoever_is_killed(stage: Stage) -> None:
    rng = random.Random(SEED)
    gaps: list[tuple[float, float]] = []
    first = stored(stage)
    stage.crew.wait_until("readings to flow", lambda: flows(stage, first), 30.0)
    for victim in VICTIMS:
        point = sim_now(stage) + rng.uniform(0.5, 3.0)
        stage.crew.wait_until(f"the point at which {victim} dies", lambda p=point: sim_now(stage) >= p, 10.0, 0.05)  # type: ignore[misc]  # a lambda with a default
        begin = sim_now(stage) - GAP_BEFORE_S
        stage.kill(victim)
        stage.revive(victim)
        stage.crew.wait_until(f"{victim} to be back", lambda v=victim: stage.ready(v), 60.0, 0.1)  # type: ignore[misc]  # a lambda with a default
        since = stored(stage)
        stage.crew.wait_until(f"readings to flow after {victim} was killed", lambda s=since: flows(stage, s), 60.0, 0.2)  # type: ignore[misc]  # a lambda with a default
        if victim in ANSWER_LOST_WITH:
            gaps.append((begin, sim_now(stage) + GAP_AFTER_S))
    stage.sim_command("hush")
    stage.crew.wait_until("the backlog to drain", lambda: drained(stage), 60.0, 0.2)
    found = verdict(stage, gaps)
    assert found["produced"] > 1000, found
    assert (found["lost"], found["duplicated"], found["fabricated"]) == (0, 0, 0), found
    assert found["unrecorded_in_flight"] < 0.05 * found["produced"], found
    assert answers(f"{stage.api}/v1/health")
