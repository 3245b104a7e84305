"""What goes wrong in which round: a function of the seed alone, so that a campaign can be repeated."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

#: Points at which a sender can be told to kill itself in its next life, see :mod:`tests.faults.sender`.
DEATHS: Final = ("appended", "committed", "acknowledged", "relabelled")
#: Faults by kind of target, each with its weight.
FAULTS: Final[dict[str, dict[str, int]]] = {
    "edge": {"kill": 4, "doom": 4, "freeze": 2, "event": 1, "burst": 2},
    "link": {
        "cut": 3, "flap": 2, "half_open": 3, "deaf": 2, "mute": 2, "slow": 2, "stalls": 2,
        "duplicates": 3, "reordering": 3, "packet_loss": 2, "back_duplicates": 2,
    },
    "hub": {"kill": 4, "terminate": 1, "freeze": 2},
    "broker": {"kill": 4, "freeze": 1},
    "hub_link": {
        "cut": 3, "flap": 2, "half_open": 3, "deaf": 2, "mute": 2, "duplicates": 3, "reordering": 3, "back_duplicates": 2,
    },
    "clock": {"step": 4, "restore": 1},
}  # fmt: skip
#: How often each kind of target is chosen.
_CHOSEN: Final = {"edge": 5, "link": 5, "hub": 2, "broker": 2, "hub_link": 3, "clock": 2}
#: These need some messages to be seen.
_LONG: Final = ("duplicates", "reordering", "back_duplicates", "deaf", "mute")
#: Steps of a wall clock [s].
_STEPS: Final = (-7200.0, -3600.0, -61.0, -1.0, 0.7, 30.0, 3600.0, 7200.0)


@dataclass(frozen=True, slots=True)
class Action:
    """One fault of a round.

    Attributes:
        target: ``edge``, ``link`` (of an edge), ``hub``, ``broker``, ``hub_link`` or ``clock``.
        name: Of the edge; of the clock: an edge or ``hub``.
        fault: One of :data:`FAULTS`.
        at_s: Moment in the round.
        lasts_s: Until it is over, for what has an end.
        detail: A point of death, a step, a number.
    """

    target: str
    name: str
    fault: str
    at_s: float
    lasts_s: float
    detail: Any = None

    def row(self) -> dict[str, Any]:
        """For the history."""
        return asdict(self)


def round_actions(seed: int, number: int, edges: Sequence[str]) -> list[Action]:
    """The faults of a round: one to three, no target twice."""
    rng = random.Random(f"{seed}/{number}")
    found: dict[tuple[str, str], Action] = {}
    for _ in range(rng.choice((1, 1, 2, 2, 3))):
        target = rng.choices(list(_CHOSEN), list(_CHOSEN.values()))[0]
        name = target
        if target in ("edge", "link"):
            name = rng.choice(edges)
        elif target == "clock":
            name = rng.choice([*edges, "hub"])
        fault = rng.choices(list(FAULTS[target]), list(FAULTS[target].values()))[0]
        at_s, lasts_s = round(rng.uniform(0.0, 0.5), 3), round(rng.uniform(0.05, 0.6), 3)
        if fault in _LONG:
            lasts_s += 0.4
        found.setdefault((target, name), Action(target, name, fault, at_s, lasts_s, _detail(fault, rng)))
    return sorted(found.values(), key=lambda action: action.at_s)


def _detail(fault: str, rng: random.Random) -> Any:
    if fault == "doom":
        return [rng.choice(DEATHS), rng.randint(1, 12)]
    if fault == "step":
        return rng.choice(_STEPS)
    if fault == "burst":
        return rng.randint(5, 40)
    return None
