"""The campaign of every build: half an hour of each of the first hundred seeds, in shares that test workers can divide."""

from __future__ import annotations

from typing import Final

from tests.simulation.world import live_through

SEEDS: Final = 100
SHARES: Final = 5
HOURS: Final = 0.5


def share(number: int) -> range:
    """Seeds of one of the shares, counted from 1."""
    each = SEEDS // SHARES
    return range(1 + (number - 1) * each, 1 + number * each)


def holds(seed: int) -> None:
    """Live through a seed.

    Raises:
        AssertionError: A law broke; it says which, and how to see it again.
    """
    verdict = live_through(seed, HOURS)
    told = "\n".join(str(violation) for violation in verdict.violations[:5])
    assert verdict.ok, f"again with: {verdict.command()}\n{told}"
