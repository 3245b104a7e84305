"""How the hub stands, for ``/v1/health`` and ``/metrics``, and the newest readings of both lanes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from tieline_cloud.console.live import LiveHub
from tieline_cloud.dispatch.publisher import MqttPublisher
from tieline_cloud.exchange import Exchange
from tieline_cloud.ingest.service import Ingest
from tieline_cloud.jobs.grid_desk import GridDesk
from tieline_cloud.jobs.model import JobState
from tieline_cloud.jobs.runner import JobRunner
from tieline_cloud.jobs.upkeep import StoreUpkeep
from tieline_cloud.metrics import Sample, age_s
from tieline_cloud.quality.examiner import RuleExaminer
from tieline_cloud.store.ports import LastValue, Store
from tieline_core.clock import Clock
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.desired import Reported
from tieline_core.quantities import Quality, Reading


def newest_values(stored: Sequence[LastValue], live: Sequence[LastValue]) -> dict[PointId, LastValue]:
    """The newest value of each point, of the ledger or of the live lane: while a backlog drains, the ledger is behind."""
    newest: dict[PointId, LastValue] = {}
    for value in (*stored, *live):
        known = newest.get(value.point)
        if known is None or value.at >= known.at:
            newest[value.point] = value
    return newest


def newest_of_lanes(store: Store, ingest: Ingest, points: Sequence[PointId] | None, edge: EdgeId | None) -> list[LastValue]:
    """Newest values of points, of an edge or of all; those of one edge are looked up by name, not picked out of all."""
    live = ingest.live.values(points)
    if edge is not None:
        live = [value for value in live if value.point.edge == edge]
        points = store.points(edge) if points is None else [point for point in points if point.edge == edge]
    return list(newest_values(store.last(points), live).values())


def newest_readings(stored: Sequence[LastValue], live: Sequence[LastValue]) -> dict[str, Reading]:
    """What :func:`newest_values` gives, as readings, without contradictions of value and quality."""
    newest = newest_values(stored, live)
    return {
        point: Reading(value.point, value.value, value.at, Quality(value.quality))
        for point, value in newest.items()
        if (value.value is not None) == Quality(value.quality).usable
    }


def _outbox(reported: Reported, labels: Mapping[str, str]) -> Iterator[Sample]:
    """How the outbox of an edge stands, by its own word."""
    frames = sum(stream.frames for stream in reported.backlog.values())
    yield Sample("edge_backlog_frames", "frames in the edge's outbox", frames, labels)
    size = sum(stream.bytes for stream in reported.backlog.values())
    yield Sample("edge_backlog_bytes", "bytes in the edge's outbox the hub does not have", size, labels)
    readings = sum(stream.readings for stream in reported.backlog.values())
    yield Sample("edge_backlog_readings", "readings in the edge's outbox the hub does not have", readings, labels)
    for stream, row in reported.backlog.items():
        named = {**labels, "stream": stream.value}
        yield Sample("edge_committed_seq", "last sequence number of a stream the hub has accepted", row.committed_seq, named)
    oldest = min((row.oldest_at for row in reported.backlog.values() if row.oldest_at is not None), default=None)
    yield Sample(
        "edge_backlog_age_seconds", "age of the oldest unsent content when it said so", age_s(oldest, reported.at), labels
    )
    if reported.autonomy is not None and reported.autonomy.hours is not None:
        yield Sample("edge_autonomy_hours", "hours the edge can do without the hub", reported.autonomy.hours, labels)
    if reported.outbox is not None:
        yield Sample("edge_outbox_room_hours", "hours of room left without the hub", reported.outbox.room_h, labels)
        yield Sample("edge_outbox_usable", "0 = its disk refuses", int(reported.outbox.usable), labels)


@dataclass(frozen=True, slots=True)
class Observation:
    """Looks into the rooms and counts."""

    store: Store
    ingest: Ingest
    publisher: MqttPublisher
    desk: GridDesk
    jobs: JobRunner
    live: LiveHub
    clock: Clock
    examiner: RuleExaminer
    upkeep: StoreUpkeep
    exchange: Exchange

    def health(self) -> Mapping[str, Any]:
        """State of each part; ``ok`` is false where something that should work does not."""
        durable, statistics = self.ingest.durable_counters, self.store.statistics()
        now = self.clock.now()
        return {
            "durable_lane": {
                "ok": self.ingest.durable.connected,
                "problem": self.ingest.durable.problem,
                "readings": durable.readings,
                "garbage": durable.garbage,
                "turned_away": sum(durable.turned_away.values()),
                "pending": durable.pending,
                "newest_measured_at": durable.newest_measured_at,
            },
            "live_lane": {
                "ok": self.ingest.live.connected,
                "problem": self.ingest.live.problem,
                "garbage": self.ingest.live_counters.garbage,
            },
            "dispatch": {"ok": self.publisher.connected, "problem": self.publisher.problem},
            "store": {field.name: getattr(statistics, field.name) for field in fields(statistics)},
            "rollups": {
                "ok": self.upkeep.progress is not None or not self.upkeep.failures,
                "lag_s": None if self.upkeep.progress is None else self.upkeep.progress.lag_s,
                "waiting_readings": None if self.upkeep.progress is None else self.upkeep.progress.waiting,
            },
            "grid": {
                "ok": self.desk.problem is None,
                "imported": self.desk.grid is not None,
                "problem": self.desk.problem,
                "estimate_age_s": age_s(self.desk.estimated_at, now),
            },
            **self.exchange.health(),
            "jobs": self._jobs(),
            "console": {"sockets": self.live.clients},
        }

    def _jobs(self) -> dict[str, int]:
        states = [job.state for job in self.jobs.newest(10_000)]
        return {state.value: states.count(state) for state in JobState}

    def samples(self) -> Iterable[Sample]:
        """Everything Prometheus reads."""
        now = self.clock.now()
        edges = self.ingest.fleet.edges()
        yield Sample("edges", "edges by lane that are online", sum(e.online_durable for e in edges), {"lane": "durable"})
        yield Sample("edges", "edges by lane that are online", sum(e.online_live for e in edges), {"lane": "live"})
        for edge in edges:
            labels = {"edge": str(edge.edge_id)}
            yield Sample("edge_silence_seconds", "time since an edge was last heard", age_s(edge.last_heard, now), labels)
            if edge.reported is not None:
                yield from _outbox(edge.reported, labels)
                yield Sample("edge_ladder_step", "step of the fallback ladder", int(edge.reported.ladder), labels)
                age = age_s(edge.reported.at, now)
                yield Sample("edge_reported_age_seconds", "age of the edge's own figures", age, labels)
                stale = int(not edge.online_durable)
                yield Sample(
                    "edge_reported_stale", "1 = the edge is away, its figures are those of its last word", stale, labels
                )
        yield from self._lanes()
        examined, found = self.examiner.counts()
        yield Sample("examined_readings_total", "readings held against the rules of data quality", examined)
        for rule, count in found.items():
            yield Sample("quality_findings_total", "findings of data quality by rule", count, {"rule": rule.value})
        for field in fields(statistics := self.store.statistics()):
            yield Sample(f"store_{field.name}", f"{field.name} kept in the ledger", getattr(statistics, field.name))
        progress = self.upkeep.progress
        lag_s, waiting = (None, None) if progress is None else (progress.lag_s, progress.waiting)
        yield Sample("rollup_lag_seconds", "age of the oldest commit that is not rolled up", lag_s)
        yield Sample("rollup_waiting_readings", "readings that are not rolled up", waiting)
        yield Sample("rollup_failures_total", "roll-ups the store could not make", self.upkeep.failures)
        newest = age_s(self.ingest.durable_counters.newest_measured_at, now)
        yield Sample("newest_reading_age_seconds", "age of the newest committed reading", newest)
        yield Sample("grid_estimate_age_seconds", "age of the newest state estimate", age_s(self.desk.estimated_at, now))
        for state, count in self._jobs().items():
            yield Sample("jobs", "remembered jobs by state", count, {"state": state})
        yield from self.exchange.samples()
        yield Sample("live_sockets", "open live sockets", self.live.clients)
        yield Sample("clock_speed", "seconds of the hub's clock a wall second", self.clock.speed())

    def _lanes(self) -> Iterator[Sample]:
        durable, live = self.ingest.durable_counters, self.ingest.live_counters
        for verdict, count in durable.frames.items():
            yield Sample("frames_total", "durable frames by verdict", count, {"verdict": verdict.name.lower()})
        for lane, counters in (("durable", durable), ("live", live)):
            for field in fields(counters):
                value = getattr(counters, field.name)
                if isinstance(value, int | float) and not field.name.startswith("pending"):
                    name = field.name.removesuffix("_seconds") + ("_seconds" if field.name.endswith("_seconds") else "")
                    yield Sample(f"{lane}_{name}_total", f"{field.name.replace('_', ' ')} of the {lane} lane", value)
        for reason, count in durable.turned_away.items():
            yield Sample("durable_turned_away_total", "messages over an edge's limits", count, {"limit": reason})
        for share in (0.5, 0.99):
            seconds = durable.latency_s(share)
            yield Sample("durable_commit_latency_seconds", "arrival to commit", seconds, {"quantile": f"{share:g}"})
        yield Sample("durable_pending", "frames that wait for the ledger", durable.pending)
        yield Sample("durable_pending_bytes", "bytes that wait for the ledger", durable.pending_bytes)
