"""The grid model: what a network file says, in SI, frozen and in a fixed order.

Branches are pi models seen from their *to* side (the low-voltage side of a transformer) with an ideal ratio at the
*from* side, which is what both power-grid-model and LinDistFlow want. Buses joined by a closed bus coupler share one
electrical *node*; everything people see counts buses, everything that solves counts nodes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

BranchKind = Literal["line", "trafo"]
InjectionKind = Literal["load", "pv", "storage"]


def _freeze(table: DataclassInstance) -> None:
    for field in fields(table):
        value = getattr(table, field.name)
        if isinstance(value, np.ndarray):
            value.setflags(write=False)


@dataclass(frozen=True, slots=True)
class Buses:
    """Buses in file order.

    Attributes:
        ids: Stable names.
        kv: Rated line-to-line voltage [kV].
        x, y: Longitude and latitude [degrees], NaN where the file has none.
        min_pu, max_pu: Voltage limits.
        area: Feeder of the bus as in the points ``primary/<feeder>/p_w``; None on the busbar and above.
        node: Electrical node, -1 when the bus is out of service.
    """

    ids: tuple[str, ...]
    kv: FloatArray
    x: FloatArray
    y: FloatArray
    min_pu: FloatArray
    max_pu: FloatArray
    area: tuple[str | None, ...]
    node: IntArray

    def __post_init__(self) -> None:
        _freeze(self)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Branches:
    """Lines, then transformers, in file order.

    Attributes:
        ids, kinds: Stable names; ``line`` or ``trafo``.
        from_bus, to_bus: Bus positions; a transformer's *from* is its high-voltage side.
        r_ohm, x_ohm, g_s, b_s: Pi model at the *to* side; g and b are the whole shunt, half at each end.
        ratio: Ideal off-nominal ratio at the *from* side [pu of the rated voltages].
        shift_rad: Phase shift of *to* against *from*, lagging positive.
        i_max_from_a, i_max_to_a: Rated current at each end [A].
        rating_va: Rated apparent power.
        from_closed, to_closed: Switch position of each end; both False when out of service.
    """

    ids: tuple[str, ...]
    kinds: tuple[BranchKind, ...]
    from_bus: IntArray
    to_bus: IntArray
    r_ohm: FloatArray
    x_ohm: FloatArray
    g_s: FloatArray
    b_s: FloatArray
    ratio: FloatArray
    shift_rad: FloatArray
    i_max_from_a: FloatArray
    i_max_to_a: FloatArray
    rating_va: FloatArray
    from_closed: BoolArray
    to_closed: BoolArray

    def __post_init__(self) -> None:
        _freeze(self)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def closed(self) -> BoolArray:
        """True where current can pass."""
        return self.from_closed & self.to_closed


@dataclass(frozen=True, slots=True)
class Switches:
    """Couplers between two buses; closed ones make one node of both."""

    ids: tuple[str, ...]
    from_bus: IntArray
    to_bus: IntArray
    closed: BoolArray

    def __post_init__(self) -> None:
        _freeze(self)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Sources:
    """Upstream connections that hold the voltage."""

    ids: tuple[str, ...]
    bus: IntArray
    vm_pu: FloatArray
    angle_rad: FloatArray

    def __post_init__(self) -> None:
        _freeze(self)


@dataclass(frozen=True, slots=True)
class Injections:
    """Loads, PV plants and storages with nominal powers, load convention [W, var]."""

    ids: tuple[str, ...]
    kinds: tuple[InjectionKind, ...]
    bus: IntArray
    p_nom_w: FloatArray
    q_nom_var: FloatArray

    def __post_init__(self) -> None:
        _freeze(self)


@dataclass(frozen=True, slots=True)
class Substation:
    """What belongs to one edge: found by its transformer ``<edge>/tr1`` and devices ``<edge>/<device>``.

    Attributes:
        edge_id: The edge.
        transformer: Id of its transformer, and with ``branch`` its position among the branches.
        lv_bus: Position of the low-voltage busbar.
        mv_bus: Position of the bus the transformer hangs on.
        rating_va: Rating of the transformer.
        loads, pv, storage: Device ids without the edge.
    """

    edge_id: str
    transformer: str
    branch: int
    lv_bus: int
    mv_bus: int
    rating_va: float
    loads: tuple[str, ...]
    pv: tuple[str, ...]
    storage: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GridModel:
    """One network. All arrays are read-only; the value is picklable.

    Attributes:
        name: Name in the file, may be empty.
        substations: In file order of their transformers.
        topology_hash: Changes when anything a picture or a power flow depends on changes, nominal loads excepted.
    """

    name: str
    buses: Buses
    branches: Branches
    switches: Switches
    sources: Sources
    injections: Injections
    substations: tuple[Substation, ...]
    topology_hash: str

    @property
    def n_nodes(self) -> int:
        """Number of electrical nodes."""
        return int(self.buses.node.max()) + 1

    def substation(self, edge_id: str) -> Substation:
        """The substation of an edge; KeyError naming it when there is none."""
        for substation in self.substations:
            if substation.edge_id == edge_id:
                return substation
        raise KeyError(f"no substation of edge {edge_id!r} in the network")

    def branch_index(self, branch_id: str) -> int:
        """Position of a branch; KeyError naming it when there is none."""
        try:
            return self.branches.ids.index(branch_id)
        except ValueError:
            raise KeyError(f"no branch {branch_id!r} in the network") from None

    def bus_index(self, bus_id: str) -> int:
        """Position of a bus; KeyError naming it when there is none."""
        try:
            return self.buses.ids.index(bus_id)
        except ValueError:
            raise KeyError(f"no bus {bus_id!r} in the network") from None


def topology_hash(*tables: DataclassInstance) -> str:
    """SHA-256 in hex over the tables' columns, in order; the live frames carry its first 12 bytes."""
    digest = hashlib.sha256()
    for table in tables:
        for field in fields(table):
            value = getattr(table, field.name)
            digest.update(field.name.encode())
            digest.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    return digest.hexdigest()
