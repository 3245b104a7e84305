"""Several edges under one element: shares from the hub, staggered delays without, and never twice the relief."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.edge.shedding.plant import EDGE, RATED_VA, TR, Plant, shedding
from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.policy import Policy
from tieline_edge.shedding.rules import load_rules, with_policy
from tieline_edge.shedding.shares import share_and_delay, stagger_s


@given(st.integers(0, 999), st.floats(0.0, 600.0))
def test_a_delay_follows_from_the_names_alone_and_lies_within_the_spread(number: int, spread_s: float) -> None:
    edge = EdgeId(f"edge{number}")
    delay_s = stagger_s(edge, TR, spread_s)
    assert delay_s == stagger_s(edge, TR, spread_s)
    assert 0.0 <= delay_s <= spread_s


def test_edges_do_not_act_at_once() -> None:
    delays = [stagger_s(EdgeId(f"edge{number}"), TR, 30.0) for number in range(40)]
    assert len({round(delay, 1) for delay in delays}) > 30
    assert max(delays) - min(delays) > 20.0


def test_an_own_element_is_relieved_in_full_a_shared_one_by_share_or_later() -> None:
    plant = Plant(shedding())
    assert share_and_delay(plant.site(plant.settings), TR) == (1.0, 0.0)
    shared = shedding(shared=["tr1"])
    assert share_and_delay(plant.site(shared), TR) == (1.0, stagger_s(EDGE, TR, 30.0))
    assert share_and_delay(plant.site(shared, shares={TR: 0.25}), TR) == (0.25, 0.0)
    assert share_and_delay(plant.site(shared, shares={DeviceId("fm1"): 0.25}), TR)[0] == 1.0


def test_without_a_share_the_hold_is_longer_by_the_delay() -> None:
    plant = Plant(shedding(shared=["tr1"]), base_w=60e3)
    plant.run(60)
    delay_s = stagger_s(EDGE, TR, 30.0)
    assert 10 + delay_s <= plant.at("shed.thermal")[0] <= 12 + delay_s


def test_two_edges_with_shares_relieve_the_element_once() -> None:
    told = shedding(shared=["tr1"])
    first, second = Plant(told), Plant(told)
    for plant, share in ((first, 0.5), (second, 0.5)):
        policy = Policy.model_validate({"policy_id": "policy-1", "edge_id": "harbour", "shares": {"tr1": share}})
        plant.rules = load_rules(with_policy(plant.site(told), policy), plant.noise)
    for _ in range(40):
        # Each edge sees the whole of the element: its own loads and what the other one still draws.
        for plant, other in ((first, second), (second, first)):
            plant.base_w = 24e3 + sum(power for name, (_, power) in other.loads.items() if other.closed[name])
        first.run(1)
        second.run(1)
    shed_w = [sum(plant.loads[name][1] for name in plant.open) for plant in (first, second)]
    total_w = 24e3 + 2 * 45e3
    assert total_w - sum(shed_w) < 0.95 * RATED_VA
    assert all(power > 0 for power in shed_w)
    assert sum(shed_w) <= total_w - 0.95 * RATED_VA + 2 * 4e3
