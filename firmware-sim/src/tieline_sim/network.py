"""The network: SimBench data, the published net that the utility owns, and the true one nobody sees."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tieline_sim.errors import ScenarioError
from tieline_sim.scenario import Scenario, SubstationSpec

Floats = npt.NDArray[np.float64]

#: Row 0 of the SimBench profiles: 2016-01-01 00:00 at fixed UTC+1.
PROFILE_START_UNIX_S: Final = 1_451_602_800
PROFILE_STEP_S: Final = 900
LV_KV: Final = 0.4
_TABLES_NOBODY_NEEDS: Final = ("profiles", "loadcases", "measurement")


@dataclass(frozen=True, slots=True)
class BaseNetwork:
    """SimBench network with one load a node, and its year of profiles (rows of 15 minutes, W and var, unscaled)."""

    net_json: str
    load_p_w: Floats
    load_q_var: Floats
    sgen_p_w: Floats


def load_base(code: str, cache: Path | None = None) -> BaseNetwork:
    """Read a SimBench network; the conversion takes seconds, so its result is kept in ``cache`` where that can be written.

    Raises:
        ScenarioError: When SimBench has no such network.
    """
    folder = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tieline-sim"
    versions = "-".join(importlib.metadata.version(name) for name in ("simbench", "pandapower", "numpy"))
    stem = folder / hashlib.sha256(f"{code} {versions} 3".encode()).hexdigest()[:16]
    arrays, text = stem.with_suffix(".npz"), stem.with_suffix(".json")
    try:
        with np.load(arrays, allow_pickle=False) as kept:
            return BaseNetwork(text.read_text(encoding="utf-8"), kept["p"], kept["q"], kept["s"])
    except (OSError, ValueError, KeyError):
        base = _convert(code)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for target, write in (
            (text, lambda path: path.write_text(base.net_json, encoding="utf-8")),
            (arrays, lambda path: np.savez(path, p=base.load_p_w, q=base.load_q_var, s=base.sgen_p_w)),
        ):
            spare = target.with_name(f"{os.getpid()}-{target.name}")
            write(spare)
            spare.replace(target)
    except OSError:
        return base
    return base


def _convert(code: str) -> BaseNetwork:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # simbench warns about its own use of pandas
        import pandapower as pp
        import simbench

        try:
            net = simbench.get_simbench_net(code)
        except (ValueError, KeyError, OSError) as error:
            raise ScenarioError("scenario", "network.simbench_code", code, f"SimBench has no such network: {error}") from error
        profiles = simbench.get_absolute_values(net, profiles_instead_of_study_cases=True)
        for table in _TABLES_NOBODY_NEEDS:
            net.pop(table, None)
        nodes = join_loads(net)
        text = pp.to_json(net)
    load_p, load_q = (profiles["load", column].to_numpy(dtype=np.float64) * 1e6 for column in ("p_mw", "q_mvar"))
    return BaseNetwork(text, load_p @ nodes, load_q @ nodes, profiles["sgen", "p_mw"].to_numpy(dtype=np.float64) * 1e6)


def join_loads(net: Any) -> Floats:
    """Join the loads of each node, low-voltage area and customers with a station of their own, under the first one's name.

    Returns:
        Which of the former loads (rows) make up which of the remaining ones (columns), ones and zeros.
    """
    bus = net.load.bus.to_numpy()
    first = [row for row in range(len(bus)) if bus[row] not in bus[:row]]
    nodes: Floats = (bus[:, None] == bus[first]).astype(np.float64)
    for column in ("p_mw", "q_mvar", "sn_mva"):
        net.load.iloc[first, net.load.columns.get_loc(column)] = net.load[column].to_numpy() @ nodes
    net.load = net.load.iloc[first].reset_index(drop=True)
    return nodes


def open_net(text: str) -> Any:
    """A pandapower net from its JSON."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandapower's reader warns about pandas it calls itself
        import pandapower as pp

        return pp.from_json_string(text)


def feeder_of(subnet: str | None) -> str | None:
    """Feeder name of a SimBench subnet label: ``MV3.101_LV4.301_Feeder7`` -> ``feeder07``."""
    found = re.search(r"Feeder(\d+)$", str(subnet))
    return f"feeder{int(found.group(1)):02d}" if found else None


def load_position(net: Any, spec: SubstationSpec) -> int:
    """Row of a substation's load.

    Raises:
        ScenarioError: When the network has no load of that name.
    """
    rows = np.flatnonzero(net.load.name.to_numpy() == spec.load)
    if len(rows) != 1:
        raise ScenarioError("scenario", f"substations.{spec.id}.load", spec.load, "the network has no load of that name")
    return int(rows[0])


def add_substations(net: Any, scenario: Scenario) -> dict[str, int]:
    """Put a transformer and a busbar at each substation's node and move the node's load there.

    Returns:
        Bus index of each substation's low-voltage busbar.
    """
    import pandapower as pp

    net.load["p_mw"] *= scenario.network.load_scale
    net.load["q_mvar"] *= scenario.network.load_scale
    net.bus["zone"] = [feeder_of(subnet) or "primary" for subnet in net.bus.subnet]
    busbars: dict[str, int] = {}
    for spec in scenario.substations:
        row = load_position(net, spec)
        node = int(net.load.bus.iloc[row])
        bus = int(pp.create_bus(net, vn_kv=LV_KV, name=f"{spec.id}/busbar", zone=net.bus.at[node, "zone"]))
        net.bus.at[bus, "geo"] = _beside(net.bus.at[node, "geo"])
        unit = spec.transformer
        pp.create_transformer_from_parameters(
            net,
            hv_bus=node, lv_bus=bus, sn_mva=unit.rating_kva / 1e3, vn_hv_kv=10.0, vn_lv_kv=LV_KV, vk_percent=unit.vk_pct,
            vkr_percent=unit.vkr_pct, pfe_kw=unit.pfe_kw, i0_percent=unit.i0_pct, shift_degree=150, name=f"{spec.id}/tr1",
            max_loading_percent=100.0,
        )  # fmt: skip
        index = net.load.index[row]
        net.load.at[index, "bus"] = bus
        net.load.at[index, "name"] = f"{spec.id}/site"
        net.load.at[index, "p_mw"] *= spec.load_scale
        net.load.at[index, "q_mvar"] *= spec.load_scale
        net.sgen.loc[net.sgen.bus == node, "in_service"] = False
        busbars[spec.id] = bus
    return busbars


def _beside(geo: Any) -> Any:
    """A point a few metres from a GeoJSON point, so that a map can show both."""
    try:
        point = json.loads(geo)
        longitude, latitude = point["coordinates"][:2]
    except (TypeError, ValueError, KeyError):
        return geo
    return json.dumps({"type": "Point", "coordinates": [longitude + 0.0004, latitude + 0.0003]})


def bend_impedances(net: Any, scenario: Scenario) -> None:
    """Make the network the true one: every impedance differs by up to the scenario's spread, from the seed."""
    spread = scenario.network.impedance_spread_pct / 100
    random = np.random.default_rng([scenario.seed, 1])
    for table, columns in (("line", ("r_ohm_per_km", "x_ohm_per_km")), ("trafo", ("vk_percent", "vkr_percent"))):
        for column in columns:
            net[table][column] *= 1 + random.uniform(-spread, spread, len(net[table]))


def feeder_heads(net: Any) -> dict[str, tuple[int, str]]:
    """First line of every feeder and the side ("from" or "to") on which the primary substation stands."""
    heads: dict[str, tuple[int, str]] = {}
    zone = net.bus.zone
    for index, line in net.line.iterrows():
        ends = zone.at[line.from_bus], zone.at[line.to_bus]
        feeder = next((name for name in ends if name != "primary"), None)
        if feeder is None or "primary" not in ends or feeder_of(line.subnet) != feeder or feeder in heads:
            continue
        heads[feeder] = int(index), "from" if ends[0] == "primary" else "to"
    return heads
