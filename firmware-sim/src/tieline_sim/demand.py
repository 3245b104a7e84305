"""What customers want: profiles, seeded noise, and the split of a node over its customers.

Noise is a function of (seed, instant), not of a generator's position: both worlds see the same, and a restart changes nothing.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np

from tieline_sim.network import PROFILE_START_UNIX_S, PROFILE_STEP_S, BaseNetwork, Floats
from tieline_sim.scenario import Scenario, SubstationSpec

_FAST_S: Final = 60.0


class Noise:
    """Standard normal values on a time grid, interpolated linearly.

    Args:
        seed: Of the scenario.
        stream: Tells independent noises apart.
        size: Values at each instant.
        period_s: Distance of the grid.
    """

    def __init__(self, seed: int, stream: int, size: int, period_s: float) -> None:
        self._key = (seed & 0xFFFFFFFF) << 16 | stream
        self._size = size
        self.period_s = period_s
        self._grid = lru_cache(maxsize=4)(self._draw)

    def _draw(self, bucket: int) -> Floats:
        generator = np.random.Generator(np.random.Philox(key=self._key, counter=[0, 0, 0, bucket]))
        return generator.standard_normal(self._size)

    def at(self, instant: float) -> Floats:
        """Values at an instant, seconds since 1970, shape (size,)."""
        bucket, rest = divmod(instant, self.period_s)
        share = rest / self.period_s
        return self._grid(int(bucket)) * (1 - share) + self._grid(int(bucket) + 1) * share


class Demand:
    """Power of every load of the network and sun on every panel, at any instant of the profile year."""

    def __init__(self, base: BaseNetwork, scenario: Scenario, positions: dict[str, int]) -> None:
        self._base = base
        loads = base.load_p_w.shape[1]
        self.scale = np.full(loads, scenario.network.load_scale)
        for spec in scenario.substations:
            self.scale[positions[spec.id]] *= spec.load_scale
        self._noise = scenario.noise
        self._slow = Noise(scenario.seed, 10, loads, PROFILE_STEP_S)
        self._fast = Noise(scenario.seed, 11, loads, _FAST_S)
        self._sun_column = int(np.argmax(base.sgen_p_w[12 * 4 : 12 * 4 + 96 * 300].sum(axis=0) > 0))
        self._sun_peak = float(base.sgen_p_w[:, self._sun_column].max())

    def _interpolated(self, table: Floats, instant: float) -> Floats:
        """A row is the mean of its interval, so it stands at the middle of it."""
        place = (instant - PROFILE_START_UNIX_S) / PROFILE_STEP_S - 0.5
        row = int(np.clip(np.floor(place), 0, len(table) - 2))
        share = min(1.0, max(0.0, place - row))
        result: Floats = table[row] * (1 - share) + table[row + 1] * share
        return result

    def factor(self, instant: float) -> Floats:
        """Scale and noise of every load, shape (loads,)."""
        noise = self._noise
        factor: Floats = self.scale * (
            1 + noise.node_slow_pct / 100 * self._slow.at(instant) + noise.node_fast_pct / 100 * self._fast.at(instant)
        )
        return factor

    def loads(self, instant: float) -> tuple[Floats, Floats]:
        """Active (W) and reactive power (var) of all loads, shape (loads,)."""
        factor = self.factor(instant)
        return self._interpolated(self._base.load_p_w, instant) * factor, (
            self._interpolated(self._base.load_q_var, instant) * factor
        )

    def generators(self, instant: float) -> Floats:
        """Power of the network's own generators, W, shape (sgens,)."""
        return self._interpolated(self._base.sgen_p_w, instant)

    def sun(self, instant: float) -> float:
        """Share of its rating a panel could give, 0..1."""
        value = self._interpolated(self._base.sgen_p_w[:, self._sun_column : self._sun_column + 1], instant)[0]
        return float(max(0.0, value / self._sun_peak))

    def interval_means(self, rows: range) -> tuple[Floats, Floats, Floats]:
        """15-minute means of loads (W, var; scaled, with slow noise) and of the sun, one row an interval."""
        result = []
        for table in (self._base.load_p_w, self._base.load_q_var, self._base.sgen_p_w):
            # The mean of the interpolated curve over an interval: 3/4 its own row, 1/8 each neighbour.
            before, own, after = (table[rows.start + k : rows.stop + k] for k in (-1, 0, 1))
            result.append(before / 8 + own * 0.75 + after / 8)
        starts = PROFILE_START_UNIX_S + PROFILE_STEP_S * np.arange(rows.start, rows.stop)
        share = self._noise.node_slow_pct / 100
        factor = np.stack([self.scale * (1 + share * self._slow.at(start + PROFILE_STEP_S / 2)) for start in starts])
        return result[0] * factor, result[1] * factor, result[2]

    def sun_means(self, generators: Floats) -> Floats:
        """Share of its rating a panel gave, from the third result of :meth:`interval_means`."""
        result: Floats = np.maximum(0.0, generators[:, self._sun_column] / self._sun_peak)
        return result


class CustomerSplit:
    """Splits a node's load over sheddable and metered customers; the parts always sum to the node."""

    def __init__(self, spec: SubstationSpec, scenario: Scenario, stream: int) -> None:
        random = np.random.default_rng([scenario.seed, stream])
        metered = random.lognormal(0.0, 0.4, spec.meters)
        rest = 1 - sum(item.share for item in spec.sheddable)
        shares = [item.share for item in spec.sheddable]
        self.base = np.concatenate([shares, metered / metered.sum() * rest])
        size = len(self.base)
        self._noise = scenario.noise
        self._slow = Noise(scenario.seed, stream, size, PROFILE_STEP_S)
        self._fast = Noise(scenario.seed, stream + 1, size, _FAST_S)

    def weights(self, instant: float) -> Floats:
        """Share of each customer, sheddable ones first; shape (customers,), sums to 1, none below 0."""
        noise = self._noise
        shape = (
            1 + noise.customer_slow_pct / 100 * self._slow.at(instant) + noise.customer_fast_pct / 100 * self._fast.at(instant)
        )
        raw = self.base * np.maximum(0.05, shape)
        result: Floats = raw / raw.sum()
        return result
