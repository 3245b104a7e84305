"""No law may break in seeds 1 to 20; the other shares are in the modules beside this one."""

from __future__ import annotations

import pytest

from tests.simulation.stories import holds, share


@pytest.mark.parametrize("seed", share(1))
def test_no_law_breaks(seed: int) -> None:
    holds(seed)
