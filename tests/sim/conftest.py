"""Fixtures of the simulator's tests: the demo's scenario, SimBench data, a world, a clock that stands still until moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tieline_sim.network import BaseNetwork, load_base
from tieline_sim.scenario import Scenario, load_scenario
from tieline_sim.world import World

SCENARIO_PATH = Path(__file__).parents[2] / "deploy" / "demo" / "scenario.yaml"
POINTS_PATH = SCENARIO_PATH.with_name("points.yaml")


@dataclass
class Instant:
    """Simulated time under the test's control; also notes the events it is handed."""

    seconds: float
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __call__(self) -> float:
        return self.seconds

    def note(self, name: str, details: Mapping[str, Any]) -> None:
        """Collect an event."""
        self.events.append((name, dict(details)))

    def names(self) -> list[str]:
        """Names of the events so far."""
        return [name for name, _ in self.events]


@pytest.fixture(scope="session")
def scenario() -> Scenario:
    """The demo's scenario."""
    return load_scenario(SCENARIO_PATH)


@pytest.fixture(scope="session")
def base(scenario: Scenario) -> BaseNetwork:
    """SimBench data; converting them takes seconds, so once a session."""
    return load_base(scenario.network.simbench_code)


@pytest.fixture
def instant(scenario: Scenario) -> Instant:
    """Simulated time, standing at the epoch."""
    return Instant(scenario.epoch_unix_s)


@pytest.fixture
def world(base: BaseNetwork, scenario: Scenario, instant: Instant) -> World:
    """A fresh world at the epoch."""
    return World(base, scenario, instant, lambda: 0.0, instant.note)
