"""What an inverter measures: SunSpec models 103 (inverter, three phase) and 701 (DER AC measurement).

Both count injected power positive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import sqrt

from tieline_sim.devices.sunspec import Model


def current_a(power_w: float, volt_ln: float) -> float:
    """Current of a balanced three-phase device at unity power factor, one phase."""
    return abs(power_w) / (3 * volt_ln) if volt_ln > 1 else 0.0


def der_measurement(live: Callable[[], Mapping[str, float]]) -> Model:
    """Model 701, DER AC measurement; W positive when injecting."""
    return Model(
        701,
        scales={
            "A_SF": -1,
            "V_SF": -1,
            "Hz_SF": -3,
            "W_SF": 1,
            "PF_SF": -3,
            "VA_SF": 1,
            "Var_SF": 1,
            "TotWh_SF": 0,
            "Tmp_SF": -1,
        },
        fixed={"ACType": 2, "St": 1, "InvSt": 3, "ConnSt": 1, "Alrm": 0, "DERMode": 1},
        live=live,
        transmits=("W", "VA", "Var", "A", "LLV", "LNV", "Hz", "TotWhInj", "TotWhAbs"),
    )


def inverter_values_701(injected_w: float, volt_ln: float, hertz: float) -> dict[str, float]:
    """Live values of model 701 for a device at unity power factor."""
    return {
        "W": injected_w, "VA": abs(injected_w), "Var": 0.0, "PF": 1.0, "A": current_a(injected_w, volt_ln) * 3,
        "AL1": current_a(injected_w, volt_ln), "AL2": current_a(injected_w, volt_ln), "AL3": current_a(injected_w, volt_ln),
        "LLV": volt_ln * sqrt(3), "LNV": volt_ln, "Hz": hertz,
    }  # fmt: skip


def inverter_103(live: Callable[[], Mapping[str, float]]) -> Model:
    """Model 103, inverter (three phase); W positive when injecting."""
    return Model(
        103,
        scales={"A_SF": -1, "V_SF": -1, "W_SF": 1, "Hz_SF": -2, "VA_SF": 1, "VAr_SF": 1, "PF_SF": -1, "WH_SF": 0, "Tmp_SF": -1},
        fixed={"TmpCab": 31.0, "St": 4, "Evt1": 0, "Evt2": 0},
        live=live,
        transmits=("W", "VA", "VAr", "A", "PPVphAB", "PhVphA", "Hz", "WH"),
    )


def inverter_values_103(injected_w: float, volt_ln: float, hertz: float) -> dict[str, float]:
    """Live values of model 103 for a device at unity power factor."""
    phase = current_a(injected_w, volt_ln)
    line = volt_ln * sqrt(3)
    return {
        "A": 3 * phase, "AphA": phase, "AphB": phase, "AphC": phase, "PPVphAB": line, "PPVphBC": line, "PPVphCA": line,
        "PhVphA": volt_ln, "PhVphB": volt_ln, "PhVphC": volt_ln, "W": injected_w, "VA": abs(injected_w), "VAr": 0.0,
        "PF": 100.0, "Hz": hertz,
    }  # fmt: skip
