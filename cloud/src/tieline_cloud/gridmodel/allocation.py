"""Load allocation: from feeder-head measurements to every bus.

What a feeder draws beyond its metered substations is spread over its unmetered buses in proportion to their nominal
load. A feeder without a measurement is taken at the mean utilisation of the measured ones and reported as substituted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tieline_cloud.gridmodel.model import FloatArray, GridModel
from tieline_core.errors import BadInputError

SOURCE = "load allocation"
#: Reactive over active power where nothing better is known (power factor 0.97).
DEFAULT_TAN_PHI = 0.25

Series = FloatArray | float


@dataclass(frozen=True, slots=True)
class NodalPowers:
    """Powers drawn at each bus [T, bus], load convention.

    Attributes:
        substituted: Areas (feeders; "" = outside any feeder) and edges whose power was not measured.
    """

    p_w: FloatArray
    q_var: FloatArray
    substituted: tuple[str, ...]

    def rest(self, grid: GridModel) -> NodalPowers:
        """The same without the substations: the ``rest`` of a planning problem."""
        p_w, q_var = self.p_w.copy(), self.q_var.copy()
        columns = [substation.lv_bus for substation in grid.substations]
        p_w[:, columns] = 0.0
        q_var[:, columns] = 0.0
        return NodalPowers(p_w, q_var, self.substituted)


def bus_area(grid: GridModel, bus: int) -> str:
    """Feeder of a bus; a substation's LV bus without one takes that of its MV bus; "" when there is none."""
    area = grid.buses.area[bus]
    if area is None:
        for substation in grid.substations:
            if substation.lv_bus == bus:
                area = grid.buses.area[substation.mv_bus]
    return area or ""


def _series(values: Mapping[str, Series], steps: int, kind: str) -> dict[str, FloatArray]:
    out = {}
    for name, value in values.items():
        array = np.broadcast_to(np.asarray(value, dtype=np.float64), (steps,))
        if not np.isfinite(array).all():
            raise BadInputError(SOURCE, f"{kind}.{name}", value, "is not a finite number")
        out[name] = array
    return out


def allocate(
    grid: GridModel,
    feeder_p_w: Mapping[str, Series],
    substation_p_w: Mapping[str, Series],
    feeder_q_var: Mapping[str, Series] | None = None,
    substation_q_var: Mapping[str, Series] | None = None,
) -> NodalPowers:
    """Spread measured powers over the buses.

    Args:
        grid: The network.
        feeder_p_w: Active power at the feeder head by feeder, numbers or [T]; positive = into the feeder.
        substation_p_w: Net active power of metered substations by edge.
        feeder_q_var, substation_q_var: Reactive power likewise; without it the nominal power factor holds.

    Raises:
        BadInputError: For an unknown feeder or edge, lengths that differ, or a number that is not finite.
    """
    areas = [bus_area(grid, bus) for bus in range(len(grid.buses))]
    edges = {substation.edge_id: substation for substation in grid.substations}
    inputs = (feeder_p_w, substation_p_w, feeder_q_var or {}, substation_q_var or {})
    for names, known in zip(inputs, (set(areas), set(edges)) * 2, strict=True):
        for name in names:
            if name not in known:
                raise BadInputError(SOURCE, name, name, f"the network knows only {sorted(known - {''})}")
    lengths = {len(np.atleast_1d(np.asarray(value))) for values in inputs for value in values.values() if np.ndim(value)}
    if len(lengths) > 1:
        raise BadInputError(SOURCE, "", sorted(lengths), "all series need the same number of steps")
    steps = lengths.pop() if lengths else 1
    feeder_p, site_p, feeder_q, site_q = (
        _series(values, steps, kind) for values, kind in zip(inputs, ("feeder", "substation") * 2, strict=True)
    )
    p_nom, q_nom = _nominal(grid)
    shares = _Shares(np.array(areas), p_nom, q_nom)
    p_w, substituted = shares.spread(_residual(grid, feeder_p, site_p), steps)
    q_w = shares.reactive(p_w, _residual(grid, feeder_q, site_q), feeder_q)
    for edge, substation in edges.items():
        if edge in site_p:
            p_w[:, substation.lv_bus] = site_p[edge]
            q_w[:, substation.lv_bus] = site_q.get(edge, DEFAULT_TAN_PHI * site_p[edge])
        else:
            substituted.append(edge)
    return NodalPowers(p_w, q_w, tuple(substituted))


def _nominal(grid: GridModel) -> tuple[FloatArray, FloatArray]:
    """Nominal load by bus, substations' LV buses left out: they are metered."""
    table = grid.injections
    is_load = np.array([kind == "load" for kind in table.kinds], dtype=np.bool_)
    p, q = np.zeros(len(grid.buses)), np.zeros(len(grid.buses))
    np.add.at(p, table.bus[is_load], table.p_nom_w[is_load])
    np.add.at(q, table.bus[is_load], table.q_nom_var[is_load])
    for substation in grid.substations:
        p[substation.lv_bus] = q[substation.lv_bus] = 0.0
    return np.maximum(p, 0.0), q


def _residual(grid: GridModel, feeder: Mapping[str, FloatArray], site: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Feeder measurement less its metered substations."""
    out = {name: values.copy() for name, values in feeder.items()}
    for substation in grid.substations:
        area = bus_area(grid, substation.lv_bus)
        if area in out and substation.edge_id in site:
            out[area] -= site[substation.edge_id]
    return out


@dataclass(frozen=True, slots=True)
class _Shares:
    """Nominal loads by bus, and the area of each bus."""

    area: np.ndarray[tuple[int], np.dtype[np.str_]]
    p_nom: FloatArray
    q_nom: FloatArray

    def spread(self, residual: Mapping[str, FloatArray], steps: int) -> tuple[FloatArray, list[str]]:
        """Active power of each bus [T, bus] and the areas that had to be substituted."""
        p_w = np.zeros((steps, len(self.p_nom)))
        nominal = {str(area): float(self.p_nom[self.area == area].sum()) for area in np.unique(self.area)}
        measured = [area for area in residual if nominal[area] > 0]
        total = sum(nominal[area] for area in measured)
        use = sum((residual[area] for area in measured), np.zeros(steps)) / total if total else np.ones(steps)
        substituted = []
        for area, load in nominal.items():
            rows = self.area == area
            if load > 0:
                per_nominal = residual[area] / load if area in residual else use
                p_w[:, rows] = per_nominal[:, None] * self.p_nom[rows]
            if area not in residual and load > 0:
                substituted.append(area)
        return p_w, substituted

    def reactive(self, p_w: FloatArray, residual: Mapping[str, FloatArray], measured: Mapping[str, FloatArray]) -> FloatArray:
        """Reactive power of each bus [T, bus]: the measurement spread likewise, else the nominal power factor."""
        tan_phi = np.divide(self.q_nom, self.p_nom, out=np.full(self.p_nom.shape, DEFAULT_TAN_PHI), where=self.p_nom > 0)
        q_var: FloatArray = p_w * tan_phi
        for area in measured:
            rows = self.area == area
            load = float(self.p_nom[rows].sum())
            if load > 0:
                q_var[:, rows] = residual[area][:, None] * self.p_nom[rows] / load
        return q_var
