"""The hub's only composition root: opens what must be opened, binds the rooms, owns every task, and closes in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from tieline_cloud import __version__
from tieline_cloud.api.app import create_app
from tieline_cloud.api.ports import HubServices
from tieline_cloud.api.query import all_edges
from tieline_cloud.api.routes.edges import edge_summary
from tieline_cloud.api.routes.readings import point_value
from tieline_cloud.api.server import http_server
from tieline_cloud.books import Books
from tieline_cloud.broker_access import check_files
from tieline_cloud.console.broadcast import Broadcaster
from tieline_cloud.console.live import LiveHub
from tieline_cloud.dispatch.documents import DocumentStore
from tieline_cloud.dispatch.keys import read_key
from tieline_cloud.dispatch.publisher import MqttPublisher
from tieline_cloud.doors.intake import Intake
from tieline_cloud.exchange import Exchange
from tieline_cloud.fleet.explain import Explainer
from tieline_cloud.fleet.reconcile import EdgeRequests, Reconciler
from tieline_cloud.gridmodel.state import points_used
from tieline_cloud.ingest.connection import HubConnection, Inbound, Wiring
from tieline_cloud.ingest.service import Ingest, IngestCallbacks
from tieline_cloud.ingest.settings import BrokerAddress, IngestSettings
from tieline_cloud.jobs.grid_desk import GridDesk
from tieline_cloud.jobs.plan_job import Planner
from tieline_cloud.jobs.pool import WorkerPool
from tieline_cloud.jobs.prices_job import read_prices
from tieline_cloud.jobs.runner import JobRunner
from tieline_cloud.jobs.scheduler import JobScheduler
from tieline_cloud.jobs.table import job_kinds, job_schedulers
from tieline_cloud.jobs.upkeep import StoreUpkeep
from tieline_cloud.metrics import exposition
from tieline_cloud.observation import Observation, newest_of_lanes, newest_readings
from tieline_cloud.quality.examiner import RuleExaminer
from tieline_cloud.quality.rule_table import RuleTable
from tieline_cloud.quality.rules import load_rules
from tieline_cloud.settings import ClockSettings, HubSettings
from tieline_cloud.store.adapters import open_store
from tieline_cloud.store.ports import Examiner, Store
from tieline_core import topics
from tieline_core.clock import Clock, FollowedClock, SystemClock
from tieline_core.ids import EdgeId
from tieline_core.messages.reconciliation import MAX_REPLY_BYTES
from tieline_core.quantities import Reading

_LOG = logging.getLogger(__name__)
STORE_FILE: Final = "hub.duckdb"
MEMORY_FILE: Final = "hub.sqlite"


def open_clock(settings: ClockSettings) -> Clock:
    """The clock the settings name."""
    return SystemClock() if settings.path is None else FollowedClock.of_file(settings.path)


def open_ledger(settings: HubSettings, examiner: Examiner | None = None) -> Store:
    """The hub's store; its folder is made when it is not there. Without an examiner nothing that arrives is judged.

    Raises:
        StoreBusyError: When another process holds it, naming it.
        StoreLostError: When the database server cannot be reached.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    zone = settings.store.timezone or settings.site.time_zone
    return open_store(settings.store.url or f"duckdb:{settings.data_dir / STORE_FILE}", examiner, zone)


def ingest_settings(settings: HubSettings) -> IngestSettings:
    """The part of the settings ingest needs."""
    mqtt = settings.mqtt
    return IngestSettings(
        broker=BrokerAddress(mqtt.host, mqtt.port, mqtt.insecure, mqtt.username, mqtt.password_file, mqtt.ca_file),
        host_id=mqtt.host_id,
        max_points_per_edge=settings.max_points_per_edge,
        admitted_edges=None if settings.admitted_edges is None else frozenset(settings.admitted_edges),
        third_party_nodes=frozenset(settings.admitted_nodes),
    )


@dataclass(frozen=True, slots=True)
class RunningHub:
    """A hub that serves."""

    url: str
    services: HubServices


@asynccontextmanager
async def running_hub(settings: HubSettings) -> AsyncIterator[RunningHub]:
    """Run a hub while the context is open.

    Raises:
        TielineError: When key, clock, store, network or address cannot be used.
    """
    clock = open_clock(settings.clock)
    read_key(settings.signing_key)
    check_files(settings.mqtt)
    async with AsyncExitStack() as stack:
        examiner = RuleExaminer(RuleTable(load_rules(settings.quality.rules)))
        store = stack.enter_context(open_ledger(settings, examiner if settings.quality.examine else None))
        documents = stack.enter_context(DocumentStore(settings.data_dir / MEMORY_FILE))
        if settings.prices is not None:
            documents.put_prices(read_prices(settings.prices))
        publisher = await stack.enter_async_context(MqttPublisher(settings.mqtt, "hub-dispatch"))
        pool = await stack.enter_async_context(WorkerPool(settings.workers.processes))
        books = Books.open(settings, documents, publisher, clock)
        requests = EdgeRequests(books.sealer, publisher, clock)
        exchange = Exchange.of(settings, store, clock, stack)
        rooms = _bind(settings, clock, (store, examiner), books, requests, publisher, pool, exchange)
        await rooms.desk.load(settings.grid.file)
        await stack.enter_async_context(rooms.ingest)
        replies = reply_connection(ingest_settings(settings).broker, requests)
        await stack.enter_async_context(_on_duty({**rooms.duties(books), "replies of edges": replies.run}))
        app = create_app(rooms.services)
        port = await stack.enter_async_context(http_server(app, settings.listen.host, settings.listen.port))
        yield RunningHub(f"http://{_in_url(settings.listen.host)}:{port}", rooms.services)


@dataclass(frozen=True, slots=True)
class _Rooms:
    """The rooms that do something while the hub runs."""

    services: HubServices
    ingest: Ingest
    desk: GridDesk
    broadcaster: Broadcaster
    schedulers: Mapping[str, JobScheduler]
    upkeep: StoreUpkeep
    exchange: Exchange

    def duties(self, books: Books) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        """Endless tasks by name."""
        return {
            "desired states": books.desired.run,
            "jobs": self.services.jobs.run,
            "heartbeats": self.services.live.run,
            "broadcasts": self.broadcaster.run,
            "state estimate": self.desk.run,
            "store upkeep": self.upkeep.run,
            **{name: scheduler.run for name, scheduler in self.schedulers.items()},
            **self.exchange.duties(),
        }


def _bind(
    settings: HubSettings,
    clock: Clock,
    examined: tuple[Store, RuleExaminer],
    books: Books,
    requests: EdgeRequests,
    publisher: MqttPublisher,
    pool: WorkerPool,
    exchange: Exchange,
) -> _Rooms:
    """Make the rooms and tell each whom it talks to."""
    store, examiner = examined
    live = LiveHub(clock.now, __version__)
    broadcaster = Broadcaster(live)
    books.events.listen(lambda event: live.publish_event(event.model_dump(mode="json")))
    callbacks = IngestCallbacks(books.greeted, books.happened, books.heard, lambda _values: broadcaster.readings_changed())
    ingest = Ingest(ingest_settings(settings), store, clock, callbacks)

    def last_values() -> dict[str, Reading]:
        points = [] if desk.grid is None else points_used(desk.grid)
        return newest_readings(store.last(points), ingest.live.values(points))

    grid = settings.grid
    desk = GridDesk(grid.id, settings.data_dir, pool, last_values, clock, live, grid.estimate_every_s)

    def running(edge: EdgeId) -> str | None:
        status = ingest.fleet.edge(edge)
        return books.configs.running(edge, None if status is None else status.reported)

    planner = Planner(
        settings, clock, store, books.documents, books.artifacts, books.models, books.plans, books.events, desk, pool, running
    )
    kinds = job_kinds(planner, store, examiner.table, Reconciler(requests, store), exchange.mirrors)
    jobs = JobRunner(kinds, books.documents, clock)
    upkeep = StoreUpkeep(store, clock, settings.store.roll_up_every_s)
    observation = Observation(store, ingest, publisher, desk, jobs, live, clock, examiner, upkeep, exchange)
    services = HubServices(
        settings=settings,
        clock=clock,
        query=store,
        last=lambda points, edge: newest_of_lanes(store, ingest, points, edge),
        fleet=ingest.fleet,
        grid=desk,
        jobs=jobs,
        plans=books.plans,
        models=books.models,
        commands=books.commands,
        configs=books.configs,
        policies=books.policies,
        desired=books.desired,
        artifacts=books.artifacts,
        events=books.events,
        live=live,
        intake=Intake(settings.sources, store, clock, lambda name: _is_edge(ingest, name)),
        rules=examiner.table,
        explain=Explainer(requests),
        health=observation.health,
        metrics=exposition(observation.samples),
    )
    broadcaster.feed(
        lambda: [edge_summary(services, status).model_dump(mode="json") for status in all_edges(services)],
        lambda: [point_value(value).model_dump(mode="json") for value in ingest.live.values()],
    )
    ingest.fleet.on_change(lambda _status: broadcaster.edges_changed())
    return _Rooms(services, ingest, desk, broadcaster, job_schedulers(planner, jobs), upkeep, exchange)


def _is_edge(ingest: Ingest, name: EdgeId) -> bool:
    return any(status.edge_id == name for status in ingest.fleet.edges())


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@asynccontextmanager
async def _on_duty(duties: Mapping[str, Callable[[], Coroutine[Any, Any, None]]]) -> AsyncIterator[None]:
    """Run endless tasks while the context is open; one that fails ends the hub."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(duty(), name=name) for name, duty in duties.items()]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


def reply_connection(broker: BrokerAddress, requests: EdgeRequests) -> HubConnection:
    """The connection on which edges answer requests: its own, so that no other lane waits for it."""
    loop = asyncio.get_running_loop()

    def hear(message: Inbound) -> None:
        if len(message.payload) <= MAX_REPLY_BYTES and not message.retain:
            loop.call_soon_threadsafe(requests.hear, message.topic, message.payload)

    return HubConnection(broker, "hub-replies", Wiring(((topics.reply("+"), 1),), hear))


async def serve(settings: HubSettings, stop: asyncio.Event, ready: Callable[[RunningHub], None]) -> None:
    """Run a hub until ``stop`` is set.

    Raises:
        TielineError: When it cannot start or cannot go on.
    """
    if not settings.edges:
        _LOG.warning("No edges are configured: nothing will be trained or planned")
    async with running_hub(settings) as hub:
        ready(hub)
        await stop.wait()
