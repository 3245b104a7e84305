"""Twenty rounds of the campaign; ``make soak`` runs as many as one likes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.campaign import Campaign, Outcome
from tests.soak.plan import FAULTS, round_actions

EDGES = ("h0", "h1", "h2")


def test_a_campaign_is_decided_by_its_seed() -> None:
    first = [round_actions(7, number, EDGES) for number in range(50)]
    assert first == [round_actions(7, number, EDGES) for number in range(50)]
    assert first != [round_actions(8, number, EDGES) for number in range(50)]


def test_every_fault_comes_in_a_thousand_rounds() -> None:
    met = {(action.target, action.fault) for number in range(1000) for action in round_actions(1, number, EDGES)}
    assert met == {(target, fault) for target, faults in FAULTS.items() for fault in faults}


@pytest.mark.e2e
async def test_twenty_rounds_of_faults_leave_both_sides_equal(tmp_path: Path) -> None:
    outcome = await Campaign(tmp_path, Outcome(20161214, 20, "make soak SEED=20161214 ROUNDS=20", 3), every=20).run()
    assert outcome.ok, (outcome.reason, outcome.history)
    assert outcome.checks[-1]["recorded"] > 2000
