"""The lowest flat top of several batteries: by hand, and its laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tieline_core.ids import DeviceId
from tieline_edge.control import peak
from tieline_edge.control.battery import EFFICIENCY, Battery
from tieline_edge.control.peak import flatten


def battery(number: int, power_w: float, delivers_wh: float, room_wh: float | None = None) -> Battery:
    """It delivers so much of what is stored."""
    stored_wh = delivers_wh / EFFICIENCY
    return Battery(DeviceId(f"bat{number}"), power_w, power_w, stored_wh if room_wh is None else room_wh, stored_wh)


def top_w(load_w: np.ndarray, batteries: list[Battery]) -> float:
    return float((load_w + flatten(load_w, batteries, 3600.0).sum(axis=0)).max())


def test_two_batteries_reach_together_what_neither_leaves_to_the_other() -> None:
    """50 kWh above 0, of which 35 can be delivered, at most 20 kW at once: 3.75 kW are left in each hour.

    One after the other the larger one stops at 10 kW, which its power does not let it go below, and 7.5 kW are left.
    """
    load = np.array([20e3, 10e3, 10e3, 10e3])
    pair = [battery(1, 10e3, 10e3), battery(2, 10e3, 25e3)]
    powers = flatten(load, pair, 3600.0)
    assert load + powers.sum(axis=0) == pytest.approx(3.75e3, abs=0.1)
    assert -powers.sum(axis=1) == pytest.approx([10e3, 25e3], abs=0.1)


def test_what_is_missing_is_taken_in_below_the_top_before_the_peak() -> None:
    load = np.array([0.0, 0.0, 30e3, 12e3])
    pair = [battery(1, 5e3, 0.0, 30e3), battery(2, 9e3, 20e3)]
    powers = flatten(load, pair, 3600.0)
    # 14 kW at once in the third hour; both together have to give 10 kWh less than nothing by then.
    assert float((load + powers.sum(axis=0)).max()) == pytest.approx(16e3, abs=0.1)
    assert powers[0, :2].sum() == pytest.approx(5e3 / EFFICIENCY**2, abs=1.0), "no more than the peak needs"


def test_batteries_of_one_kind_share_alike_what_one_of_their_sum_would_do() -> None:
    load = np.array([10e3, 40e3, 40e3, 10e3])
    assert top_w(load, [battery(1, 10e3, 10e3), battery(2, 10e3, 10e3)]) == pytest.approx(30e3, abs=1.0)
    assert top_w(load, [battery(1, 20e3, 20e3)]) == pytest.approx(30e3, abs=1.0)


def test_nothing_to_do_gives_zeros() -> None:
    pair = [battery(1, 10e3, 10e3), battery(2, 10e3, 0.0, 0.0)]
    assert flatten(np.array([]), pair, 900.0).shape == (2, 0)
    assert flatten(np.array([5e3]), [], 900.0).shape == (0, 1)
    assert not flatten(np.array([10e3, 30e3]), pair, 3600.0)[1].any()


@settings(max_examples=60)
@example([0.0, 0.0, 0.0, 5383.0], [(1000.0, 1000.0, 1000.0, 0.0), (1000.0, 3842.0, 1000.0, 1.0)])
@given(
    st.lists(st.floats(0, 100e3), min_size=1, max_size=24),
    st.lists(
        st.tuples(st.floats(1e3, 40e3), st.floats(1e3, 50e3), st.floats(1e3, 90e3), st.floats(0, 1)), min_size=2, max_size=4
    ),
)
def test_each_keeps_its_power_and_energy_and_together_they_are_no_worse_than_any_alone(
    load: list[float], kinds: list[tuple[float, float, float, float]]
) -> None:
    profile = np.array(load)
    batteries = [
        Battery(DeviceId(f"bat{number}"), charge, discharge, room, share * room)
        for number, (charge, discharge, room, share) in enumerate(kinds)
    ]
    powers = flatten(profile, batteries, 900.0)
    top = float((profile + powers.sum(axis=0)).max())
    alone = (float((profile + peak.shave(profile, battery, 900.0)).max()) for battery in batteries)
    assert top <= min(alone) + 1e-2
    assert not ((powers > 1.0).any(axis=0) & (powers < -1.0).any(axis=0)).any(), "no battery charges another"
    for battery, power in zip(batteries, powers, strict=True):
        assert np.all((-battery.discharge_w - 1e-3 <= power) & (power <= battery.charge_w + 1e-3))
        stored = battery.stored_wh + np.cumsum(np.where(power > 0, power * EFFICIENCY, power / EFFICIENCY)) / 4.0
        assert np.all((stored >= -1e-2) & (stored <= battery.room_wh + 1e-2))
