"""A site file out of what was found: it passes ``check-config``, and it operates nothing that nobody has vouched for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import yaml

from tieline_edge.commissioning.finding import Finding
from tieline_edge.drivers.capabilities import Capability
from tieline_edge.drivers.catalog.entry import CatalogEntry
from tieline_edge.drivers.catalog.load import entry

_HEAD = """\
# Proposed by 'tieline-edge scan'. Read every line: a scan sees registers, not cables.
edge_id: {edge}
state_dir: /var/lib/tieline/{edge}
site: {{name: {edge}, rated_va: 630000}}   # rating of the feeding transformer
hub:
  mqtt: {{host: hub.example, port: 8883}}   # where the hub's broker is
  http: https://hub.example
  public_keys: []   # from 'tieline-cloud keygen'; without one the edge only monitors
"""


def proposal(findings: Sequence[Finding], edge: str | None = None) -> str:
    """YAML with comments: a whole site file for an edge id, else only its ``devices`` list.

    Devices of which it only looks as if an entry fits stand as comments, unless all the entry does is measure.
    """
    lines = [_HEAD.format(edge=edge).rstrip("\n")] if edge is not None else []
    rows = [line for name, finding in _named(findings) for line in _device(name, finding)]
    named = any(line.startswith("  - id:") for line in rows)
    lines.append("devices:" if named else "devices: []   # nothing that can be proposed without you; see below")
    return "\n".join([*lines, *rows]) + "\n"


def _named(findings: Sequence[Finding]) -> Iterator[tuple[str, Finding]]:
    """Each finding with a proposed id: role and number, counted by role and of even width, so that lists sort well."""
    roles = [entry(finding.entries[0]).role.value if finding.entries else "" for finding in findings]
    counts, width = Counter[str](), {role: len(str(count)) for role, count in Counter(roles).items()}
    for role, finding in zip(roles, findings, strict=True):
        counts[role] += 1
        yield f"{role}{counts[role]:0{width[role]}d}", finding


def _device(name: str, finding: Finding) -> Iterator[str]:
    yield from (f"  # {text}" for text in (finding.text, *finding.details))
    if not finding.entries:
        yield f"  # at {_flow(finding.place)}"
        return
    chosen = entry(finding.entries[0])
    if len(finding.entries) > 1:
        yield f"  # also fits: {', '.join(finding.entries[1:])}"
    asked = set(chosen.capabilities) - {Capability.MEASURE}
    hold = "" if finding.certain or not asked else "# "
    if hold:
        yield f"  # it only looks like {chosen.name}, which can be operated: uncomment it once the nameplate says so"
    yield f"  {hold}- id: {name}"
    yield f"  {hold}  catalog: {chosen.name}"
    yield f"  {hold}  {finding.protocol}: {_flow(finding.place)}"
    yield from (f"  {hold}  {line}" for line in _ratings(chosen, finding.ratings))


def _ratings(chosen: CatalogEntry, ratings: Mapping[str, float]) -> Iterator[str]:
    """Keys the device needs: as it says itself, else so that nothing happens until a person gives them."""
    told = "   # as the device says"
    if Capability.HOLD_POWER in chosen.capabilities:
        unknown = "   # NOT KNOWN: nothing flows until you give it (W, load convention)"
        for key in ("p_min_w", "p_max_w"):
            yield f"{key}: {ratings[key]:.10g}{told}" if key in ratings else f"{key}: 0{unknown}"
        energy = ratings.get("energy_wh")
        yield f"energy_wh: {energy:.10g}{told}" if energy else "energy_wh: 1   # NOT KNOWN: usable capacity in Wh"
    elif Capability.LIMIT_GENERATION in chosen.capabilities:
        rating = ratings.get("p_min_w")
        unknown = "p_min_w: -1   # NOT KNOWN: the rating, below 0 W (generation is negative)"
        yield f"p_min_w: {rating:.10g}{told}" if rating else unknown
    if Capability.SWITCH in chosen.capabilities:
        yield "priority_class: 0   # vital, never shed, until you give its class (higher goes first)"


def _flow(place: Mapping[str, object]) -> str:
    return yaml.safe_dump(dict(place), default_flow_style=True, sort_keys=False, width=500).strip()
