"""The exact battery schedule against brute force on small cases, and its laws on all of them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tieline_edge.control.battery_oracle import Store, cheapest

HOUR = 3600.0


def cost_of(power_w: np.ndarray, prices: np.ndarray, store: Store, hours: float = 1.0) -> float:
    """Energy and wear less the worth of the end, computed from the powers alone; infinite when the window is left."""
    energy, total = store.stored_wh, 0.0
    for power, price in zip(power_w, prices, strict=True):
        energy += power * hours * (store.eta_charge if power > 0 else 1.0 / store.eta_discharge)
        if not -1e-6 <= energy <= store.room_wh + 1e-6:
            return math.inf
        total += price * power * hours / 1e6 + store.wear_eur_per_mwh * max(0.0, -power) * hours / 1e6
    return total - store.end_eur_per_mwh * energy / 1e6


def brute_force(prices: np.ndarray, store: Store, grid: int) -> float:
    """Cheapest way over a grid of stored energies, one hour a step; every change of energy within the powers is tried."""
    levels = np.linspace(0.0, store.room_wh, grid + 1)
    best = {round(store.stored_wh / store.room_wh * grid): 0.0}
    for price in prices:
        after: dict[int, float] = {}
        for (level, cost), target in itertools.product(best.items(), range(grid + 1)):
            change = levels[target] - levels[level]
            power = change / store.eta_charge if change > 0 else change * store.eta_discharge
            if -store.discharge_w - 1e-9 <= power <= store.charge_w + 1e-9:
                paid = cost + price * power / 1e6 + store.wear_eur_per_mwh * max(0.0, -power) / 1e6
                after[target] = min(after.get(target, math.inf), paid)
        best = after
    return min(float(cost - store.end_eur_per_mwh * levels[level] / 1e6) for level, cost in best.items())


#: Powers and efficiencies whose stored energies lie on the grid of the brute force: its optimum is then the true one.
CASES = st.builds(
    lambda prices, start, up, down, wear, worth: (
        np.array(prices, dtype=float),
        Store(up * 1250.0, down * 800.0, 10_000.0, start * 1000.0, 0.8, 0.8, wear, worth),
    ),
    st.lists(st.integers(-120, 200), min_size=1, max_size=6),
    st.integers(0, 10),
    st.integers(0, 6),
    st.integers(0, 6),
    st.sampled_from([0.0, 15.0]),
    st.sampled_from([0.0, 40.0, -30.0]),
)


@settings(max_examples=80, deadline=None)
@given(CASES)
def test_it_is_as_cheap_as_trying_everything(case: tuple[np.ndarray, Store]) -> None:
    prices, store = case
    found = cheapest(prices, store, HOUR)
    assert found.cost_eur == pytest.approx(brute_force(prices, store, 10), abs=1e-9)
    assert found.bound_eur == pytest.approx(found.cost_eur, abs=1e-8)
    assert cost_of(found.power_w, prices, store) == pytest.approx(found.cost_eur, abs=1e-8)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-500, 4000), min_size=1, max_size=96),
    st.floats(0.0, 1.0),
    st.floats(0.5, 1.0),
    st.floats(0.0, 30.0),
)
def test_powers_and_window_are_kept_at_any_price(prices: list[float], fill: float, eta: float, wear: float) -> None:
    store = Store(50e3, 40e3, 120e3, fill * 120e3, eta, eta, wear, 50.0)
    found = cheapest(prices, store, 900.0)
    assert found.power_w.shape == (len(prices),)
    assert np.all(found.power_w <= store.charge_w + 1e-6)
    assert np.all(found.power_w >= -store.discharge_w - 1e-6)
    assert cost_of(found.power_w, np.array(prices), store, 0.25) == pytest.approx(found.cost_eur, rel=1e-6, abs=1e-6)
    resting = -store.end_eur_per_mwh * store.stored_wh / 1e6
    assert found.bound_eur <= found.cost_eur <= resting + 1e-9


def test_it_buys_low_and_sells_high_if_the_losses_leave_a_gain() -> None:
    store = Store(10e3, 10e3, 10e3, 0.0, 0.9, 0.9)
    assert list(cheapest([20.0, 100.0], store, HOUR).power_w) == pytest.approx([10e3, -8.1e3])
    assert list(cheapest([90.0, 100.0], store, HOUR).power_w) == [0.0, 0.0]
    worn = Store(10e3, 10e3, 10e3, 0.0, 0.9, 0.9, wear_eur_per_mwh=80.0)
    assert list(cheapest([20.0, 100.0], worn, HOUR).power_w) == [0.0, 0.0]


def test_at_negative_prices_it_fills_up_and_burns_nothing() -> None:
    store = Store(10e3, 10e3, 10e3, 10e3, 0.9, 0.9)
    found = cheapest([-100.0, -100.0, -100.0], store, HOUR)
    # The linear programme would charge and discharge at once in every hour; a real battery empties first and fills then.
    assert found.power_w[0] < 0 < found.power_w[1]
    assert found.cost_eur == pytest.approx(brute_force(np.array([-100.0] * 3), store, 100), abs=2e-3)


def test_the_worth_of_the_end_keeps_energy() -> None:
    store = Store(10e3, 10e3, 10e3, 10e3, 1.0, 1.0, end_eur_per_mwh=120.0)
    assert list(cheapest([100.0], store, HOUR).power_w) == [0.0]
    assert list(cheapest([130.0], store, HOUR).power_w) == [-10e3]


def test_a_price_that_is_no_number_is_refused_and_no_steps_are_no_schedule() -> None:
    store = Store(1.0, 1.0, 1.0, 0.0)
    with pytest.raises(ValueError, match="finite"):
        cheapest([math.nan], store, HOUR)
    assert cheapest([], store, HOUR).power_w.size == 0


def test_a_day_of_wild_prices_takes_few_branches() -> None:
    rng = np.random.default_rng(20161207)
    for _ in range(5):
        prices = rng.normal(0.0, 120.0, 96)
        found = cheapest(prices, Store(50e3, 50e3, 100e3, 40e3, 0.92, 0.92, 5.0, 30.0), 900.0)
        assert found.cost_eur - found.bound_eur <= 0.002 * abs(found.cost_eur) + 1e-6
