"""Grid state from last values."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from tieline_cloud.gridmodel import GridModel, load_network
from tieline_cloud.gridmodel.geojson import topology_arrays
from tieline_cloud.gridmodel.state import StateQuality, estimate_state, points_used
from tieline_cloud.powerflow import PowerFlow
from tieline_core.ids import PointId
from tieline_core.quantities import Quality, Reading

NOW = datetime(2016, 12, 7, 17, 0, tzinfo=UTC)


def last(values: dict[str, float | None], age_s: float = 5.0, quality: Quality = Quality.GOOD) -> dict[str, Reading]:
    return {key: Reading(PointId(key), value, NOW - timedelta(seconds=age_s), quality) for key, value in values.items()}


ALL = {"primary/north/p_w": 1.8e6, "primary/south/p_w": 0.8e6, "harbour/tr1/p_w": 500e3, "mill/tr1/p_w": 200e3}


def test_fresh_values_give_a_good_state_in_the_order_of_the_arrays(village: GridModel) -> None:
    state = estimate_state(village, last(dict(ALL)), NOW, PowerFlow(village))
    arrays = topology_arrays(village)
    assert len(state.loading_pct) == len(arrays["branches"]["id"])
    assert len(state.vm_pu) == len(arrays["nodes"]["id"])
    assert state.topology_hash == village.topology_hash
    assert not state.bus_quality.any()
    # 500 kW at power factor 0.97 and 0.99 pu through 630 kVA
    assert state.loading_pct[village.branch_index("harbour/tr1")] == pytest.approx(82.5, abs=1.0)
    assert state.source_p_w == pytest.approx(2.6e6 + state.losses_w, rel=1e-6)


def test_the_points_asked_for_are_those_a_state_is_made_of(village: GridModel) -> None:
    used = points_used(village)
    assert set(ALL) <= set(used)
    values = last(dict(ALL))
    wide = values | last({"harbour/m0001/p_w": 9e9})
    narrow: dict[str, Reading] = {point: values[point] for point in used if point in values}
    assert estimate_state(village, narrow, NOW).loading_pct.tolist() == estimate_state(village, wide, NOW).loading_pct.tolist()


def test_a_coupler_has_no_loading_and_says_so(village: GridModel) -> None:
    state = estimate_state(village, last(dict(ALL)), NOW)
    assert state.branch_quality[-1] == StateQuality.NOT_RATED


@pytest.mark.parametrize(
    ("age_s", "quality", "value"), [(3600.0, Quality.GOOD, 5e5), (5.0, Quality.STALE, 5e5), (5.0, Quality.BAD, None)]
)
def test_what_cannot_be_trusted_is_substituted_and_marked(
    village: GridModel, age_s: float, quality: Quality, value: float | None
) -> None:
    values = last(dict(ALL)) | last({"harbour/tr1/p_w": value}, age_s, quality)
    state = estimate_state(village, values, NOW)
    assert state.bus_quality[village.bus_index("harbour/lv")] == StateQuality.SUBSTITUTED
    assert state.bus_quality[village.bus_index("mill/lv")] == StateQuality.GOOD


def test_a_dead_part_is_dead_and_not_unknown(tampered: Callable[..., bytes]) -> None:
    grid = load_network(tampered("line", "in_service", 4, False))
    state = estimate_state(grid, last(dict(ALL)), NOW)
    bus = grid.bus_index("s2")
    assert state.bus_quality[bus] & StateQuality.DEAD
    assert state.vm_pu[bus] == 0.0
    assert state.branch_quality[4] & StateQuality.DEAD


def test_nothing_known_is_still_a_picture(village: GridModel) -> None:
    state = estimate_state(village, {}, NOW)
    assert np.isfinite(state.vm_pu).all()
    assert state.bus_quality[village.bus_index("n1")] == StateQuality.SUBSTITUTED
