"""What a running agent knows of its time without the hub: gathered here, computed in :mod:`tieline_edge.control.autonomy`."""

from __future__ import annotations

from tieline_core.messages.desired import Autonomy
from tieline_edge.bootstrap import Composition
from tieline_edge.control.autonomy import Outlook, autonomy
from tieline_edge.control.facts import gather
from tieline_edge.drivers.capabilities import Capability


def autonomy_of(parts: Composition) -> Autonomy:
    """Hours of safe autonomy as things stand now, the outbox left out."""
    now, cycle, settings = parts.clock.now(), parts.cycle, parts.settings
    steered = any(Capability.HOLD_POWER in spec.capabilities for spec in cycle.specs.values())
    fresh = cycle.local is not None and (now - cycle.local.issued_at).total_seconds() <= 2.0 * settings.forecast.issue_every_s
    # A site with nothing to schedule is at its best in its default already.
    renewed = not steered or (settings.forecast.enabled and fresh)
    facts = gather(parts.image.freeze(now), settings.edge_id, cycle.specs, cycle.ages())
    return autonomy(Outlook(parts.plans.plans, cycle.local, renewed, parts.plans.network), cycle.specs, facts, now)
