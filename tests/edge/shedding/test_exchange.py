"""Import and export cap: storages first, customers last, in the band of envelopes."""

from __future__ import annotations

from typing import Any

from tests.edge.shedding.plant import Battery, Plant, shedding
from tieline_core.messages.policy import Policy
from tieline_edge.control.claims import Band
from tieline_edge.shedding.rules import load_rules, with_policy


def plant(*, exchange: dict[str, Any], **rest: Any) -> Plant:
    told = shedding(exchange={"restore_hold_s": 20, **exchange}, storage={"relieve": True, "hold_s": 5})
    return Plant(told, **rest)


def test_an_import_above_the_cap_is_met_by_the_battery_alone_where_it_can() -> None:
    site = plant(exchange={"import_w": 80e3}, batteries={"bat1": Battery(20e3)}, base_w=45e3)  # 90 kW
    site.run(60)
    assert site.open == set()
    assert site.flow_w < 80e3


def test_what_the_battery_cannot_is_shed_after_the_hold_as_an_envelope() -> None:
    site = plant(exchange={"import_w": 70e3}, batteries={"bat1": Battery(10e3)}, base_w=45e3)
    site.run(30)
    assert site.open == set()
    site.run(2)
    assert site.flow_w < 70e3
    assert {claim.band for claim in site.claims if claim.closed is False} == {Band.ENVELOPE}


def test_an_export_above_the_cap_charges_the_battery_then_limits_the_plant_and_lets_go() -> None:
    site = plant(exchange={"export_w": 20e3}, batteries={"bat1": Battery(10e3)}, pv_rated_w=60e3, base_w=-20e3)
    site.run(20)
    assert site.batteries["bat1"].p_w == 10e3
    assert -site.flow_w < 20e3
    assert site.open == set()
    site.base_w = 50e3
    site.run(120)
    assert (site.batteries["bat1"].p_w, site.pv_w) == (0.0, 60e3)


def test_an_envelope_of_the_hub_counts_like_one_of_the_contract() -> None:
    site = plant(exchange={}, base_w=45e3)
    assert not [rule for rule in site.rules.rules if rule.key.startswith("exchange")]
    policy = Policy.model_validate({"policy_id": "policy-1", "edge_id": "harbour", "exchange": {"import_w": 80e3}})
    site.rules = load_rules(with_policy(site.site(site.settings), policy), site.noise)
    site.run(35)
    assert site.flow_w < 80e3


def test_an_unknown_exchange_is_blind() -> None:
    site = plant(exchange={"import_w": 80e3}, known=False)
    site.run(3)
    assert "shed.exchange.blind" in site.codes
