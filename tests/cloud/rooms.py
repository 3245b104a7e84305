"""A hub's rooms put together in memory: real books and runner, a store in memory, and simple stand-ins for the field."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.certificates import clean_certificate
from tieline_cloud.api.ports import GridPicture, GridValues, HubServices
from tieline_cloud.console.live import LiveHub
from tieline_cloud.dispatch.artifacts import ArtifactStore
from tieline_cloud.dispatch.commands import CommandBook
from tieline_cloud.dispatch.configs import ConfigBook
from tieline_cloud.dispatch.desired import DesiredStates
from tieline_cloud.dispatch.documents import DocumentStore
from tieline_cloud.dispatch.events import EventFeed
from tieline_cloud.dispatch.keys import Sealer
from tieline_cloud.dispatch.models import ModelRegistry
from tieline_cloud.dispatch.plans import PlanBook
from tieline_cloud.dispatch.policies import PolicyBook
from tieline_cloud.dispatch.publisher import PublishFailedError
from tieline_cloud.doors.intake import Intake, OnceLedger
from tieline_cloud.fleet.explain import Explainer
from tieline_cloud.fleet.reconcile import EdgeRequests, Reconciler
from tieline_cloud.fleet.views import DeviceStatus, EdgeStatus
from tieline_cloud.jobs.export_job import export_kind
from tieline_cloud.jobs.import_job import import_kind
from tieline_cloud.jobs.model import JobKind
from tieline_cloud.jobs.prices_job import prices_kind
from tieline_cloud.jobs.reconcile_job import backfill_kind, reconcile_kind
from tieline_cloud.jobs.runner import JobRunner
from tieline_cloud.quality.rule_table import RuleTable
from tieline_cloud.quality.rules import load_rules
from tieline_cloud.settings import HubSettings, SourceSettings
from tieline_cloud.store.memory_store import MemoryStore
from tieline_cloud.store.ports import Ingested
from tieline_core.clock import ManualClock
from tieline_core.frame import ReadingBatch
from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.desired import LadderStep, Reported
from tieline_core.messages.plan import DevicePlan, Plan, PlanMode
from tieline_core.signing import Signer, key_id

NOW = datetime(2016, 12, 7, 15, 30, tzinfo=UTC)
HARBOUR = EdgeId("harbour")
PRIVATE = bytes(range(32))
TRUSTED = {key_id(Signer(PRIVATE).public): Signer(PRIVATE).public}


@dataclass
class Outbox:
    """Takes what would go to the broker; fails as long as it is told to."""

    sent: list[tuple[str, bytes, bool]] = field(default_factory=list)
    away: bool = False

    async def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        if self.away:
            raise PublishFailedError(f"{topic}: the broker is not connected")
        self.sent.append((topic, payload, retain))


@dataclass
class FixedFleet:
    """One edge with a battery."""

    reported: Reported | None = None
    third_party: str | None = None
    away: bool = False

    def edges(self) -> list[EdgeStatus]:
        return [EdgeStatus(HARBOUR, not self.away, not self.away, NOW, 1, self.reported, third_party=self.third_party)]

    def devices(self, edge: EdgeId | None) -> list[DeviceStatus]:
        device = DeviceStatus(HARBOUR, DeviceId("bat1"), True, ("p_w", "soc_pct"), NOW)
        return [device] if edge in (None, HARBOUR) else []


@dataclass
class FixedGrid:
    """Two buses and a branch."""

    known: bool = True

    def picture(self) -> GridPicture | None:
        return (
            GridPicture("grid", "ab" * 16, b'{"buses": [], "branches": []}', b'{"type": "FeatureCollection"}')
            if self.known
            else None
        )

    def values(self) -> GridValues | None:
        return GridValues(NOW, "ab" * 16, (55.5,), (1.01, None), (0,)) if self.known else None


@dataclass
class StoreWriter:
    """Imports straight into a store."""

    store: MemoryStore

    async def import_readings(self, batch: ReadingBatch, source: str) -> int:
        return self.store.import_readings(batch, source, NOW)

    async def remember(self, key: str, body: bytes) -> None:
        self.store.put_document("import", key, body, NOW)

    async def recall(self, key: str) -> bytes | None:
        return self.store.documents("import").get(key)


@dataclass
class OnceStore:
    """Deliveries in memory, each once under its key."""

    held: dict[tuple[str, str], tuple[str, ReadingBatch]] = field(default_factory=dict)

    def ingest_once(self, batch: ReadingBatch, source: str, key: str, sha256: str, at: datetime) -> tuple[Ingested, int]:
        before = self.held.setdefault((source, key), (sha256, batch))
        if before[1] is batch:
            return Ingested.STORED, len(batch)
        return (Ingested.REPEATED if before[0] == sha256 else Ingested.CONFLICT), 0


@dataclass
class Rooms:
    """Everything of a hub without processes and sockets."""

    folder: Path
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW))
    outbox: Outbox = field(default_factory=Outbox)
    fleet: FixedFleet = field(default_factory=FixedFleet)
    grid: FixedGrid = field(default_factory=FixedGrid)
    store: MemoryStore = field(default_factory=MemoryStore)
    kinds: dict[str, JobKind[Any]] = field(default_factory=dict)
    deliveries: OnceLedger | None = None
    sources: dict[EdgeId, SourceSettings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.documents = DocumentStore(self.folder / "hub.sqlite")
        self.artifacts = ArtifactStore(self.folder / "artifacts")
        self.sealer = Sealer(PRIVATE, self.documents)
        self.desired = DesiredStates(self.documents, self.sealer, self.outbox, self.clock)
        self.plans = PlanBook(self.documents, self.artifacts, self.sealer, self.desired, self.clock)
        self.models = ModelRegistry(self.documents, self.artifacts, self.sealer, self.desired, self.clock)
        self.commands = CommandBook(self.documents, self.sealer, self.outbox, self.clock)
        self.configs = ConfigBook(self.documents, self.artifacts, self.sealer, self.desired, self.clock)
        self.policies = PolicyBook(self.documents, self.artifacts, self.sealer, self.desired, self.clock)
        self.events = EventFeed(self.documents, self.clock)
        self.live = LiveHub(self.clock.now, "test")
        self.requests = EdgeRequests(self.sealer, self.outbox, self.clock, silence_s=0.2)
        self.reconciler = Reconciler(self.requests, self.store)
        table: tuple[JobKind[Any], ...] = (
            import_kind(StoreWriter(self.store), self.folder / "rejects"),
            prices_kind(self.documents),
            reconcile_kind(self.reconciler),
            backfill_kind(self.reconciler),
            export_kind(self.store),
        )
        self.kinds = {**{kind.name: kind for kind in table}, **self.kinds}
        self.jobs = JobRunner(self.kinds, self.documents, self.clock)

    def services(self) -> HubServices:
        return HubServices(
            settings=HubSettings.model_validate(
                {"data_dir": self.folder, "mqtt": {"host": "127.0.0.1"}, "signing_key": self.folder / "hub.key"}
            ),
            clock=self.clock,
            query=self.store,
            last=lambda points, edge: [row for row in self.store.last(points) if edge in (None, row.point.edge)],
            fleet=self.fleet,
            grid=self.grid,
            jobs=self.jobs,
            plans=self.plans,
            models=self.models,
            commands=self.commands,
            configs=self.configs,
            policies=self.policies,
            desired=self.desired,
            artifacts=self.artifacts,
            events=self.events,
            live=self.live,
            intake=Intake(self.sources, self.deliveries or self.store, self.clock, lambda name: name == HARBOUR),
            rules=RuleTable(load_rules()),
            explain=Explainer(self.requests, silence_s=0.2),
            health=lambda: {"ingest": {"ok": True}},
            metrics=lambda: b"tieline_up 1\n",
        )


def plan(plan_id: str = "plan-0001", edge: EdgeId = HARBOUR) -> Plan:
    """Two quarter hours for one battery."""
    device = DevicePlan(device_id=DeviceId("bat1"), mode=PlanMode.SETPOINT_W, values_w=(1000.0, -2000.0))
    return Plan(
        plan_id=plan_id,
        edge_id=edge,
        issued_at=NOW,
        start=NOW,
        step_s=900,
        devices=(device,),
        certificate=clean_certificate(NOW),
    )


def reported(**changes: Any) -> Reported:
    """What harbour says of itself."""
    values: dict[str, Any] = {
        "edge_id": HARBOUR,
        "at": NOW,
        "software": "0.1.0",
        "boot_id": "boot-1",
        "monitor_only": False,
        "ladder": LadderStep.CURRENT_PLAN,
        "ladder_reason": "",
    }
    return Reported.model_validate({**values, **changes})
