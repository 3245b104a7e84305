"""Import of a published network (pandapower JSON) into a :class:`GridModel`, with every complaint named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tieline_cloud.gridmodel import branches as branch_models
from tieline_cloud.gridmodel.model import (
    Branches,
    Buses,
    FloatArray,
    GridModel,
    InjectionKind,
    Injections,
    IntArray,
    Sources,
    Substation,
    Switches,
    topology_hash,
)
from tieline_cloud.gridmodel.tables import Table, Tables, read_tables
from tieline_core.errors import BadInputError
from tieline_core.ids import DeviceId, EdgeId

#: Voltage band by rated voltage: LV +-10 % (EN 50160), MV +-5 % (usual planning band), above MV +-10 %.
LV_BAND, MV_BAND, HV_BAND = 0.10, 0.05, 0.10
LV_UP_TO_KV, MV_UP_TO_KV = 1.0, 45.0

#: Elements that would change the result and that we do not model; in-service rows are refused, never passed over.
UNSUPPORTED = {
    "gen": "voltage-controlled machines (PV buses) are not solved; publish them as sgen",
    "trafo3w": "three-winding transformers are not understood",
    "impedance": "impedance elements are not understood",
    "shunt": "shunts are not understood",
    "ward": "wards are not understood",
    "xward": "extended wards are not understood",
    "dcline": "DC lines are not understood",
    "motor": "motors are not understood; publish them as load",
    "svc": "static var compensators are not understood",
    "tcsc": "series compensators are not understood",
}


#: Zone of the primary substation itself: busbars and above belong to no feeder.
UPSTREAM_ZONE = "primary"

#: Table in the file, kind here, sign into the load convention.
INJECTION_TABLES: tuple[tuple[str, InjectionKind, float], ...] = (
    ("load", "load", 1.0),
    ("sgen", "pv", -1.0),
    ("storage", "storage", 1.0),
)


def load_network(network: Path | str | bytes, source: str | None = None) -> GridModel:
    """Read a network written by ``pandapower.to_json``.

    Args:
        network: Path of the file, or its bytes.
        source: Name of the input for error messages.

    Raises:
        BadInputError: Naming table, column, row, value and what is wrong.
    """
    tables = read_tables(network, source)
    for name, reason in UNSUPPORTED.items():
        table = tables.table(name)
        for row in np.flatnonzero(table.booleans("in_service")):
            raise table.refuse("in_service", int(row), True, reason)
    bus_table = tables.table("bus")
    if not len(bus_table):
        raise BadInputError(tables.source, "bus", None, "the network has no bus")
    positions = {index: position for position, index in enumerate(bus_table.index)}
    switches, opened = _switches(tables, positions)
    buses = _buses(bus_table, switches)
    branches = _branches(tables, positions, buses.kv, opened)
    sources = _sources(tables, positions)
    injections = _injections(tables, positions)
    return GridModel(
        name=tables.text("name"),
        buses=buses,
        branches=branches,
        switches=switches,
        sources=sources,
        injections=injections,
        substations=_substations(tables.source, buses, branches, injections),
        topology_hash=topology_hash(buses, branches, switches, sources),
    )


def _switches(tables: Tables, buses: Mapping[int, int]) -> tuple[Switches, set[tuple[str, int, int]]]:
    """Bus couplers, and the open branch ends as (kind, index in the file, bus position)."""
    table = tables.table("switch")
    bus = table.references("bus", buses, "bus")
    closed = table.booleans("closed")
    impedance = table.floats("z_ohm", 0.0)
    names = table.names()
    couplers: list[int] = []
    far: list[int] = []
    opened: set[tuple[str, int, int]] = set()
    for row, kind in enumerate(table.column("et")):
        element = table.column("element")[row]
        if kind == "b":
            if impedance[row] != 0.0:
                raise table.refuse("z_ohm", row, impedance[row], "bus couplers with an impedance are not understood")
            if element not in buses:
                raise table.refuse("element", row, element, "there is no bus with this index")
            couplers.append(row)
            far.append(buses[element])
        elif kind in ("l", "t"):
            if not closed[row]:
                opened.add(("line" if kind == "l" else "trafo", int(element), int(bus[row])))
        else:
            raise table.refuse("et", row, kind, "expected 'b' (bus), 'l' (line) or 't' (transformer)")
    rows = np.array(couplers, dtype=np.int64)
    return (
        Switches(tuple(names[row] for row in couplers), bus[rows], np.array(far, dtype=np.int64), closed[rows]),
        opened,
    )


def _coordinates(table: Table) -> tuple[FloatArray, FloatArray]:
    x, y = np.full(len(table), np.nan), np.full(len(table), np.nan)
    for row, cell in enumerate(table.column("geo")):
        if cell in (None, ""):
            continue
        try:
            point = json.loads(cell) if isinstance(cell, str) else cell
            x[row], y[row] = (float(part) for part in point["coordinates"][:2])
        except (ValueError, TypeError, KeyError) as error:
            raise table.refuse("geo", row, cell, "expected a GeoJSON point") from error
    return x, y


def _band(kv: FloatArray) -> FloatArray:
    return np.where(kv <= LV_UP_TO_KV, LV_BAND, np.where(kv <= MV_UP_TO_KV, MV_BAND, HV_BAND))


def _buses(table: Table, switches: Switches) -> Buses:
    kv = table.floats("vn_kv", above=0.0)
    x, y = _coordinates(table)
    band = _band(kv)
    return Buses(
        ids=table.names(),
        kv=kv,
        x=x,
        y=y,
        min_pu=1.0 - band,
        max_pu=1.0 + band,
        area=tuple(None if zone == UPSTREAM_ZONE else zone for zone in table.texts("zone")),
        node=_fuse(table, kv, switches),
    )


def _fuse(table: Table, kv: FloatArray, switches: Switches) -> IntArray:
    """Electrical node of each bus: closed couplers join, out-of-service buses have none (-1)."""
    service = table.booleans("in_service")
    leader = list(range(len(table)))

    def find(bus: int) -> int:
        while leader[bus] != bus:
            leader[bus] = leader[leader[bus]]
            bus = leader[bus]
        return bus

    for one, other, closed in zip(switches.from_bus, switches.to_bus, switches.closed, strict=True):
        if not closed or not service[one] or not service[other]:
            continue
        if kv[one] != kv[other]:
            raise table.refuse("vn_kv", int(other), kv[other], f"a closed coupler joins it to a bus of {kv[one]:g} kV")
        low, high = sorted((find(int(one)), find(int(other))))
        leader[high] = low
    node: dict[int, int] = {}
    return np.array(
        [node.setdefault(find(bus), len(node)) if service[bus] else -1 for bus in range(len(table))], dtype=np.int64
    )


def _branches(tables: Tables, buses: Mapping[int, int], kv: FloatArray, opened: set[tuple[str, int, int]]) -> Branches:
    line_table, trafo_table = tables.table("line"), tables.table("trafo")
    lines = branch_models.read_lines(line_table, buses, kv, tables.scalar("f_hz", 50.0))
    trafos = branch_models.read_trafos(trafo_table, buses, kv)
    ends = []
    for side in ("from", "to"):
        closed = np.concatenate([getattr(lines, f"{side}_closed"), getattr(trafos, f"{side}_closed")])
        at = np.concatenate([getattr(lines, f"{side}_bus"), getattr(trafos, f"{side}_bus")])
        keys = [("line", index) for index in line_table.index] + [("trafo", index) for index in trafo_table.index]
        for position, (kind, index) in enumerate(keys):
            if (kind, index, int(at[position])) in opened:
                closed[position] = False
        ends.append(closed)
    return branch_models.join(lines, trafos, ends[0], ends[1])


def _sources(tables: Tables, buses: Mapping[int, int]) -> Sources:
    table = tables.table("ext_grid")
    rows = np.flatnonzero(table.booleans("in_service"))
    if not len(rows):
        raise BadInputError(tables.source, "ext_grid", None, "the network has no upstream connection in service")
    names = table.names()
    return Sources(
        ids=tuple(names[row] for row in rows),
        bus=table.references("bus", buses, "bus")[rows],
        vm_pu=table.floats("vm_pu", 1.0, above=0.0)[rows],
        angle_rad=np.deg2rad(table.floats("va_degree", 0.0)[rows]),
    )


def _injections(tables: Tables, buses: Mapping[int, int]) -> Injections:
    """Loads, static generators and storages; generators change sign to the load convention."""
    ids: list[str] = []
    kinds: list[InjectionKind] = []
    columns: list[tuple[IntArray, FloatArray, FloatArray]] = []
    for name, kind, sign in INJECTION_TABLES:
        table = tables.table(name)
        scale = sign * 1e6 * table.floats("scaling", 1.0) * table.booleans("in_service")
        ids.extend(table.names())
        kinds.extend([kind] * len(table))
        columns.append(
            (
                table.references("bus", buses, "bus"),
                scale * table.floats("p_mw", 0.0),
                scale * table.floats("q_mvar", 0.0),
            )
        )
    bus, p_nom, q_nom = (np.concatenate([column[part] for column in columns]) for part in range(3))
    return Injections(tuple(ids), tuple(kinds), bus.astype(np.int64), p_nom, q_nom)


def _substations(source: str, buses: Buses, branches: Branches, injections: Injections) -> tuple[Substation, ...]:
    """Edges are found by their transformers: a transformer named ``<edge>/<device>`` in canonical ids."""
    found: dict[str, Substation] = {}
    for branch, (name, kind) in enumerate(zip(branches.ids, branches.kinds, strict=True)):
        edge, _, device_id = name.partition("/")
        if kind != "trafo" or edge == "trafo" or not (EdgeId.pattern.fullmatch(edge) and DeviceId.pattern.fullmatch(device_id)):
            continue
        if edge in found:
            raise BadInputError(source, f"trafo.{name}", name, f"edge {edge!r} already has {found[edge].transformer!r}")
        lv_bus = int(branches.to_bus[branch])
        devices: dict[InjectionKind, list[str]] = {"load": [], "pv": [], "storage": []}
        for device, device_kind, bus in zip(injections.ids, injections.kinds, injections.bus, strict=True):
            if not device.startswith(f"{edge}/"):
                continue
            if int(bus) != lv_bus:
                reason = f"expected it on {buses.ids[lv_bus]!r}, the low-voltage bus of {name!r}"
                raise BadInputError(source, f"{device_kind}.{device}", buses.ids[bus], reason)
            devices[device_kind].append(device.removeprefix(f"{edge}/"))
        found[edge] = Substation(
            edge_id=edge,
            transformer=name,
            branch=branch,
            lv_bus=lv_bus,
            mv_bus=int(branches.from_bus[branch]),
            rating_va=float(branches.rating_va[branch]),
            loads=tuple(devices["load"]),
            pv=tuple(devices["pv"]),
            storage=tuple(devices["storage"]),
        )
    return tuple(found.values())
