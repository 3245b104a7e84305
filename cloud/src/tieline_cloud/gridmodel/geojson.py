"""The network for people and screens: GeoJSON for GIS tools, compact arrays for the console."""

from __future__ import annotations

import math
from typing import Any

from tieline_cloud.gridmodel.model import GridModel

#: Shift of a substation's LV bus against its MV node, so that both can be seen [degrees].
LV_OFFSET_DEG = 0.0003


def coordinates(grid: GridModel) -> list[tuple[float, float] | None]:
    """Longitude and latitude of each bus; LV buses without any stand beside their MV node; None = unknown."""
    out: list[tuple[float, float] | None] = [
        None if math.isnan(x) or math.isnan(y) else (float(x), float(y))
        for x, y in zip(grid.buses.x, grid.buses.y, strict=True)
    ]
    for substation in grid.substations:
        above = out[substation.mv_bus]
        if above is not None and out[substation.lv_bus] in (None, above):
            out[substation.lv_bus] = (above[0] + LV_OFFSET_DEG, above[1] - LV_OFFSET_DEG)
    return out


def _feature(kind: str, shape: object, properties: dict[str, Any]) -> dict[str, Any]:
    geometry = None if shape is None else {"type": kind, "coordinates": shape}
    return {"type": "Feature", "id": properties["id"], "geometry": geometry, "properties": properties}


def geojson(grid: GridModel) -> dict[str, Any]:
    """The topology as a GeoJSON FeatureCollection (RFC 7946).

    Buses are points with ``kv``, limits and area; lines, transformers and couplers are line strings with their rating
    [VA], position and end buses. A geometry is null where the file has no coordinates.
    """
    places = coordinates(grid)
    buses, branches, switches = grid.buses, grid.branches, grid.switches
    features = [
        _feature(
            "Point",
            None if places[bus] is None else list(places[bus] or ()),
            {
                "id": name,
                "element": "bus",
                "kv": float(buses.kv[bus]),
                "min_pu": float(buses.min_pu[bus]),
                "max_pu": float(buses.max_pu[bus]),
                "area": buses.area[bus],
            },
        )
        for bus, name in enumerate(buses.ids)
    ]

    def span(start: int, end: int) -> list[list[float]] | None:
        one, other = places[start], places[end]
        return None if one is None or other is None else [list(one), list(other)]

    def branch(name: str, kind: str, ends: tuple[int, int], rating_va: float | None, closed: bool) -> dict[str, Any]:
        properties = {
            "id": name,
            "element": kind,
            "from": buses.ids[ends[0]],
            "to": buses.ids[ends[1]],
            "kv": float(buses.kv[ends[0]]),
            "rating_va": rating_va,
            "closed": closed,
            "area": buses.area[ends[1]],
        }
        return _feature("LineString", span(*ends), properties)

    for row, name in enumerate(branches.ids):
        ends = (int(branches.from_bus[row]), int(branches.to_bus[row]))
        rating = float(branches.rating_va[row])
        features.append(branch(name, branches.kinds[row], ends, rating, bool(branches.closed[row])))
    for row, name in enumerate(switches.ids):
        ends = (int(switches.from_bus[row]), int(switches.to_bus[row]))
        features.append(branch(name, "switch", ends, None, bool(switches.closed[row])))
    return {"type": "FeatureCollection", "topology_hash": grid.topology_hash, "features": features}


def topology_arrays(grid: GridModel) -> dict[str, Any]:
    """Compact topology of the console: columns in a fixed order, branches = lines, transformers, couplers.

    The grid state counts in the same order. ``x`` and ``y`` are null where unknown, ``f`` and ``t`` are positions
    among the nodes, ``area`` is a position in ``areas``, ``open`` is 0 or 1, ``rating`` is in VA and null for couplers.
    """
    buses, branches, switches = grid.buses, grid.branches, grid.switches
    places = coordinates(grid)
    areas = sorted({area for area in buses.area if area is not None})
    position = {area: row for row, area in enumerate(areas)}
    return {
        "topology_hash": grid.topology_hash,
        "areas": areas,
        "nodes": {
            "id": list(buses.ids),
            "x": [None if place is None else place[0] for place in places],
            "y": [None if place is None else place[1] for place in places],
            "kv": buses.kv.tolist(),
            "min_pu": buses.min_pu.tolist(),
            "max_pu": buses.max_pu.tolist(),
            "area": [None if area is None else position[area] for area in buses.area],
        },
        "branches": {
            "id": [*branches.ids, *switches.ids],
            "f": [*branches.from_bus.tolist(), *switches.from_bus.tolist()],
            "t": [*branches.to_bus.tolist(), *switches.to_bus.tolist()],
            "kind": [*branches.kinds, *("switch" for _ in switches.ids)],
            "open": [int(not closed) for closed in [*branches.closed.tolist(), *switches.closed.tolist()]],
            "rating": [*branches.rating_va.tolist(), *(None for _ in switches.ids)],
        },
        "substations": {
            "edge_id": [substation.edge_id for substation in grid.substations],
            "node": [substation.lv_bus for substation in grid.substations],
            "branch": [substation.branch for substation in grid.substations],
        },
    }
