"""``fm1``: three-phase meter of the low-voltage busbar, SunSpec models 1 and 203 (ac_meter, wye-connect abcn).

It is mounted so that power drawn from the transformer counts as import (positive W).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import hypot, sqrt

from tieline_sim.devices.sunspec import Model, SunSpecDevice, identity


class BusbarMeter(SunSpecDevice):
    """Total of the busbar; the world tells it what flows."""

    def __init__(self, serial: str) -> None:
        self.p_w = 0.0
        self.q_var = 0.0
        self.volt_ln = 230.0
        self.hertz = 50.0
        self.imported_wh = 41_235_000.0
        self.exported_wh = 0.0
        super().__init__(
            [
                identity("METER-203", serial),
                Model(
                    203,
                    scales={
                        "A_SF": 0,
                        "V_SF": -2,
                        "Hz_SF": -2,
                        "W_SF": 2,
                        "VA_SF": 2,
                        "VAR_SF": 2,
                        "PF_SF": -2,
                        "TotWh_SF": 0,
                    },
                    fixed={"Evt": 0},
                    live=self._values,
                    transmits=("A", "AphA", "PhV", "PhVphA", "PPV", "Hz", "W", "VA", "VAR", "TotWhExp", "TotWhImp"),
                ),
            ]
        )

    def _values(self) -> Mapping[str, float]:
        apparent = hypot(self.p_w, self.q_var)
        phase = apparent / (3 * self.volt_ln) if self.volt_ln > 1 else 0.0
        line = self.volt_ln * sqrt(3)
        return {
            "A": 3 * phase, "AphA": phase, "AphB": phase, "AphC": phase, "PhV": self.volt_ln, "PhVphA": self.volt_ln,
            "PhVphB": self.volt_ln, "PhVphC": self.volt_ln, "PPV": line, "PhVphAB": line, "PhVphBC": line, "PhVphCA": line,
            "Hz": self.hertz, "W": self.p_w, "VA": apparent, "VAR": self.q_var,
            "PF": 100 * self.p_w / apparent if apparent > 1 else 100.0,
            "TotWhImp": self.imported_wh, "TotWhExp": self.exported_wh,
        }  # fmt: skip

    def step(self, seconds: float) -> None:
        """Count energy."""
        energy = self.p_w * seconds / 3600
        if energy >= 0:
            self.imported_wh += energy
        else:
            self.exported_wh -= energy
