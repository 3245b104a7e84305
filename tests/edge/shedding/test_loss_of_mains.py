"""Nothing closes onto a dead or unsynchronised busbar."""

from __future__ import annotations

from typing import Any

import pytest

from tests.edge.shedding.plant import Battery, Plant, shedding


def plant(**mains: Any) -> Plant:
    told = shedding(
        voltage_at=["fm1"],
        frequency_at=["fm1"],
        loss_of_mains={"nominal_v": 230.0, "stable_s": 30, **mains},
        storage={"relieve": True, "hold_s": 5},
    )
    site = Plant(told, batteries={"bat1": Battery(20e3, wanted_w=5e3)}, pv_rated_w=10e3, base_w=10e3, poll_s=0.1)
    site.extra |= {("fm1", "v_v"): 230.0, ("fm1", "f_hz"): 50.0}
    site.closed["l41"] = False
    site.disobedient = {"l41"}
    return site


def barred(site: Plant) -> bool:
    return any(claim.device == "l41" and claim.closed is False and claim.keeps for claim in site.claims)


def test_what_is_open_stays_open_until_the_busbar_is_back_and_stable() -> None:
    site = plant()
    site.run(5)
    assert not barred(site)
    site.live = False
    site.run(2)
    assert barred(site)
    assert (site.batteries["bat1"].p_w, site.pv_w) == (0.0, 0.0)
    site.live = True
    site.run(30)
    assert barred(site)
    assert site.batteries["bat1"].p_w == 5e3
    site.run(2)
    assert not barred(site)
    assert [code for code in site.codes if code.startswith("mains")] == ["mains.lost", "mains.back"]


@pytest.mark.parametrize(
    ("quantity", "value"), [("v_v", 200.0), ("v_v", 260.0), ("f_hz", 48.9), ("f_hz", 51.1), ("f_hz", None), ("v_v", None)]
)
def test_out_of_band_or_unknown_is_as_good_as_dead_for_closing(quantity: str, value: float | None) -> None:
    site = plant()
    site.run(2)
    if value is None:
        del site.extra["fm1", quantity]
    else:
        site.extra["fm1", quantity] = value
    site.run(2)
    assert barred(site)
    assert site.batteries["bat1"].p_w == 5e3 or value is not None


def test_a_flicker_starts_the_waiting_anew() -> None:
    site = plant()
    site.live = False
    site.run(2)
    site.live = True
    site.run(25)
    site.live = False
    site.run(1)
    site.live = True
    site.run(29)
    assert barred(site)


def test_a_site_that_forms_its_own_grid_keeps_its_storages_and_plants() -> None:
    site = plant(batteries="keep", plants="keep")
    site.live = False
    site.run(3)
    assert (site.batteries["bat1"].p_w, site.pv_w) == (5e3, 10e3)


def test_the_rule_can_be_left_out() -> None:
    site = plant(enabled=False)
    site.live = False
    site.run(3)
    assert not barred(site)


def test_no_shed_load_is_restored_onto_a_busbar_that_is_not_stable() -> None:
    site = Plant(shedding(loss_of_mains={"stable_s": 60}), base_w=60e3)
    site.run(12)
    assert site.open
    site.live, site.base_w = False, 10e3
    site.run(1)
    site.live = True
    site.run(60)
    assert not [1 for _, _, closed in site.switched if closed]
    site.run(60)
    assert site.open == set()
