"""Who else may claim: parts of the agent that are asked in every cycle, beside rules, commands and plans."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from tieline_edge.control.claims import Claim
from tieline_edge.shedding.rule import RuleView


class Speaker(Protocol):
    """Something that has claims of its own, e.g. maintenance tags or the limits of the network.

    A new one is one file and one line in :func:`tieline_edge.bootstrap.speakers`.
    """

    def claims(self, view: RuleView) -> Iterable[Claim]:
        """What it wants in this cycle; must not wait for anything."""
        ...
