"""How an edge stands, as one document: for the status page and the command line."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from tieline_core.messages.desired import Autonomy, OutboxRoom, StreamBacklog
from tieline_core.messages.telemetry import IssuedForecast, Stream
from tieline_core.quantities import QUANTITIES
from tieline_edge.bootstrap import SOFTWARE, Composition
from tieline_edge.control.arbiter import Decision
from tieline_edge.control.autonomy import autonomy_words, with_outbox
from tieline_edge.control.cycle import CycleStats
from tieline_edge.control.words import SPEAKERS, action_words, instant_words
from tieline_edge.outlook import autonomy_of
from tieline_edge.snapshot import Snapshot

#: Quantities of a device shown on the page, in this order; all of them are in the telemetry.
_FIRST: Final = ("p_w", "closed", "soc_pct", "loading_pct", "v_v", "f_hz", "q_var", "breaker_closed")


def document(
    parts: Composition,
    backlog: dict[Stream, StreamBacklog],
    room: OutboxRoom | None,
    *,
    hub_online: bool,
    hub_heard_at: datetime | None,
    ready_s: float | None,
    forecast: str,
    issued: IssuedForecast | None = None,
) -> dict[str, Any]:
    """The status as plain JSON values.

    Args:
        parts: The agent.
        backlog: What waits in the outbox, and where its streams stand.
        room: How full it is; None when it cannot say.
        hub_online: The durable lane is answered.
        hub_heard_at: When the hub last answered; None = not since the start.
        ready_s: How long the start took [s]; None while starting.
        forecast: State of local forecasting, in words.
        issued: The last forecast.
    """
    now = parts.clock.now()
    snapshot = parts.image.freeze(now)
    measured = _by_device(snapshot)
    cycle, standing = parts.cycle, parts.cycle.standing
    states = parts.executor.states
    return {
        "edge": parts.settings.edge_id,
        "site": parts.site.settings.site.name,
        "config_sha256": parts.site.config_sha256,
        "software": SOFTWARE,
        "boot_id": parts.boot_id,
        "at": now.isoformat(),
        "time_zone": parts.settings.site.time_zone,
        "speed": parts.clock.speed(),
        "monitor_only": parts.monitor_only,
        "dry_run": parts.settings.dry_run,
        "tags": parts.tags.document(),
        "ready_s": ready_s,
        "hub_online": hub_online,
        "hub_heard_at": None if hub_heard_at is None else hub_heard_at.isoformat(),
        "ladder": {"step": int(standing.step), "name": standing.step.name.lower(), "reason": standing.reason},
        "plan": None
        if standing.held is None
        else {"plan_id": standing.held.plan.plan_id, "sha256": standing.held.sha256, "end": standing.held.end.isoformat()},
        "autonomy": with_outbox(autonomy_of(parts), None if room is None else room.room_h).model_dump(mode="json"),
        "shed": list(cycle.shed),
        "forecast": forecast,
        "forecast_curve": None if issued is None else _curve(issued),
        "cycle": _cycle(cycle.stats),
        "polls": {
            "count": sum(handle.counters.polls for handle in parts.handles.values()),
            "failed": sum(handle.counters.failures for handle in parts.handles.values()),
            "late": sum(handle.counters.late for handle in parts.handles.values()),
        },
        "backlog": {stream.value: row.model_dump(mode="json") for stream, row in backlog.items()},
        "outbox": None if room is None else room.model_dump(mode="json"),
        "devices": {
            device: {
                "role": handle.spec.role.value,
                "online": handle.online,
                "error": handle.last_error,
                "command": states[device].value if device in states else None,
                "tag": parts.tags.refusal(device),
                "values": measured.get(device, []),
                **_told(cycle.decisions.get(device)),
            }
            for device, handle in parts.handles.items()
        },
        "site_w": _site_values(parts, now),
        "unrecorded": sum(handle.counters.unrecorded for handle in parts.handles.values()),
        "dropped_events": parts.outlet.counters.dropped,
        "pss_mb": pss_mb(),
    }


def _by_device(snapshot: Snapshot) -> dict[str, list[dict[str, Any]]]:
    """The values people look for first, with unit, time and quality."""
    found: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for point, reading in snapshot.readings.items():
        if point.quantity not in _FIRST:
            continue
        known = QUANTITIES.get(point.quantity)
        value = {
            "quantity": point.quantity,
            "value": reading.value,
            "unit": "" if known is None else known.unit,
            "text": point.quantity if known is None else known.text,
            "at": reading.measured_at.isoformat(),
            "quality": reading.quality.name.lower(),
        }
        found.setdefault(point.device, []).append((_FIRST.index(point.quantity), value))
    return {device: [value for _, value in sorted(rows, key=lambda row: row[0])] for device, rows in found.items()}


def _told(decision: Decision | None) -> dict[str, str | None]:
    if decision is None:
        return {"told": None, "because": None}
    winner = decision.winner
    # Nobody asked for this power: then it is a limit that forbids the rest of 0 W.
    forcing = (claim for claim in decision.limits if claim.limit is not None and not claim.limit.holds(0.0))
    winner = next(forcing, None) if winner is None else winner
    because = None if winner is None else f"{SPEAKERS[winner.band.name.lower()]}: {winner.reason}"
    return {"told": action_words(decision.action), "because": because}


def _curve(issued: IssuedForecast) -> dict[str, Any]:
    rows = issued.model_dump(mode="json", include={"point", "issued_at", "start", "step_s", "p10", "p50", "p90"})
    return {name: [round(one) for one in value] if isinstance(value, list) else value for name, value in rows.items()}


def _cycle(stats: CycleStats) -> dict[str, float]:
    """Counts, durations and punctuality of the control loop."""
    pace = stats.pace
    return {
        "count": stats.count,
        "extra": pace.extra,
        "missed": pace.missed,
        "p99_ms": round(stats.p99_ms, 3),
        "late_p50_ms": round(pace.quantile_ms(0.5), 3),
        "late_p99_ms": round(pace.quantile_ms(0.99), 3),
        "late_max_ms": round(pace.late_max_ms, 3),
    }


def _site_values(parts: Composition, now: datetime) -> dict[str, float | None]:
    snapshot, limit_s = parts.image.freeze(now), parts.cycle.ages().default_s
    transformer = parts.site.settings.shedding.transformer
    if transformer is None:
        return {}
    points = {point.quantity: point for point in snapshot.readings if point.device == transformer}
    return {name: snapshot.value(point, limit_s) for name, point in sorted(points.items())}


def pss_mb() -> float | None:
    """Proportional set size of this process [MB]; None where the system does not say."""
    try:
        text = Path(f"/proc/{os.getpid()}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return None
    rows = [line.split() for line in text.splitlines() if line.startswith("Pss:")]
    return round(int(rows[0][1]) / 1024, 1) if rows else None


def _outbox_words(status: dict[str, Any]) -> str:
    """Content and room of the outbox, with the oldest of what waits."""
    rows, room = status["backlog"].values(), status["outbox"]
    oldest = min((row["oldest_at"] for row in rows if row["oldest_at"] is not None), default=None)
    words = [f"{sum(row['readings'] for row in rows)} readings wait" + (f", the oldest of {oldest}" if oldest else "")]
    if room is None or not room["usable"]:
        words.append("THE DISK REFUSES: nothing is kept")
    else:
        words.append(f"{room['used_bytes'] / 1e6:.1f} of {room['max_bytes'] / 1e6:.0f} MB used")
        if room["room_h"] is not None:
            words.append(f"room for {room['room_h']:.4g} h without the hub")
    words += [f"{stream} committed to {row['committed_seq']}" for stream, row in status["backlog"].items()]
    return "; ".join(words)


def _autonomy_lines(status: dict[str, Any]) -> list[str]:
    """What an edge of an earlier release does not say is left out."""
    known = status.get("autonomy")
    return [] if known is None else [f"  autonomy  {autonomy_words(Autonomy.model_validate(known))}"]


def _config_words(sha256: str | None) -> str:
    return "the file at the site" if sha256 is None else f"of the hub, {sha256[:16]}"


def in_words(status: dict[str, Any]) -> str:
    """A status document for a person at a terminal."""
    ladder = status["ladder"]
    offline = [f"{name} ({row['error'] or 'not reached yet'})" for name, row in status["devices"].items() if not row["online"]]
    waiting = sum(row["frames"] for row in status["backlog"].values())
    at = instant_words(status["at"], ZoneInfo(status.get("time_zone", "UTC")))
    would = " (would be: dry run)" if status["shed"] and status.get("dry_run") else ""
    lines = [
        f"{status['edge']} ({status['site']}), {status['software']}, at {at}",
        f"  ladder    {ladder['name'].replace('_', ' ')}: {ladder['reason']}",
        f"  config    {_config_words(status.get('config_sha256'))}",
        f"  hub       {'answers' if status['hub_online'] else 'is not reached'}; {waiting} frames wait",
        f"  outbox    {_outbox_words(status)}",
        *_autonomy_lines(status),
        f"  shed      {', '.join(status['shed']) or 'nothing'}{would}",
        f"  devices   {len(status['devices']) - len(offline)} of {len(status['devices'])} answer",
        *(f"            offline: {one}" for one in offline),
        f"  forecast  {status['forecast']}",
        f"  cycle     {status['cycle']['count']} cycles, 99 % within {status['cycle']['p99_ms']:.1f} ms",
    ]
    tagged = [f"  TAGGED    {name}: {row['tag']}" for name, row in status["devices"].items() if row.get("tag")]
    lines[5:5] = tagged
    if status.get("dry_run"):
        lines.insert(1, "  DRY RUN: everything is decided and traced; nothing is written to any device")
    if status["monitor_only"]:
        lines.insert(1, "  MONITOR ONLY: no hub key is configured; nothing is written to any device")
    return "\n".join(lines)
