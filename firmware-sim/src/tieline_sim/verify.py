"""The independent comparator: what the field said against what the hub stored, point by point.

Every source has its own sense of time, so every source is matched in its own way:

- meters by (serial, instant): the meter stamps its readings itself;
- OPC-UA by source timestamp;
- Modbus carries no time: answers are matched in the order they were given, one answer to one stored value of each quantity
  in it, equal at the point's resolution and stamped at most fifteen seconds of wall time (times the clock's speed) after the
  answer. An answer that came too late for its asker is not stored; it counts as unrecorded in flight when the store declares
  the gap by a marker without a number, as lost when it does not.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from tieline_sim.clock import utc_text
from tieline_sim.errors import SimulatorError
from tieline_sim.matching import Finding, Match, Sent, Stored, flagged, match_in_order, match_stamped
from tieline_sim.points import PointMap, PointRule, load_points
from tieline_sim.witness import read_records

_EXAMPLES: Final = 5
#: One poll may ask several times and wait a second each time; its readings carry the instant of its end.
_WALL_TOLERANCE_S: Final = 15.0
_COUNTS: Final = ("produced", "stored", "lost", "duplicated", "fabricated", "unrecorded_in_flight")


@dataclass
class _Said:
    """What the witness knows about one product point."""

    rule: PointRule
    substation: str
    stamped: bool
    #: Transmissions that must have arrived: answers, receipted meter messages.
    sent: list[Sent] = field(default_factory=list)
    #: By stamp: what may have arrived too (published, or sent and not receipted yet).
    offered: dict[int, Sent] = field(default_factory=dict)


def verify_run(state: Path, stored: Path, points: Path, gaps: Path | None = None) -> dict[str, Any]:
    """Compare a run with a store.

    Args:
        state: State folder of the run.
        stored: Parquet with columns point, measured_at, value, quality.
        points: Mapping file.
        gaps: Declared gaps, simulated time: ``[[start, end], ...]`` or ``{substation: [[start, end], ...]}``.

    Raises:
        SimulatorError: When a file cannot be read.
    """
    mapping = load_points(points)
    rows, markers = _read_stored(stored, mapping)
    said = _read_witness(state / "witness.jsonl", mapping)
    speed = _speeds(state / "clock.json")
    declared = _read_gaps(gaps)
    totals = dict.fromkeys(_COUNTS, 0)
    by_station: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(_COUNTS, 0))
    examples: dict[str, list[str]] = defaultdict(list)
    readbacks = 0
    digests: tuple[list[str], list[str]] = ([], [])
    for point in sorted(said.keys() | rows.keys()):
        known, found = said.get(point), rows.get(point, [])
        if known is None:
            counts = dict.fromkeys(_COUNTS, 0) | {"stored": len(found), "fabricated": len(found)}
            findings = [Finding("fabricated", row.micros, row.value, "no device transmits this point") for row in found]
            digests[1].extend(f"{point}|{row.micros}|{row.quality}|{row.value!r}" for row in found)
            station = point.split("/", 1)[0]
        else:
            if not found and known.rule.optional:
                continue
            silent = sorted(markers.get(point, []))
            match = _match(known, found, speed, declared.get(known.substation, []) + declared.get("", []), silent)
            counts, findings, station = _counts(match), match.findings, known.substation
            readbacks += match.readbacks
            _digest(point, match, digests)
        for name, count in counts.items():
            totals[name] += count
            by_station[station][name] += count
        for finding in findings:
            if len(examples[finding.kind]) < _EXAMPLES:
                examples[finding.kind].append(
                    f"{point} at {utc_text(finding.micros / 1e6)} value {finding.value}: {finding.why}"
                )
    sums = [hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest() for lines in digests]
    equal = sums[0] == sums[1]
    clean = equal and not totals["lost"] and not totals["duplicated"] and not totals["fabricated"]
    return {
        **totals,
        "checksum_sent": sums[0],
        "checksum_stored": sums[1],
        "checksum_equal": equal,
        "clean": clean,
        "unstored_readbacks": readbacks,
        "markers_without_number": sum(map(len, markers.values())),
        "points": len(said),
        "by_substation": dict(by_station),
        "examples": dict(examples),
    }


def _match(known: _Said, found: list[Stored], speed: Any, gaps: list[tuple[int, int]], markers: Sequence[int]) -> Match:
    def excusable(sent: Sent) -> bool:
        return sent.excusable and (
            any(start <= sent.micros <= end for start, end in gaps) or flagged(sent.micros, found, markers)
        )

    if known.stamped:
        match = match_stamped(known.sent, known.offered, found, known.rule.units)
    else:
        match = match_in_order(
            known.sent, found, known.rule.units, lambda micros: round(_WALL_TOLERANCE_S * speed(micros / 1e6) * 1e6)
        )
    match.excuse(excusable, known.rule.readback)
    return match


def _counts(match: Match) -> dict[str, int]:
    return {
        "produced": len(match.pairs) + len(match.missing) + len(match.excused),
        "stored": match.stored,
        "lost": len(match.missing),
        "duplicated": sum(row.kind == "duplicated" for row in match.findings),
        "fabricated": sum(row.kind == "fabricated" for row in match.findings),
        "unrecorded_in_flight": len(match.excused),
    }


def _digest(point: str, match: Match, digests: tuple[list[str], list[str]]) -> None:
    """Lines of both checksums: what was said and is not excused, and what is stored."""
    said = sorted(
        [(sent.micros, sent.number, sent.units) for sent, _ in match.pairs]
        + [(row.micros, row.number, row.units) for row in match.missing]
    )
    kept = sorted((row.micros, match.rule_units(row.value), row.quality) for row in match.rows)
    for ordinal, (micros, _, units) in enumerate(said):
        digests[0].append(f"{point}|{micros if match.stamped else ordinal}|good|{units}")
    for ordinal, (micros, units, quality) in enumerate(kept):
        digests[1].append(f"{point}|{micros if match.stamped else ordinal}|{quality}|{units}")


def _read_stored(path: Path, mapping: PointMap) -> tuple[dict[str, list[Stored]], dict[str, list[int]]]:
    """Rows with a number by point, in order of time; and the instants of rows without one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=["point", "measured_at", "value", "quality"])
    except (OSError, KeyError, pa.ArrowException) as error:
        raise SimulatorError(f"{path}: cannot be read as point, measured_at, value, quality: {error}") from error
    columns = [
        table["point"].cast(pa.string()).to_pylist(),
        table["measured_at"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_pylist(),
        table["value"].cast(pa.float64()).to_pylist(),
        table["quality"].cast(pa.string()).to_pylist(),
    ]
    rows: dict[str, list[Stored]] = defaultdict(list)
    markers: dict[str, list[int]] = defaultdict(list)
    ignored: dict[str, bool] = {}
    for point, micros, value, quality in zip(*columns, strict=True):
        if point not in ignored:
            ignored[point] = mapping.is_derived(point)
        if ignored[point]:
            continue
        if value is None:
            markers[point].append(micros)
        else:
            rows[point].append(Stored(micros, value, str(quality).lower()))
    for row in rows.values():
        row.sort(key=lambda item: item.micros)
    return dict(rows), markers


def _read_witness(path: Path, mapping: PointMap) -> dict[str, _Said]:
    """Everything said, by product point."""
    if not path.exists():
        raise SimulatorError(f"{path}: no witness log; is this the state folder of a run?")
    records = list(read_records(path))
    receipted = {row["id"] for row in records if row["kind"] == "receipt"}
    rules: dict[tuple[str, str, str], list[tuple[str, PointRule]]] = {}
    said: dict[str, _Said] = {}
    for row in records:
        if row["kind"] == "receipt":
            continue
        stamped = "ts" in row
        micros = _micros(row["ts"]) if stamped else round(row["t"] * 1e6)
        certain = row["kind"] == "response" or (row["kind"] == "sent" and row["id"] in receipted)
        for quantity, value in row["q"].items():
            key = row["sub"], row["dev"], quantity
            if key not in rules:
                rules[key] = _rules_of(mapping.rules, *key)
            for point, rule in rules[key]:
                known = said.setdefault(point, _Said(rule, row["sub"], stamped))
                sent = Sent(micros, row["n"], rule.units(value * rule.factor), row["kind"] == "response")
                if certain:
                    known.sent.append(sent)
                else:
                    known.offered[micros] = sent
    return said


def _rules_of(rules: Iterable[PointRule], substation: str, device: str, quantity: str) -> list[tuple[str, PointRule]]:
    found = [(rule.point_of(substation, device), rule) for rule in rules if rule.quantity == quantity]
    return [(point, rule) for point, rule in found if point is not None]


def _micros(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1e6)


def _speeds(path: Path) -> Any:
    """Function: largest speed within a wall second of a simulated instant."""
    segments: Sequence[dict[str, float]] = json.loads(path.read_text(encoding="utf-8"))["segments"]

    def speed(sim: float) -> float:
        best = 1.0
        for number, row in enumerate(segments):
            end = segments[number + 1]["sim_unix_s"] if number + 1 < len(segments) else float("inf")
            begin = row["sim_unix_s"] if number else float("-inf")
            if begin - row["speed"] <= sim <= end + row["speed"]:
                best = max(best, row["speed"])
        return best

    return speed


def _read_gaps(path: Path | None) -> dict[str, list[tuple[int, int]]]:
    """Gaps in microseconds by substation; "" for gaps of all."""
    if path is None:
        return {}
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        groups = tree if isinstance(tree, dict) else {"": tree}
        return {name: [(_gap_micros(start), _gap_micros(end)) for start, end in rows] for name, rows in groups.items()}
    except (OSError, ValueError, TypeError) as error:
        raise SimulatorError(f"{path}: gaps must be [[start, end], ...] or a mapping of such lists: {error}") from error


def _gap_micros(value: str | float) -> int:
    return _micros(value) if isinstance(value, str) else round(float(value) * 1e6)
