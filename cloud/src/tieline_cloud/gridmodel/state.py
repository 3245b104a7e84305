"""The state of the whole grid from the last values of a few points: what the console colours."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray

from tieline_cloud.gridmodel.allocation import allocate, bus_area
from tieline_cloud.gridmodel.model import BoolArray, FloatArray, GridModel
from tieline_cloud.powerflow.solver import PowerFlow
from tieline_core.ids import PointId
from tieline_core.quantities import Reading

STALE_AFTER = timedelta(minutes=30)


class StateQuality(IntFlag):
    """How far a bus or branch can be trusted; 0 = from fresh measurements."""

    GOOD = 0
    SUBSTITUTED = 1
    """The power of its feeder or substation was missing, bad or stale."""
    DEAD = 2
    """Not connected to a source: 0 V and 0 % are facts."""
    NOT_RATED = 4
    """A bus coupler: it has no loading."""


@dataclass(frozen=True, slots=True)
class GridState:
    """One state, in the order of :func:`tieline_cloud.gridmodel.geojson.topology_arrays`.

    Attributes:
        at: Instant the state is for, aware UTC.
        topology_hash: Of the grid it belongs to.
        loading_pct: Lines, transformers, couplers [branch + switch].
        vm_pu: Buses [bus].
        branch_quality, bus_quality: :class:`StateQuality` bits.
        source_p_w: Drawn from upstream.
        losses_w: Of all branches.
    """

    at: datetime
    topology_hash: str
    loading_pct: FloatArray
    vm_pu: FloatArray
    branch_quality: NDArray[np.uint8]
    bus_quality: NDArray[np.uint8]
    source_p_w: float
    losses_w: float


def _prefixes(grid: GridModel) -> tuple[dict[str, str], dict[str, str]]:
    """Where feeders, by area, and transformers, by edge, are measured."""
    feeders = {area: f"primary/{area}" for area in grid.buses.area if area is not None}
    return feeders, {substation.edge_id: substation.transformer for substation in grid.substations}


def points_used(grid: GridModel) -> list[PointId]:
    """Every point :func:`estimate_state` looks at; a name in the network that no point can have is left out."""
    points = []
    for prefix in sorted({prefix for names in _prefixes(grid) for prefix in names.values()}):
        with suppress(ValueError):
            points += [PointId(f"{prefix}/{quantity}") for quantity in ("p_w", "q_var")]
    return points


def estimate_state(
    grid: GridModel,
    last_values: Mapping[str, Reading],
    at: datetime,
    engine: PowerFlow | None = None,
    stale_after: timedelta = STALE_AFTER,
) -> GridState:
    """Allocate the last measurements to the buses and solve.

    Args:
        grid: The network.
        last_values: By point id; used are ``primary/<feeder>/p_w``, ``.../q_var`` and each transformer's own
            ``<edge>/tr1/p_w``, ``.../q_var``. Missing, bad and stale ones are substituted and marked.
        at: Instant of the state.
        engine: A power flow of the same grid, to save building one.
        stale_after: Older values are not used.

    Raises:
        PowerFlowDivergedError: When the powers have no solution.
    """

    def fresh(prefixes: Mapping[str, str], quantity: str) -> dict[str, float]:
        out = {}
        for name, prefix in prefixes.items():
            reading = last_values.get(f"{prefix}/{quantity}")
            if reading and reading.value is not None and reading.quality.usable and at - reading.measured_at <= stale_after:
                out[name] = reading.value
        return out

    feeders, transformers = _prefixes(grid)
    powers = allocate(
        grid, fresh(feeders, "p_w"), fresh(transformers, "p_w"), fresh(feeders, "q_var"), fresh(transformers, "q_var")
    )
    solved = (engine or PowerFlow(grid)).solve(powers.p_w[0], powers.q_var[0])
    bus_quality = _bus_quality(grid, solved.energised, set(powers.substituted))
    couplers = np.full(len(grid.switches), StateQuality.NOT_RATED, dtype=np.uint8)
    table = grid.branches
    ends = bus_quality[table.from_bus] | bus_quality[table.to_bus]
    dead = ~(solved.energised[table.from_bus] & table.from_closed) & ~(solved.energised[table.to_bus] & table.to_closed)
    branch_quality = (ends & ~np.uint8(StateQuality.DEAD)) | np.where(dead, StateQuality.DEAD, 0).astype(np.uint8)
    return GridState(
        at=at,
        topology_hash=grid.topology_hash,
        loading_pct=np.concatenate([solved.loading_pct, np.zeros(len(grid.switches))]),
        vm_pu=solved.vm_pu,
        branch_quality=np.concatenate([branch_quality, couplers]),
        bus_quality=bus_quality,
        source_p_w=float(solved.source_p_w),
        losses_w=float(solved.losses_w),
    )


def _bus_quality(grid: GridModel, energised: BoolArray, substituted: set[str]) -> NDArray[np.uint8]:
    out = np.where(energised, StateQuality.GOOD, StateQuality.DEAD).astype(np.uint8)
    table = grid.injections
    loaded = {int(bus) for bus, kind in zip(table.bus, table.kinds, strict=True) if kind == "load"}
    for bus in range(len(grid.buses)):
        area = bus_area(grid, bus)
        # Outside the feeders only the buses with a load of their own are guessed; the busbar's voltage is not.
        if area in substituted and (area or bus in loaded):
            out[bus] |= StateQuality.SUBSTITUTED
    for substation in grid.substations:
        if substation.edge_id in substituted:
            out[substation.lv_bus] |= StateQuality.SUBSTITUTED
    return out
