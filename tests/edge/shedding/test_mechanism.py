"""Several violations at once: what is shed for one counts for all, and nothing returns against any of them."""

from __future__ import annotations

import random

from tests.edge.shedding.plant import LEVELS, LOADS, Battery, Plant, shedding
from tieline_core.messages.telemetry import Severity


def both(hertz: float) -> Plant:
    stages = [{"name": "D1", "below_hz": 49.8, "hold_s": 10, "share_pct": 40, "restore_hz": 49.95, "restore_hold_s": 30}]
    told = shedding(frequency_at=["fm1"], frequency={"stages": stages}, thermal_overload={**LEVELS, "severe_hold_s": 10})
    site = Plant(told, base_w=60e3)
    site.extra |= {("fm1", "v_v"): 230.0, ("fm1", "f_hz"): hertz}
    return site


def shed_w(site: Plant) -> float:
    return sum(LOADS[name][1] for name in site.open)


def test_one_load_serves_two_violations_that_come_together() -> None:
    site = both(49.7)
    site.run(12)
    # 10 kW for the transformer and 16 kW for the frequency: 16 in all and at most a block more, not 26.
    assert {event.code for _, event in site.events if event.severity is Severity.ALARM} >= {"shed.thermal", "frequency.stage"}
    assert 16e3 <= shed_w(site) <= 16e3 + 8e3


def test_nothing_returns_while_either_of_them_lasts() -> None:
    site = both(49.7)
    site.run(12)
    site.base_w = 15e3
    site.run(60)
    assert not [1 for _, _, closed in site.switched if closed]
    site.extra["fm1", "f_hz"] = 50.0
    site.base_w = 88e3 - 45e3 + shed_w(site)
    site.run(60)
    assert not [1 for _, _, closed in site.switched if closed]
    site.base_w = 15e3
    site.run(90)
    assert site.open == set()


def test_an_unknown_element_keeps_what_it_feeds_open_and_lets_the_rest_of_the_site_return() -> None:
    line = {"device": "fm2", "rating_a": 30.0, "loads": ["l32"]}
    site = Plant(shedding(lines=[line], line_overload=LEVELS), base_w=66e3)
    site.extra["fm2", "i_a"] = 12.0
    site.run(11)
    assert site.open == {"l41", "l42", "l32"}
    del site.extra["fm2", "i_a"]
    site.base_w = 15e3
    site.run(90)
    assert site.open == {"l32"}
    site.extra["fm2", "i_a"] = 1.0
    site.run(90)
    assert site.open == set()


def test_the_memory_of_a_stranger_is_refused_and_nothing_of_it_is_taken_up() -> None:
    site = both(50.0)
    site.run(12)
    before = site.rules.dump()
    for text in ("", "{}x", '{"rules": {"frequency/fm1": {"stages": 3}}}', '{"mechanism": {"shed": [1]}}'):
        try:
            site.rules.load(text)
        except ValueError:
            assert site.rules.dump() == before
        else:
            raise AssertionError(text)


def test_every_claim_ends_and_every_limit_says_what_it_becomes() -> None:
    site = Plant(shedding(storage={"relieve": True}), base_w=90e3, batteries={"bat1": Battery(5e3)}, pv_rated_w=1e3)
    rng = random.Random(1)
    seen = 0
    for _ in range(60):
        site.base_w = rng.uniform(-150e3, 120e3)
        site.run(3)
        for claim in site.claims:
            seen += 1
            assert claim.expires_at is not None
            assert (claim.limit is None) == (claim.failsafe is None)
    assert seen > 50
