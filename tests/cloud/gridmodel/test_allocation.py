"""Load allocation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline_cloud.gridmodel import GridModel
from tieline_cloud.gridmodel.allocation import allocate, bus_area
from tieline_core.errors import BadInputError


def test_a_feeder_is_spread_by_nominal_load_beside_its_metered_substations(village: GridModel) -> None:
    powers = allocate(village, {"north": 2.0e6, "south": 0.8e6}, {"harbour": 500e3, "mill": 300e3})
    at = {name: powers.p_w[0, village.bus_index(name)] for name in ("n1", "n2", "n3", "s1", "s2", "harbour/lv", "mill/lv")}
    # 1.2 MW left for 0.4 + 0.3 + 0.5 MW nominal: at nominal exactly. South 0.8 MW for 0.6 + 0.2 MW.
    assert at == pytest.approx(
        {"n1": 400e3, "n2": 300e3, "n3": 500e3, "s1": 600e3, "s2": 200e3, "harbour/lv": 500e3, "mill/lv": 300e3}
    )
    assert powers.substituted == ()
    assert powers.q_var[0, village.bus_index("n1")] == pytest.approx(100e3)


def test_a_feeder_without_measurement_follows_the_others_and_says_so(village: GridModel) -> None:
    powers = allocate(village, {"north": 0.6e6}, {"harbour": 0.0, "mill": 0.0})
    assert powers.p_w[0, village.bus_index("s1")] == pytest.approx(300e3)
    assert powers.substituted == ("south",)


def test_without_any_measurement_everything_is_nominal(village: GridModel) -> None:
    powers = allocate(village, {}, {})
    assert powers.p_w[0, village.bus_index("n3")] == pytest.approx(500e3)
    assert set(powers.substituted) == {"north", "south", "harbour", "mill"}


def test_measured_reactive_power_is_spread_too(village: GridModel) -> None:
    powers = allocate(village, {"north": 1.2e6}, {"harbour": 0.0}, {"north": 60e3}, {"harbour": 6e3})
    assert powers.q_var[0, village.bus_index("n1")] == pytest.approx(54e3 * 0.4 / 1.2)
    assert powers.q_var[0, village.bus_index("harbour/lv")] == pytest.approx(6e3)


def test_the_rest_is_everything_but_the_substations(village: GridModel) -> None:
    powers = allocate(village, {"north": np.full(4, 2e6)}, {"harbour": np.full(4, 5e5)}).rest(village)
    assert powers.p_w.shape == (4, len(village.buses))
    assert not powers.p_w[:, village.substation("harbour").lv_bus].any()
    assert powers.p_w[:, village.bus_index("n1")] == pytest.approx(np.full(4, 0.5e6))


def test_a_low_voltage_bus_belongs_to_the_feeder_above_it(village: GridModel) -> None:
    assert bus_area(village, village.bus_index("mill/lv")) == "north"
    assert bus_area(village, 0) == ""


@given(
    north=st.floats(0, 5e6), south=st.floats(0, 5e6), harbour=st.floats(-1e5, 6e5), mill=st.floats(-1e5, 6e5)
)  # fmt: skip
def test_what_is_measured_is_what_is_allocated(
    village: GridModel, north: float, south: float, harbour: float, mill: float
) -> None:
    powers = allocate(village, {"north": north, "south": south}, {"harbour": harbour, "mill": mill})
    assert powers.p_w.sum() == pytest.approx(north + south, abs=1e-3)


@pytest.mark.parametrize(
    ("feeders", "sites", "reason"),
    [
        ({"west": 1.0}, {}, "knows only"),
        ({}, {"west": 1.0}, "knows only"),
        ({"north": float("nan")}, {}, "finite"),
        ({"north": np.zeros(3), "south": np.zeros(4)}, {}, "same number of steps"),
    ],
)
def test_bad_measurements_are_named(
    village: GridModel, feeders: dict[str, float], sites: dict[str, float], reason: str
) -> None:
    with pytest.raises(BadInputError, match=reason):
        allocate(village, feeders, sites)
