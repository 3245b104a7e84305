"""Faults: each kind is one row of a table; which are active is world state.

To add one: a row in :data:`KINDS`, the place that looks for it (world, servers or links), one test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from tieline_sim.errors import ScenarioError, SimulatorError
from tieline_sim.scenario import FaultSpec, Scenario

#: Kind -> parameters it takes: name -> (types, must be given).
KINDS: Final[Mapping[str, Mapping[str, tuple[tuple[type, ...], bool]]]] = MappingProxyType(
    {
        "line_out": {"line": ((str,), True)},
        "tie_closed": {
            "substation": ((str,), True),
            "extra_kw": ((int, float), False),
            "to_loading_pct": ((int, float), False),
        },
        "surge": {"substation": ((str,), True), "factor": ((int, float), True)},
        "device_dead": {"substation": ((str,), True), "device": ((str,), True)},
        "sensor_bad": {"substation": ((str,), True), "node": ((str,), True)},
        "link_cut": {"links": ((list,), True)},
        "link_half_open": {"links": ((list,), True)},
    }
)


def check_fault(fault: FaultSpec, scenario: Scenario, source: str, key: str) -> None:
    """Refuse an unknown kind, an unknown or missing parameter, and names the scenario does not have.

    Raises:
        ScenarioError: Names file, key, value and reason.
    """
    known = KINDS.get(fault.kind)
    if known is None:
        raise ScenarioError(source, f"{key}.kind", fault.kind, f"is none of {', '.join(KINDS)}")
    for name, value in fault.params.items():
        if name not in known:
            raise ScenarioError(source, f"{key}.{name}", value, f"{fault.kind} takes only {', '.join(known)}")
        if not isinstance(value, known[name][0]):
            raise ScenarioError(
                source, f"{key}.{name}", value, f"must be {' or '.join(kind.__name__ for kind in known[name][0])}"
            )
    for name, (_, needed) in known.items():
        if needed and name not in fault.params:
            raise ScenarioError(source, f"{key}.{name}", None, "is missing")
    if fault.kind == "tie_closed" and len(fault.params.keys() & {"extra_kw", "to_loading_pct"}) != 1:
        raise ScenarioError(source, key, fault.params, "give either extra_kw or to_loading_pct")
    ids = [spec.id for spec in scenario.substations]
    if "substation" in fault.params and fault.params["substation"] not in ids:
        raise ScenarioError(source, f"{key}.substation", fault.params["substation"], f"is none of {', '.join(ids)}")
    for link in fault.params.get("links", []):
        if link not in scenario.links:
            raise ScenarioError(source, f"{key}.links", link, f"is none of {', '.join(scenario.links) or 'no links'}")


@dataclass
class FaultBoard:
    """Which of the scenario's faults are active, and what was fixed when they came."""

    known: Mapping[str, FaultSpec]
    active: set[str] = field(default_factory=set)
    #: Fault name -> numbers fixed at its onset, such as the power of a back-feed.
    fixed: dict[str, float] = field(default_factory=dict)

    def set(self, name: str, on: bool) -> bool:
        """Switch a fault; True when that changed something.

        Raises:
            SimulatorError: When the scenario has no fault of that name.
        """
        if name not in self.known:
            raise SimulatorError(f"no fault {name!r}; known are {', '.join(self.known) or 'none'}")
        if on == (name in self.active):
            return False
        if on:
            self.active.add(name)
        else:
            self.active.discard(name)
            self.fixed.pop(name, None)
        return True

    def of_kind(self, kind: str) -> list[tuple[str, Mapping[str, Any]]]:
        """Active faults of a kind with their parameters, by name."""
        return [(name, self.known[name].params) for name in sorted(self.active) if self.known[name].kind == kind]

    def to_state(self) -> dict[str, Any]:
        """For the state file."""
        return {"active": sorted(self.active), "fixed": self.fixed}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`to_state` gave; names the scenario no longer has are dropped."""
        self.active = {name for name in state["active"] if name in self.known}
        self.fixed = dict(state["fixed"])
