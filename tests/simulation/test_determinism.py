"""One seed is one story: told twice, in this process or another, it is the same to the last byte."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.simulation.world import live_through

_HOURS = 0.25
_SEEDS = (3, 8)


def _elsewhere(hash_seed: str) -> list[str]:
    """Hashes of the seeds' stories in a process with other string hashes."""
    program = (
        f"from tests.simulation.world import live_through\nfor seed in {_SEEDS}: print(live_through(seed, {_HOURS}).digest)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": "."},
    )
    return done.stdout.split()


def test_the_same_seed_gives_the_same_story_in_every_process() -> None:
    here = [live_through(seed, _HOURS).digest for seed in _SEEDS]
    assert len(set(here)) == len(_SEEDS)
    assert [live_through(seed, _HOURS).digest for seed in _SEEDS] == here
    assert _elsewhere("1") == here
    assert _elsewhere("4242") == here
