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
            yield f"  {name} does not work: {_plain(part.get('problem'))}"
    for edge in edges:
        lanes = "/".join(lane for lane, on in (("durable", edge["online_durable"]), ("live", edge["online_live"])) if on)
        confirmed = {True: "runs what it should", False: "does not run what it should yet", None: "nothing is wanted of it"}
        if edge["third_party"] is not None:
            yield f"  {edge['edge_id']}: {lanes or 'away'}, third party {edge['third_party']}, at most once"
            continue
        yield (
            f"  {edge['edge_id']}: {lanes or 'away'}, ladder {_plain(edge['ladder'])}, "
            f"backlog {_plain(edge['backlog_frames'])} frames, {confirmed[edge['desired_confirmed']]}"
        )
    if not edges:
        yield "  no edge was heard of yet"


def quality_lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Findings, or readings that were set apart, one a line."""
    for row in rows:
        number = "no number" if row["value"] is None else f"{row['value']:.9g} {row['unit']}".rstrip()
        limit = "" if row.get("limit") is None else f", limit {row['limit']:.6g}"
        yield f"{row['measured_at']}  {row['rule']:10} {row['point']}  {number}{limit}, received {row['received_at']}"
    if not rows:
        yield "nothing was found"
