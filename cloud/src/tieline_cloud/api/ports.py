"""What the API asks of the rooms behind it; the composition root hands everything in as one frozen value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from tieline_cloud.console.live import LiveHub
from tieline_cloud.dispatch.artifacts import ArtifactStore
from tieline_cloud.dispatch.commands import CommandBook
from tieline_cloud.dispatch.configs import ConfigBook
from tieline_cloud.dispatch.desired import DesiredStates
from tieline_cloud.dispatch.events import EventFeed
from tieline_cloud.dispatch.models import ModelRegistry
from tieline_cloud.dispatch.plans import PlanBook
from tieline_cloud.dispatch.policies import PolicyBook
from tieline_cloud.doors.intake import Intake
from tieline_cloud.fleet.explain import Explainer
from tieline_cloud.fleet.views import DeviceStatus, EdgeStatus
from tieline_cloud.jobs.runner import JobRunner
from tieline_cloud.quality.rule_table import RuleTable
from tieline_cloud.settings import HubSettings
from tieline_cloud.store.ports import LastValue, ReadingQuery
from tieline_core.clock import Clock
from tieline_core.ids import EdgeId, PointId


class FleetView(Protocol):
    """Frozen views of the fleet."""

    def edges(self) -> list[EdgeStatus]:
        """All known edges, by id."""
        ...

    def devices(self, edge: EdgeId | None) -> list[DeviceStatus]:
        """Devices of one edge, or of all."""
        ...


@dataclass(frozen=True, slots=True)
class GridPicture:
    """The network as the console draws it, made once per topology."""

    grid_id: str
    topology_hash: str
    arrays_json: bytes
    geojson: bytes


@dataclass(frozen=True, slots=True)
class GridValues:
    """Newest state estimate in the order of the topology arrays."""

    at: datetime
    topology_hash: str
    loading_pct: tuple[float | None, ...]
    vm_pu: tuple[float | None, ...]
    quality: tuple[int, ...]


class GridView(Protocol):
    """The network and its newest estimated state."""

    def picture(self) -> GridPicture | None:
        """Topology, or None while there is no network."""
        ...

    def values(self) -> GridValues | None:
        """Newest estimate, or None while there is none."""
        ...


@dataclass(frozen=True, slots=True)
class HubServices:
    """Everything a route may use."""

    settings: HubSettings
    clock: Clock
    query: ReadingQuery
    last: Callable[[Sequence[PointId] | None, EdgeId | None], list[LastValue]]
    fleet: FleetView
    grid: GridView
    jobs: JobRunner
    plans: PlanBook
    models: ModelRegistry
    commands: CommandBook
    configs: ConfigBook
    policies: PolicyBook
    desired: DesiredStates
    artifacts: ArtifactStore
    events: EventFeed
    live: LiveHub
    intake: Intake
    rules: RuleTable
    explain: Explainer
    health: Callable[[], Mapping[str, Any]]
    metrics: Callable[[], bytes]
