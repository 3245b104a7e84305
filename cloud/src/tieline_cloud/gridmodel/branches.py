"""Lines and transformers of the file as pi models at their *to* side.

Follows pandapower's documented models (line: pi; transformer: T model with the leakage split in halves, turned into a
pi), so that a power flow agrees with ``pandapower.runpp`` to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from tieline_cloud.gridmodel.model import BoolArray, Branches, BranchKind, FloatArray, IntArray
from tieline_cloud.gridmodel.tables import Table


def read_lines(lines: Table, buses: Mapping[int, int], kv: FloatArray, f_hz: float) -> Branches:
    """Lines with everything closed that is in service; switches come afterwards."""
    from_bus = lines.references("from_bus", buses, "bus")
    to_bus = lines.references("to_bus", buses, "bus")
    length = lines.floats("length_km", above=0.0)
    parallel = lines.floats("parallel", 1.0, above=0.0)
    current = lines.floats("max_i_ka", above=0.0) * lines.floats("df", 1.0, above=0.0) * parallel * 1e3
    for row in np.flatnonzero(kv[from_bus] != kv[to_bus]):
        raise lines.refuse("to_bus", int(row), lines.column("to_bus")[row], "a line joins buses of one rated voltage")
    service = lines.booleans("in_service")
    count = len(lines)
    kinds: list[BranchKind] = ["line"] * count
    return Branches(
        ids=lines.names(),
        kinds=tuple(kinds),
        from_bus=from_bus,
        to_bus=to_bus,
        r_ohm=lines.floats("r_ohm_per_km") * length / parallel,
        x_ohm=lines.floats("x_ohm_per_km") * length / parallel,
        g_s=lines.floats("g_us_per_km", 0.0) * 1e-6 * length * parallel,
        b_s=2 * math.pi * f_hz * lines.floats("c_nf_per_km", 0.0) * 1e-9 * length * parallel,
        ratio=np.ones(count),
        shift_rad=np.zeros(count),
        i_max_from_a=current,
        i_max_to_a=current.copy(),
        rating_va=math.sqrt(3) * current * kv[from_bus] * 1e3,
        from_closed=service,
        to_closed=service.copy(),
    )


def _tapped_voltages(trafos: Table) -> tuple[FloatArray, FloatArray]:
    """Rated voltages [kV] of both sides at the tap position; only ratio taps without phase shift are understood."""
    vn_hv = trafos.floats("vn_hv_kv", above=0.0)
    vn_lv = trafos.floats("vn_lv_kv", above=0.0)
    # Before pandapower 3 there was no such column and every tap changer was a ratio one.
    kinds = trafos.texts("tap_changer_type") if "tap_changer_type" in trafos.columns else ["Ratio"] * len(trafos)
    position = trafos.floats("tap_pos", 0.0)
    steps = (position - trafos.floats("tap_neutral", 0.0)) * trafos.floats("tap_step_percent", 0.0) / 100.0
    for row, kind in enumerate(kinds):
        if kind is None or steps[row] == 0.0:
            continue
        if kind not in ("Ratio", "Symmetrical"):
            raise trafos.refuse("tap_changer_type", row, kind, "only 'Ratio' and 'Symmetrical' tap changers are understood")
        side = trafos.column("tap_side")[row]
        if side not in ("hv", "lv"):
            raise trafos.refuse("tap_side", row, side, "expected 'hv' or 'lv'")
        (vn_hv if side == "hv" else vn_lv)[row] *= 1.0 + steps[row]
    return vn_hv, vn_lv


def _refuse_unknown_models(trafos: Table) -> None:
    """Features that would change the result and are not modelled must not be passed over in silence."""
    for row, used in enumerate(trafos.booleans("tap_dependency_table", default=False)):
        if used:
            raise trafos.refuse("tap_dependency_table", row, True, "tap-dependent impedances are not understood")
    neutral: dict[str, float] = {
        "tap_step_degree": 0.0,
        "tap2_pos": 0.0,
        "leakage_resistance_ratio_hv": 0.5,
        "leakage_reactance_ratio_hv": 0.5,
    }
    for column, expected in neutral.items():
        for row, value in enumerate(trafos.floats(column, expected)):
            if value != expected:
                raise trafos.refuse(column, row, value, f"only {expected:g} is understood")


def read_trafos(trafos: Table, buses: Mapping[int, int], kv: FloatArray) -> Branches:
    """Two-winding transformers, *from* = high-voltage side."""
    _refuse_unknown_models(trafos)
    hv = trafos.references("hv_bus", buses, "bus")
    lv = trafos.references("lv_bus", buses, "bus")
    sn_mva = trafos.floats("sn_mva", above=0.0)
    parallel = trafos.floats("parallel", 1.0, above=0.0)
    vn_hv, vn_lv = _tapped_voltages(trafos)
    vk, vkr = trafos.floats("vk_percent", above=0.0), trafos.floats("vkr_percent")
    for row in np.flatnonzero(np.abs(vkr) > vk):
        raise trafos.refuse("vkr_percent", int(row), vkr[row], "the resistive part cannot exceed vk_percent")
    z_base = vn_lv**2 / sn_mva / parallel
    series = (vkr + 1j * np.sqrt(vk**2 - vkr**2)) / 100.0 * z_base
    iron_mva = trafos.floats("pfe_kw", 0.0) * 1e-3
    magnetising_mva = np.sqrt(np.maximum((trafos.floats("i0_percent", 0.0) / 100.0 * sn_mva) ** 2 - iron_mva**2, 0.0))
    shunt = (iron_mva - 1j * magnetising_mva) / vn_lv**2 * parallel
    # T with z/2 on each side and y in the middle -> pi: z' = z + y z^2/4, each leg y' = y / (2 (1 + y z/4)) ... exact.
    leg = (shunt / 2.0) / (1.0 + shunt * series / 4.0)
    series = series + shunt * series**2 / 4.0
    rating = sn_mva * 1e6 * parallel * trafos.floats("df", 1.0, above=0.0)
    service = trafos.booleans("in_service")
    kinds: list[BranchKind] = ["trafo"] * len(trafos)
    return Branches(
        ids=trafos.names(),
        kinds=tuple(kinds),
        from_bus=hv,
        to_bus=lv,
        r_ohm=series.real.copy(),
        x_ohm=series.imag.copy(),
        g_s=2.0 * leg.real,
        b_s=2.0 * leg.imag,
        ratio=(vn_hv / vn_lv) * (kv[lv] / kv[hv]),
        shift_rad=np.deg2rad(trafos.floats("shift_degree", 0.0)),
        i_max_from_a=rating / (math.sqrt(3) * trafos.floats("vn_hv_kv") * 1e3),
        i_max_to_a=rating / (math.sqrt(3) * trafos.floats("vn_lv_kv") * 1e3),
        rating_va=rating,
        from_closed=service,
        to_closed=service.copy(),
    )


def join(lines: Branches, trafos: Branches, from_closed: BoolArray, to_closed: BoolArray) -> Branches:
    """One table, lines first, with the final switch positions."""

    def both(name: str) -> FloatArray:
        return np.concatenate([getattr(lines, name), getattr(trafos, name)])

    kinds: tuple[BranchKind, ...] = lines.kinds + trafos.kinds
    buses: dict[str, IntArray] = {
        name: np.concatenate([getattr(lines, name), getattr(trafos, name)]) for name in ("from_bus", "to_bus")
    }
    return Branches(
        ids=lines.ids + trafos.ids,
        kinds=tuple(kinds),
        from_bus=buses["from_bus"],
        to_bus=buses["to_bus"],
        r_ohm=both("r_ohm"),
        x_ohm=both("x_ohm"),
        g_s=both("g_s"),
        b_s=both("b_s"),
        ratio=both("ratio"),
        shift_rad=both("shift_rad"),
        i_max_from_a=both("i_max_from_a"),
        i_max_to_a=both("i_max_to_a"),
        rating_va=both("rating_va"),
        from_closed=from_closed,
        to_closed=to_closed,
    )
