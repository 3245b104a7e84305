"""Several edges under one upstream element: shares from the hub, or delays that differ when nobody has sent any."""

from __future__ import annotations

import hashlib

from tieline_core.ids import DeviceId, EdgeId
from tieline_edge.shedding.rule import RuleSite


def stagger_s(edge: EdgeId, element: DeviceId, spread_s: float) -> float:
    """A delay in [0, spread_s) that follows from the names alone: the same at every start, another one at every edge [s]."""
    digest = hashlib.sha256(f"{edge}/{element}".encode()).digest()
    return spread_s * int.from_bytes(digest[:4], "big") / 2**32


def share_and_delay(site: RuleSite, element: DeviceId) -> tuple[float, float]:
    """This edge's share of the relief of an element, and the addition to its holds [s].

    An element of its own is relieved in full at once. A shared one is relieved by the hub's share; without one in full, but
    later than the holds say, so that edges act one after the other and each sees what the others did.
    """
    if element not in site.settings.shared:
        return 1.0, 0.0
    share = site.shares.get(element)
    if share is not None:
        return share, 0.0
    return 1.0, stagger_s(site.edge, element, site.settings.switching.stagger_s)
