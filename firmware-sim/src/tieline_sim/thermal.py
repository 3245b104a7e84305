"""Top-oil temperature of an ONAN transformer: exponential model of IEC 60076-7 (clause 8.2, C57.91 the same in kind)."""

from __future__ import annotations

from math import exp
from typing import Final

from tieline_sim.scenario import TransformerSpec

_OIL_EXPONENT: Final = 0.8
#: Ambient of a December evening; the simulator has no weather.
AMBIENT_DEGC: Final = 6.0


class TopOil:
    """Oil temperature that follows the loading with the oil time constant."""

    def __init__(self, spec: TransformerSpec) -> None:
        self._spec = spec
        self._loss_ratio = spec.vkr_pct / 100 * spec.rating_kva / spec.pfe_kw
        self.temp_degc = self.final_degc(60.0)

    def final_degc(self, loading_pct: float) -> float:
        """Temperature it would reach: ambient + rise * ((1 + R K^2) / (1 + R)) ^ x."""
        load = loading_pct / 100
        share = (1 + self._loss_ratio * load * load) / (1 + self._loss_ratio)
        return float(AMBIENT_DEGC + self._spec.oil_rise_k * share**_OIL_EXPONENT)

    def step(self, seconds: float, loading_pct: float) -> None:
        """Move on with a constant loading."""
        gap = self.final_degc(loading_pct) - self.temp_degc
        self.temp_degc += gap * (1 - exp(-seconds / self._spec.oil_time_constant_s))
