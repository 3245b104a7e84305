"""The network for people and screens."""

from __future__ import annotations

import json
from collections.abc import Callable

from tieline_cloud.gridmodel import GridModel, load_network
from tieline_cloud.gridmodel.geojson import geojson, topology_arrays


def test_every_element_is_a_feature_with_its_properties(village: GridModel) -> None:
    document = json.loads(json.dumps(geojson(village), allow_nan=False))
    features = {feature["id"]: feature for feature in document["features"]}
    assert document["type"] == "FeatureCollection"
    assert features["n1"]["geometry"] == {"type": "Point", "coordinates": [11.32, 53.6]}
    assert features["harbour/tr1"]["properties"]["rating_va"] == 630e3
    assert features["tie"]["properties"]["closed"] is False
    assert features["tie"]["geometry"]["type"] == "LineString"
    assert features["coupler"]["properties"] | {"area": None} == {
        "id": "coupler", "element": "switch", "from": "busbar-a", "to": "busbar-b", "kv": 10.0, "rating_va": None,
        "closed": True, "area": None,
    }  # fmt: skip


def test_a_low_voltage_bus_stands_beside_its_medium_voltage_node(village: GridModel) -> None:
    arrays = topology_arrays(village)
    lv, mv = village.bus_index("harbour/lv"), village.bus_index("n2")
    assert arrays["nodes"]["x"][lv] != arrays["nodes"]["x"][mv]
    assert abs(arrays["nodes"]["x"][lv] - arrays["nodes"]["x"][mv]) < 0.001


def test_unknown_places_are_null(tampered: Callable[..., bytes]) -> None:
    grid = load_network(tampered("bus", "geo", 2, None))
    features = {feature["id"]: feature for feature in geojson(grid)["features"]}
    assert features["n1"]["geometry"] is None
    assert features["cable-n1"]["geometry"] is None
    assert topology_arrays(grid)["nodes"]["x"][2] is None


def test_the_arrays_have_one_order_and_one_length(village: GridModel) -> None:
    arrays = json.loads(json.dumps(topology_arrays(village), allow_nan=False))
    assert {len(column) for column in arrays["nodes"].values()} == {len(village.buses)}
    assert {len(column) for column in arrays["branches"].values()} == {len(village.branches) + len(village.switches)}
    assert arrays["branches"]["kind"][-1] == "switch"
    assert arrays["branches"]["open"][village.branch_index("tie")] == 1
    assert arrays["areas"][arrays["nodes"]["area"][2]] == "north"
    assert arrays["topology_hash"] == village.topology_hash
    assert arrays["substations"]["edge_id"] == ["harbour", "mill"]
