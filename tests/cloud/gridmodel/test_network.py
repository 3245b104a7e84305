"""Import of a published network."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tieline_cloud.gridmodel import GridModel, load_network, tables
from tieline_core.errors import BadInputError

VILLAGE = Path(__file__).with_name("village.json")
RAGGED = (
    b'{"_class": "pandapowerNet", "_object": {"bus": {"_class": "DataFrame", "_object": '
    b'{"columns": ["name"], "index": [0, 1], "data": [["a"]]}}}}'
)


def test_every_element_arrives_under_its_name(village: GridModel) -> None:
    assert village.name == "village"
    assert village.buses.ids[:3] == ("busbar-a", "busbar-b", "n1")
    assert village.branches.ids[-2:] == ("harbour/tr1", "mill/tr1")
    assert village.branches.kinds.count("line") == 6
    assert village.buses.area == (None, None, "north", "north", "north", "south", "south", None, None)
    assert village.sources.ids == ("upstream",)


def test_a_substation_is_found_by_its_transformer_with_all_its_devices(village: GridModel) -> None:
    harbour = village.substation("harbour")
    assert village.buses.ids[harbour.lv_bus] == "harbour/lv"
    assert village.buses.ids[harbour.mv_bus] == "n2"
    assert harbour.rating_va == 630e3
    assert harbour.loads == ("load01", "load02", "load03", "m01")
    assert harbour.pv == ("pv1", "pv2")
    assert harbour.storage == ("bat1", "bat2")
    assert [substation.edge_id for substation in village.substations] == ["harbour", "mill"]


def test_generators_change_their_sign_to_the_load_convention(village: GridModel) -> None:
    table = dict(zip(village.injections.ids, village.injections.p_nom_w, strict=True))
    assert table["wind-s2"] == pytest.approx(-100e3)
    assert table["customer-n1"] == pytest.approx(400e3)


def test_a_closed_coupler_makes_one_node_and_an_open_one_two(village: GridModel, tampered: Callable[..., bytes]) -> None:
    node = village.buses.node
    assert node[0] == node[1]
    assert village.n_nodes == len(village.buses) - 1
    opened = load_network(tampered("switch", "closed", 0, False))
    assert opened.n_nodes == len(opened.buses)


def test_an_open_line_switch_opens_its_end_only(village: GridModel) -> None:
    tie = village.branch_index("tie")
    assert village.branches.from_closed[tie]
    assert not village.branches.to_closed[tie]
    assert not village.branches.closed[tie]


def test_voltage_bands_follow_the_voltage_level(village: GridModel) -> None:
    mv, lv = village.bus_index("n1"), village.bus_index("harbour/lv")
    assert (village.buses.min_pu[mv], village.buses.max_pu[mv]) == pytest.approx((0.95, 1.05))
    assert (village.buses.min_pu[lv], village.buses.max_pu[lv]) == pytest.approx((0.90, 1.10))


def test_the_grid_is_frozen_and_can_be_copied(village: GridModel) -> None:
    with pytest.raises(ValueError, match="read-only"):
        village.branches.r_ohm[0] = 1.0
    again = copy.deepcopy(village)
    assert again.topology_hash == village.topology_hash


def test_the_hash_follows_the_topology_and_not_the_loads(village: GridModel, tampered: Callable[..., bytes]) -> None:
    assert load_network(tampered("switch", "closed", 1, True)).topology_hash != village.topology_hash
    assert load_network(tampered("load", "p_mw", 0, 0.9)).topology_hash == village.topology_hash


def test_unknown_names_are_named(village: GridModel) -> None:
    for lookup in (village.branch_index, village.bus_index, village.substation):
        with pytest.raises(KeyError, match="nowhere"):
            lookup("nowhere")


def test_repeated_and_empty_names_stay_stable(tampered: Callable[..., bytes]) -> None:
    assert load_network(tampered("line", "name", 1, "cable-n1")).branches.ids[1] == "cable-n1#1"
    assert load_network(tampered("line", "name", 1, None)).branches.ids[1] == "line/1"


def test_a_bus_out_of_service_has_no_node(tampered: Callable[..., bytes]) -> None:
    assert load_network(tampered("bus", "in_service", 6, False)).buses.node[6] == -1


@pytest.mark.parametrize(
    ("table", "column", "row", "value", "reason"),
    [
        ("line", "length_km", 2, None, "finite number"),
        ("line", "length_km", 2, -1.0, "greater than 0"),
        ("line", "from_bus", 0, 99, "no bus"),
        ("line", "to_bus", 0, 7, "one rated voltage"),
        ("line", "max_i_ka", 1, True, "finite number"),
        ("line", "in_service", 1, "yes", "true or false"),
        ("bus", "vn_kv", 0, 0.0, "greater than 0"),
        ("bus", "vn_kv", 1, 20.0, "closed coupler"),
        ("bus", "geo", 0, "{}", "GeoJSON point"),
        ("trafo", "vkr_percent", 0, 9.0, "cannot exceed"),
        ("trafo", "tap_dependency_table", 0, True, "tap-dependent"),
        ("trafo", "leakage_reactance_ratio_hv", 0, 0.7, "only 0.5"),
        ("trafo", "name", 1, "harbour/tr2", "already has"),
        ("load", "bus", 5, 2, "expected it on 'harbour/lv'"),
        ("switch", "et", 0, "x", "expected 'b'"),
        ("switch", "element", 0, 77, "no bus"),
        ("switch", "z_ohm", 0, 0.1, "with an impedance"),
    ],
)
def test_a_wrong_cell_is_named_with_its_reason(
    tampered: Callable[..., bytes], table: str, column: str, row: int, value: object, reason: str
) -> None:
    with pytest.raises(BadInputError, match=reason) as caught:
        load_network(tampered(table, column, row, value), "grid.json")
    assert caught.value.source == "grid.json"
    assert caught.value.key.startswith(table)


def test_a_ratio_tap_that_is_no_ratio_is_refused(tampered: Callable[..., bytes]) -> None:
    document: dict[str, Any] = json.loads(tampered("trafo", "tap_changer_type", 0, "Ideal"))
    frame = json.loads(document["_object"]["trafo"]["_object"])
    for column, value in (("tap_pos", 1.0), ("tap_neutral", 0.0), ("tap_step_percent", 2.5), ("tap_side", "hv")):
        frame["data"][0][frame["columns"].index(column)] = value
    document["_object"]["trafo"]["_object"] = json.dumps(frame)
    with pytest.raises(BadInputError, match="Ratio"):
        load_network(json.dumps(document).encode())


def test_elements_we_do_not_model_are_refused_and_not_passed_over(tampered: Callable[..., bytes]) -> None:
    document: dict[str, Any] = json.loads(VILLAGE.read_bytes())
    frame = json.loads(document["_object"]["gen"]["_object"])
    frame["index"], frame["data"] = [0], [[True if name == "in_service" else None for name in frame["columns"]]]
    document["_object"]["gen"]["_object"] = json.dumps(frame)
    with pytest.raises(BadInputError, match="PV buses"):
        load_network(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{", "no JSON"),
        (b"[1]", "no pandapower network"),
        (b'{"_class": "pandapowerNet", "_object": 3}', "expected the tables"),
        (b'{"_class": "pandapowerNet", "_object": {}}', "has no bus"),
        (b'{"_class": "pandapowerNet", "_object": {"bus": 3}}', "split orientation"),
        (b'{"_class": "pandapowerNet", "_object": {"bus": {"_class": "DataFrame", "_object": "{}"}}}', "is no table"),
        (RAGGED, "do not fit together"),
    ],
)
def test_a_file_that_is_no_network_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(BadInputError, match=reason):
        load_network(data)


def test_a_missing_or_huge_file_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInputError, match="cannot be read"):
        load_network(tmp_path / "none.json")
    monkeypatch.setattr(tables, "MAX_BYTES", 100)
    with pytest.raises(BadInputError, match="at most 100 bytes"):
        load_network(VILLAGE)
    with pytest.raises(BadInputError, match="at most 100 bytes"):
        load_network(VILLAGE.read_bytes())


def test_a_network_without_a_source_is_refused(tampered: Callable[..., bytes]) -> None:
    with pytest.raises(BadInputError, match="no upstream connection"):
        load_network(tampered("ext_grid", "in_service", 0, False))


def test_the_primary_substation_belongs_to_no_feeder(tampered: Callable[..., bytes]) -> None:
    assert load_network(tampered("bus", "zone", 0, "primary")).buses.area[0] is None


def test_ratings_are_in_si(village: GridModel) -> None:
    trafo = village.branch_index("harbour/tr1")
    assert village.branches.i_max_to_a[trafo] == pytest.approx(630e3 / (np.sqrt(3) * 400))
    cable = village.branch_index("cable-n1")
    assert village.branches.rating_va[cable] == pytest.approx(np.sqrt(3) * 10e3 * village.branches.i_max_from_a[cable])
