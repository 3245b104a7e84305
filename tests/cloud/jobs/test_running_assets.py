"""Assets of a site as its edge runs it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tieline_cloud.jobs.running_assets import running_assets
from tieline_cloud.settings import EdgeAssets
from tieline_core.ids import DeviceId, EdgeId

HARBOUR = EdgeId("harbour")
BAT1, BAT2 = DeviceId("bat1"), DeviceId("bat2")
ASSETS = EdgeAssets.model_validate(
    {
        "rated_va": 630e3,
        "batteries": {"bat1": {"p_charge_max_w": 50e3, "p_discharge_max_w": 50e3, "energy_wh": 99e3, "eta_charge": 0.9}},
        "pv": {"pv1": {"p_rated_w": 50e3}},
        "flexible_loads": {"pump": {"p_max_w": 5e3, "energy_wh": 9e3}},
    }
)


def row(name: str, **rest: Any) -> dict[str, Any]:
    return {"id": name, "catalog": "any", **rest}


def battery(**rest: Any) -> dict[str, Any]:
    return row("bat2", **{"p_min_w": -60e3, "p_max_w": 40e3, "energy_wh": 150e3, **rest})


def running(*rows: dict[str, Any]) -> tuple[EdgeAssets, tuple[str, ...]]:
    return running_assets(HARBOUR, ASSETS, yaml.safe_dump({"edge_id": "harbour", "devices": list(rows)}))


#: What the settings name, as an edge has it.
SAME = (row("bat1", energy_wh=1.0), row("pv1", p_min_w=-1.0), row("pump", priority_class=3))


def test_what_the_settings_say_of_a_device_counts_and_nothing_changes_without_need() -> None:
    assert running(*SAME, row("m01")) == (ASSETS, ())


def test_a_battery_that_joins_is_planned_with_its_ratings_and_above_its_reserve() -> None:
    found, notes = running(*SAME, battery(soc_min_pct=5.0, soc_max_pct=90.0, soc_reserve_pct=20.0))
    joined = found.batteries[BAT2]
    assert (joined.p_charge_max_w, joined.p_discharge_max_w, joined.energy_wh) == (40e3, 60e3, 150e3)
    assert (joined.soc_min_pct, joined.soc_max_pct, joined.eta_charge) == (25.0, 90.0, 0.96)
    assert found.batteries[BAT1] == ASSETS.batteries[BAT1]
    assert notes == ("harbour/bat2: known from its configuration only; efficiencies and wear are assumed",)


def test_what_has_gone_is_left_out_and_named() -> None:
    found, notes = running(row("m01"))
    assert (found.batteries, found.pv, found.flexible_loads) == ({}, {}, {})
    assert [note.split(":")[0] for note in notes] == ["harbour/bat1", "harbour/pv1", "harbour/pump"]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"p_max_w": 0.0}, "p_charge_max_w"), ({"soc_reserve_pct": 95.0}, "soc_min_pct"), ({"p_min_w": None}, "p_dis")],
)
def test_a_battery_that_cannot_be_planned_is_named_with_the_reason(wrong: dict[str, Any], named: str) -> None:
    found, notes = running(*SAME, battery(**wrong))
    assert BAT2 not in found.batteries
    assert notes[0].startswith("harbour/bat2: it is not planned: ")
    assert named in notes[0]


def test_numbers_that_yaml_takes_for_texts_are_read_as_the_edge_reads_them() -> None:
    text = "edge_id: harbour\ndevices: [{id: bat2, p_min_w: -6e4, p_max_w: 4e4, energy_wh: 15e4, soc_reserve_pct: 2e1}]"
    found, _ = running_assets(HARBOUR, ASSETS, text)
    joined = found.batteries[BAT2]
    assert (joined.p_discharge_max_w, joined.p_charge_max_w, joined.energy_wh, joined.soc_min_pct) == (60e3, 40e3, 150e3, 30.0)


def test_who_has_become_another_kind_is_not_planned_as_what_it_was() -> None:
    """The edge would refuse the whole plan for it."""
    found, notes = running(
        row("bat1", priority_class=3), row("pv1", p_min_w=-1e3, p_max_w=1e3, energy_wh=1e3), row("pump", priority_class=0)
    )
    assert (list(found.batteries), found.pv, found.flexible_loads) == (["pv1"], {}, {})
    assert [note.partition(" in the")[0] for note in notes[:3]] == [
        "harbour/bat1: is no storage",
        "harbour/pv1: is no plant",
        "harbour/pump: is no load that may be limited",
    ]


@pytest.mark.parametrize("text", ["devices: [", "edge_id: harbour", "devices: [{id: 7}]", "[1, 2]", "devices: [{id: B-}]"])
def test_a_file_that_the_hub_cannot_read_costs_nobody_the_plan(text: str) -> None:
    found, notes = running_assets(HARBOUR, ASSETS, text)
    assert found == ASSETS
    assert notes[0].startswith("harbour: the configuration that runs there cannot be read, the settings count: ")
