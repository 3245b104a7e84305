"""Prometheus metrics, made from the same status document as everything else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

from tieline_edge.bootstrap import Composition


def exposition(parts: Composition, status: Mapping[str, Any]) -> bytes:
    """Metrics in Prometheus text format."""
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry = CollectorRegistry()

    def gauge(name: str, text: str, value: float | None, **labels: str) -> None:
        if value is None:
            return
        full = f"tieline_edge_{name}"
        metric = made.get(full) or made.setdefault(full, Gauge(full, text, sorted(labels), registry=registry))
        (metric.labels(**labels) if labels else metric).set(value)

    made: dict[str, Gauge] = {}
    gauge("ladder_step", "Fallback ladder step, 0 = current plan", status["ladder"]["step"])
    gauge("shed_loads", "Loads kept open by local shedding", len(status["shed"]))
    gauge("cycles", "Control cycles since the start", status["cycle"]["count"])
    gauge("cycle_p99_seconds", "99th percentile of the cycle's duration", status["cycle"]["p99_ms"] / 1000.0)
    gauge("cycle_late_max_seconds", "Latest start of a regular cycle since the start", status["cycle"]["late_max_ms"] / 1000.0)
    gauge("cycles_missed", "Whole periods without a regular cycle", status["cycle"]["missed"])
    gauge("cycles_extra", "Cycles that a crossed level called for", status["cycle"]["extra"])
    gauge("trace_lost_rows", "Rows of the trace the disk did not take", parts.trace.lost)
    gauge("hub_online", "1 = the durable lane is answered", float(status["hub_online"]))
    gauge("monitor_only", "1 = no hub key, nothing is written", float(status["monitor_only"]))
    gauge("dry_run", "1 = decides and traces, writes to no device", float(status["dry_run"]))
    gauge(
        "tagged_devices",
        "Devices under a tag do not operate",
        sum(row["tag"] is not None for row in status["devices"].values()),
    )
    gauge("unrecorded_readings", "Readings given up because the disk refused", status["unrecorded"])
    for stream, row in status["backlog"].items():
        gauge("backlog_frames", "Frames that wait in the outbox", row["frames"], stream=stream)
        gauge("backlog_bytes", "Bytes that wait in the outbox", row["bytes"], stream=stream)
        gauge("backlog_readings", "Readings that wait in the outbox", row["readings"], stream=stream)
        gauge("committed_seq", "Last sequence number the hub has accepted", row["committed_seq"], stream=stream)
        gauge("recorded_seq", "Last sequence number given to a frame", row["next_seq"] - 1, stream=stream)
        if row["oldest_at"] is not None:
            age_s = (datetime.fromisoformat(status["at"]) - datetime.fromisoformat(row["oldest_at"])).total_seconds()
            gauge("backlog_age_seconds", "Age of the oldest content the hub does not have", age_s, stream=stream)
    if (room := status["outbox"]) is not None:
        gauge("outbox_used_bytes", "Bytes held, acknowledged or not", room["used_bytes"])
        gauge("outbox_max_bytes", "Bytes the ring may hold", room["max_bytes"])
        gauge("outbox_room_hours", "Hours until unsent readings are lost without the hub, at the present rate", room["room_h"])
        gauge("outbox_usable", "0 = the disk refuses, nothing is kept", float(room["usable"]))
    for field in fields(parts.outbox.counters):
        gauge(
            f"outbox_{field.name}",
            f"{field.name.replace('_', ' ')} since the start",
            getattr(parts.outbox.counters, field.name),
        )
    for device, row in status["devices"].items():
        gauge("device_online", "1 = the device answers", float(row["online"]), device=device)
    for device, handle in parts.handles.items():
        gauge("device_polls", "Polls since the start", handle.counters.polls, device=device)
        gauge("device_failures", "Failed polls since the start", handle.counters.failures, device=device)
    return generate_latest(registry)
