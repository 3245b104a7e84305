"""No law may break in seeds 81 to 100; the other shares are in the modules beside this one."""

from __future__ import annotations

import pytest

from tests.simulation.stories import holds, share


@pytest.mark.parametrize("seed", share(5))
def test_no_law_breaks(seed: int) -> None:
    holds(seed)
