"""The lowest flat top that several batteries reach together, exact: stored energy as a flow through time.

Energy runs from the steps below the top, where it may be taken in, through the batteries and on through time, to the steps
above it, where it is delivered. A top can be kept exactly when such a flow serves all that lies above it. Where the flow is
stuck, what can still be reached backwards from the step that lacks something is a cut, and no top can be kept below the one
at which this cut would be just wide enough: the next attempt begins there. This is Newton's method on a parametric cut
(Dinkelbach 1967, Radzik 1992); it ends after a few steps, at the lowest top.

Steps are served one after the other, each by the shortest way, so that energy is taken in late.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tieline_edge.control.battery import EFFICIENCY, Battery

_EPS_WH: Final = 1e-7
_BISECTIONS: Final = 60
#: Smallest raise of the top from one attempt to the next [W].
_LEAST_W: Final = 1e-3
_SOURCE: Final = 0


class _Flow:
    """The network of all steps and batteries; only what is above and below the top depends on it.

    Nodes: the source; a step's supply; a step's demand; a battery in a step. Each edge is followed by its reverse.
    """

    def __init__(self, load_w: NDArray[np.float64], batteries: Sequence[Battery], hours: float) -> None:
        self._load_w, self._hours, self.steps = load_w, hours, load_w.size
        self._edges_of: list[list[int]] = [[] for _ in range(1 + (2 + len(batteries)) * self.steps)]
        self._to: list[int] = []
        #: What each edge takes [Wh] apart from supplies, which come with the top.
        self._takes: list[float] = []
        self._supplies = [self._edge(_SOURCE, self.supply(step), 0.0) for step in range(self.steps)]
        self._charges: list[list[int]] = []
        self._delivers: list[list[int]] = []
        for number, battery in enumerate(batteries):
            at = [1 + (2 + number) * self.steps + step for step in range(self.steps)]
            self._edge(_SOURCE, at[0], battery.stored_wh)
            most_in, most_out = battery.charge_w * hours * EFFICIENCY, battery.discharge_w * hours / EFFICIENCY
            self._charges.append([self._edge(self.supply(step), at[step], most_in) for step in range(self.steps)])
            self._delivers.append([self._edge(at[step], self.demand(step), most_out) for step in range(self.steps)])
            for step in range(self.steps - 1):
                self._edge(at[step], at[step + 1], battery.room_wh)

    def supply(self, step: int) -> int:
        """Where energy is taken in."""
        return 1 + step

    def demand(self, step: int) -> int:
        """Where energy is delivered."""
        return 1 + self.steps + step

    def _edge(self, start: int, end: int, takes_wh: float) -> int:
        edge = len(self._to)
        self._to += [end, start]
        self._takes += [takes_wh, 0.0]
        self._edges_of[start].append(edge)
        self._edges_of[end].append(edge + 1)
        return edge

    def _above_wh(self, top_w: float) -> NDArray[np.float64]:
        above: NDArray[np.float64] = np.maximum(0.0, self._load_w - top_w) * self._hours / EFFICIENCY
        return above

    def _below_wh(self, top_w: float) -> NDArray[np.float64]:
        below: NDArray[np.float64] = np.maximum(0.0, top_w - self._load_w) * self._hours * EFFICIENCY
        return below

    def serve(self, top_w: float) -> tuple[list[float], set[int] | None]:
        """Serve everything above a top.

        Returns:
            What each edge could still take [Wh], and None; or, where something is not served, the nodes from which it could
            still be reached.
        """
        left = list(self._takes)
        for edge, below_wh in zip(self._supplies, self._below_wh(top_w).tolist(), strict=True):
            left[edge] = below_wh
        for step, above_wh in enumerate(self._above_wh(top_w).tolist()):
            unserved_wh = above_wh
            while unserved_wh > _EPS_WH:
                way, seen = self._way_to(self.demand(step), left)
                if way is None:
                    return left, seen
                part = min(unserved_wh, *(left[edge] for edge in way))
                for edge in way:
                    left[edge] -= part
                    left[edge ^ 1] += part
                unserved_wh -= part
        return left, None

    def _way_to(self, end: int, left: list[float]) -> tuple[list[int] | None, set[int]]:
        """The shortest way from the source on edges that still take something; else what could reach the end."""
        onward: dict[int, int] = {end: -1}
        waiting = deque([end])
        while waiting:
            node = waiting.popleft()
            for back in self._edges_of[node]:
                edge, before = back ^ 1, self._to[back]
                if left[edge] <= _EPS_WH or before in onward:
                    continue
                onward[before] = edge
                if before == _SOURCE:
                    return self._path(onward), set()
                waiting.append(before)
        return None, set(onward)

    def _path(self, onward: dict[int, int]) -> list[int]:
        path, node = [], _SOURCE
        while (edge := onward[node]) >= 0:
            path.append(edge)
            node = self._to[edge]
        return path

    def wide_enough_w(self, cut: set[int], top_w: float) -> float:
        """The top at which all that a cut has to let through just passes it; above the given one, where it does not [W]."""
        needs = np.array([self.demand(step) in cut for step in range(self.steps)])
        takes = np.array([self.supply(step) in cut for step in range(self.steps)])
        fixed_wh = sum(self._takes[back ^ 1] for node in cut for back in self._edges_of[node] if self._to[back] not in cut)

        def lacks_wh(at_w: float) -> float:
            return float(self._above_wh(at_w)[needs].sum() - self._below_wh(at_w)[takes].sum()) - fixed_wh

        low, high = top_w, float(self._load_w.max())
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2.0
            low, high = (middle, high) if lacks_wh(middle) > 0.0 else (low, middle)
        return high

    def powers_w(self, left: list[float]) -> NDArray[np.float64]:
        """Signed power by battery and step, charging > 0 [W]."""

        def used_wh(edges: list[list[int]]) -> NDArray[np.float64]:
            return np.array([[left[edge ^ 1] for edge in row] for row in edges])

        power: NDArray[np.float64] = (used_wh(self._charges) / EFFICIENCY - used_wh(self._delivers) * EFFICIENCY) / self._hours
        return power


def share_top(
    load_w: NDArray[np.float64], batteries: Sequence[Battery], step_s: float, at_least_w: float
) -> NDArray[np.float64]:
    """Powers that leave the lowest flat top; a step above it only delivers, one below it only charges.

    Args:
        load_w: Load by step [W], shape (n,), n >= 1.
        batteries: What can be moved.
        step_s: Length of a step [s].
        at_least_w: A top below which none can be kept [W].

    Returns:
        Signed power by battery and step, charging > 0 [W], shape (batteries, n).
    """
    flow, top_w = _Flow(load_w, batteries, step_s / 3600.0), at_least_w
    while True:
        left, cut = flow.serve(top_w)
        if cut is None:
            powers = flow.powers_w(left)
            for power, battery in zip(powers, batteries, strict=True):
                _keep_room(power, battery, step_s / 3600.0)
            return powers
        top_w = max(flow.wide_enough_w(cut, top_w), top_w + _LEAST_W)


def _keep_room(power_w: NDArray[np.float64], battery: Battery, hours: float) -> None:
    """Leave out what a battery has no room for, in place.

    A flow takes of what is stored at the start only what it needs, and may take in more although the battery is full of the
    rest. That rest then serves in place of what is left out.
    """
    stored_wh = battery.stored_wh
    for step, power in enumerate(power_w.tolist()):
        if power > 0.0:
            power_w[step] = min(power, max(0.0, battery.room_wh - stored_wh) / (hours * EFFICIENCY))
            stored_wh += float(power_w[step]) * hours * EFFICIENCY
        else:
            stored_wh += power * hours / EFFICIENCY
