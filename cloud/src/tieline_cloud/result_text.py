"""Results of jobs and the state of the hub as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def result_lines(result: Any, indent: str = "") -> Iterator[str]:
    """Nested mappings and lists as indented lines."""
    if isinstance(result, Mapping):
        for key, value in result.items():
            if isinstance(value, Mapping | list) and value:
                yield f"{indent}{key}:"
                yield from result_lines(value, indent + "  ")
            else:
                yield f"{indent}{key}: {_plain(value)}"
    elif isinstance(result, list):
        for item in result:
            if isinstance(item, Mapping | list) and item:
                first, *rest = result_lines(item)
                yield f"{indent}- {first}"
                yield from (f"{indent}  {line}" for line in rest)
            else:
                yield f"{indent}- {_plain(item)}"
    else:
        yield f"{indent}{_plain(result)}"


def _plain(value: Any) -> str:
    if value is None or value in ({}, []):
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def status_lines(health: Mapping[str, Any], edges: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The hub in a few lines: parts that do not work first."""
    yield f"hub {health['version']}: {health['status']}, clock {health['now']} at speed {health['clock_speed']:g}"
    for name, part in health["parts"].items():
        if isinstance(part, Mapping) and part.get("ok") is False:
            problem = part.get("problem")
            yield f"  {name} does not work{f': {problem}' if problem else ''}"
    for edge in edges:
        lanes = "/".join(lane for lane, on in (("durable", edge["online_durable"]), ("live", edge["online_live"])) if on)
        confirmed = {True: "runs what it should", False: "does not run what it should yet", None: "nothing is wanted of it"}
        if edge["third_party"] is not None:
            yield f"  {edge['edge_id']}: {lanes or 'away'}, third party {edge['third_party']}, at most once"
            continue
        yield (
            f"  {edge['edge_id']}: {lanes or 'away'}, ladder {_plain(edge['ladder'])}, "
            f"{_backlog(edge)}, {confirmed[edge['desired_confirmed']]}{_apart(edge)}"
        )
    if not edges:
        yield "  no edge was heard of yet"


def _apart(edge: Mapping[str, Any]) -> str:
    """What sets an edge apart from one that does as it is told."""
    words = []
    if edge.get("monitor_only"):
        words.append("MONITOR ONLY")
    if edge.get("dry_run"):
        words.append("DRY RUN: it writes to no device")
    if edge.get("tagged"):
        words.append(f"do not operate: {', '.join(edge['tagged'])}")
    if edge.get("config_sha256"):
        words.append(f"configuration {edge['config_sha256'][:16]} of the hub")
    return "".join(f"; {word}" for word in words)


def _backlog(edge: Mapping[str, Any]) -> str:
    words = f"backlog {_plain(edge['backlog_frames'])} frames"
    if edge.get("outbox_room_h") is not None:
        words += f", room for {edge['outbox_room_h']:.4g} h"
    if edge.get("autonomy_h") is not None:
        words += f", {edge['autonomy_h']:.4g} h of autonomy, limited by {edge['autonomy_limited_by']}"
    if edge.get("outbox_usable") is False:
        words += ", its disk refuses"
    if edge.get("reported_stale"):
        words += f" (said {edge['reported_age_s']:.0f} s ago)"
    return words


def reconcile_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """A comparison with an edge, differing hours by name."""
    verdict = "both sides hold the same" if result["equal"] else "the sides differ"
    yield f"{result['edge']}, {result['from']} to {result['to']}: {verdict}"
    for name, row in result["streams"].items():
        hub, edge = row["hub"], row["edge"]
        yield (
            f"  {name}: hub {hub['frames']} frames, {hub['readings']} readings; edge {edge['frames']} frames, "
            f"{edge['readings']} readings; {row['hours']} hours, {len(row['differing'])} differ"
            + (f", {row['only_here']} are no longer held by the edge" if row["only_here"] else "")
        )
        for hour in row["differing"]:
            yield f"    {hour['hour']}  hub {_side(hour['hub'])}  edge {_side(hour['edge'])}"
    for reason, row in result["skips"].items():
        yield f"  declared gaps, {reason}: {row['skips']} with {row['readings']} readings"
    yield from (f"  the edge: {words}" for words in result["no_longer_held"])


def _side(row: Mapping[str, Any] | None) -> str:
    return "nothing" if row is None else f"{row['frames']} frames, {row['readings']} readings, {row['digest'][:12]}"


def quality_lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Findings, or readings that were set apart, one a line."""
    for row in rows:
        number = "no number" if row["value"] is None else f"{row['value']:.9g} {row['unit']}".rstrip()
        limit = "" if row.get("limit") is None else f", limit {row['limit']:.6g}"
        yield f"{row['measured_at']}  {row['rule']:10} {row['point']}  {number}{limit}, received {row['received_at']}"
    if not rows:
        yield "nothing was found"
