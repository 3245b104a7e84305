"""What a day plan is made from: frozen values, checked once, hashed for the certificate."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from itertools import pairwise

import numpy as np

from tieline_cloud.gridmodel.model import FloatArray, GridModel
from tieline_core.errors import BadInputError

MAX_STEPS = 192
SOURCE = "planning problem"


@dataclass(frozen=True, slots=True)
class SiteForecast:
    """Load and PV of one substation's site, quantiles of the signed power [W], load convention, [T].

    ``pv_*`` are <= 0, so P10 is the most generation and P90 the least: P10 + P10 is the low end of the site's exchange
    and P90 + P90 the high end.

    Attributes:
        edge_id: The substation's edge.
        load_p10_w, load_p50_w, load_p90_w: Customers without storage, PV and flexible loads.
        pv_p10_w, pv_p50_w, pv_p90_w: All PV of the site.
        tan_phi: Reactive over active power of the customers.
    """

    edge_id: str
    load_p10_w: FloatArray
    load_p50_w: FloatArray
    load_p90_w: FloatArray
    pv_p10_w: FloatArray
    pv_p50_w: FloatArray
    pv_p90_w: FloatArray
    tan_phi: float = 0.25


@dataclass(frozen=True, slots=True)
class Battery:
    """One storage unit; powers at its terminals, state of charge of the energy inside.

    Attributes:
        device_id, edge_id: Who it is.
        p_charge_max_w, p_discharge_max_w: Both positive.
        energy_wh: Usable capacity at 100 %.
        soc_now_pct, soc_min_pct, soc_max_pct: Now, and the window the plan may use.
        soc_end_pct: At least this much at the end of the horizon.
        eta_charge, eta_discharge: One-way efficiencies in (0, 1].
        wear_eur_per_mwh: Price of each discharged MWh.
    """

    device_id: str
    edge_id: str
    p_charge_max_w: float
    p_discharge_max_w: float
    energy_wh: float
    soc_now_pct: float
    soc_min_pct: float = 10.0
    soc_max_pct: float = 95.0
    soc_end_pct: float = 50.0
    eta_charge: float = 0.96
    eta_discharge: float = 0.96
    wear_eur_per_mwh: float = 15.0


@dataclass(frozen=True, slots=True)
class CurtailablePv:
    """A PV plant that obeys a generation limit; ``share`` is its part of the site's PV forecast."""

    device_id: str
    edge_id: str
    share: float


@dataclass(frozen=True, slots=True)
class FlexibleLoad:
    """A load that must get its energy inside a window of steps and does not care when.

    Doing nothing means full power from the first step of the window until the energy is served.
    """

    device_id: str
    edge_id: str
    p_max_w: float
    energy_wh: float
    first_step: int
    last_step: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits and what crossing them is worth.

    Attributes:
        loading_max_pct: Hard loading limit of every branch.
        ageing: (from loading %, EUR per MWh above it) of the substations' transformers, both rising.
        peak_from_pct: Below this loading of a substation's transformer a lower peak is worth nothing.
        peak_eur_per_kw: Worth of one kW less P90 peak over the horizon, per substation.
        overload_eur_per_mwh, voltage_eur_per_pct_h, soc_shortfall_eur_per_mwh, unserved_eur_per_mwh: Labelled slack.
        curtailment_eur_per_mwh: Price of curtailed PV besides its lost energy value.
        loading_margin_pct, voltage_margin_pu: Kept free in the linear model so that the AC check holds strictly.
    """

    loading_max_pct: float = 100.0
    ageing: tuple[tuple[float, float], ...] = ((80.0, 20.0), (85.0, 60.0), (90.0, 150.0), (95.0, 400.0))
    peak_from_pct: float = 60.0
    peak_eur_per_kw: float = 0.5
    overload_eur_per_mwh: float = 10_000.0
    voltage_eur_per_pct_h: float = 2_000.0
    soc_shortfall_eur_per_mwh: float = 500.0
    unserved_eur_per_mwh: float = 3_000.0
    curtailment_eur_per_mwh: float = 10.0
    loading_margin_pct: float = 0.1
    voltage_margin_pu: float = 1e-4


@dataclass(frozen=True, slots=True)
class PlanningProblem:
    """Everything one plan is computed from.

    Attributes:
        start: First interval's start, aware UTC.
        step: Interval length.
        price_eur_per_mwh: Day-ahead price [T], may be negative.
        sites: One for each substation that has devices to plan.
        rest_p_w, rest_q_var: Everything else by bus [T, bus]: see :func:`tieline_cloud.gridmodel.allocation.allocate`.
        batteries, pv, flexible: Devices to plan.
        limits: Limits and prices of crossing them.

    Raises:
        BadInputError: Naming the key, its value and the reason.
    """

    start: datetime
    step: timedelta
    price_eur_per_mwh: FloatArray
    sites: tuple[SiteForecast, ...]
    rest_p_w: FloatArray
    rest_q_var: FloatArray
    batteries: tuple[Battery, ...] = ()
    pv: tuple[CurtailablePv, ...] = ()
    flexible: tuple[FlexibleLoad, ...] = ()
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        _check_times(self)
        _check_arrays(self)
        _check_devices(self)
        _check_limits(self.limits)

    @property
    def steps(self) -> int:
        """Number of intervals."""
        return len(self.price_eur_per_mwh)

    @property
    def hours(self) -> float:
        """Length of an interval [h]."""
        return self.step / timedelta(hours=1)

    def site(self, edge_id: str) -> SiteForecast:
        """The site of an edge."""
        return next(site for site in self.sites if site.edge_id == edge_id)

    def check_against(self, grid: GridModel) -> None:
        """Refuse a problem that does not fit the network.

        Raises:
            BadInputError: When an edge has no substation or the rest of the network has another number of buses.
        """
        known = {substation.edge_id for substation in grid.substations}
        for site in self.sites:
            if site.edge_id not in known:
                raise _bad(f"sites.{site.edge_id}", site.edge_id, f"the network has substations {sorted(known)}")
        if self.rest_p_w.shape[1] != len(grid.buses):
            raise _bad("rest_p_w", self.rest_p_w.shape, f"expected one column for each of {len(grid.buses)} buses")

    def input_sha256(self, grid: GridModel) -> dict[str, str]:
        """Hashes of what the plan was made from, by kind of input."""
        return {
            "grid": _digest(grid.topology_hash),
            "horizon": _digest(self.start.isoformat(), self.step.total_seconds(), self.steps),
            "prices": _digest(self.price_eur_per_mwh),
            "sites": _digest(*self.sites),
            "rest": _digest(self.rest_p_w, self.rest_q_var),
            "devices": _digest(*self.batteries, *self.pv, *self.flexible),
            "limits": _digest(self.limits),
        }


def _digest(*values: object) -> str:
    digest = hashlib.sha256()

    def feed(value: object) -> None:
        if isinstance(value, np.ndarray):
            digest.update(np.ascontiguousarray(value, dtype=np.float64).tobytes())
        elif hasattr(value, "__dataclass_fields__"):
            for part in fields(value):  # type: ignore[arg-type]  # checked by the attribute above
                digest.update(part.name.encode())
                feed(getattr(value, part.name))
        else:
            digest.update(repr(value).encode())

    for value in values:
        feed(value)
    return digest.hexdigest()


def _bad(key: str, value: object, reason: str) -> BadInputError:
    return BadInputError(SOURCE, key, value, reason)


def _check_times(problem: PlanningProblem) -> None:
    if problem.start.tzinfo is None:
        raise _bad("start", problem.start, "needs a time zone")
    if problem.step <= timedelta(0):
        raise _bad("step", problem.step, "must be positive")
    if not 1 <= problem.steps <= MAX_STEPS:
        raise _bad("price_eur_per_mwh", f"{problem.steps} steps", f"expected 1 to {MAX_STEPS} steps")


def _check_arrays(problem: PlanningProblem) -> None:
    shapes: list[tuple[str, FloatArray, int]] = [("price_eur_per_mwh", problem.price_eur_per_mwh, 1)]
    shapes += [("rest_p_w", problem.rest_p_w, 2), ("rest_q_var", problem.rest_q_var, 2)]
    for site in problem.sites:
        for kind in ("load", "pv"):
            for level in ("p10", "p50", "p90"):
                name = f"{kind}_{level}_w"
                shapes.append((f"sites.{site.edge_id}.{name}", getattr(site, name), 1))
    for key, values, dimensions in shapes:
        if values.ndim != dimensions or len(values) != problem.steps:
            raise _bad(key, values.shape, f"expected {problem.steps} steps in {dimensions} dimension(s)")
        if not np.isfinite(values).all():
            raise _bad(key, values[~np.isfinite(values)][0], "is not a finite number")
    if problem.rest_p_w.shape != problem.rest_q_var.shape:
        raise _bad("rest_q_var", problem.rest_q_var.shape, f"expected the shape of rest_p_w, {problem.rest_p_w.shape}")
    for site in problem.sites:
        _check_site(site)


def _check_site(site: SiteForecast) -> None:
    if not math.isfinite(site.tan_phi):
        raise _bad(f"sites.{site.edge_id}.tan_phi", site.tan_phi, "is not a finite number")
    for kind in ("load", "pv"):
        p10, p50, p90 = (getattr(site, f"{kind}_{level}_w") for level in ("p10", "p50", "p90"))
        if (p10 > p50).any() or (p50 > p90).any():
            raise _bad(f"sites.{site.edge_id}.{kind}_p50_w", None, "quantiles must not cross: p10 <= p50 <= p90")
    if (site.pv_p90_w > 0).any():
        raise _bad(f"sites.{site.edge_id}.pv_p90_w", float(site.pv_p90_w.max()), "PV power is <= 0 (load convention)")


def _check_battery(battery: Battery) -> None:
    key = f"batteries.{battery.edge_id}/{battery.device_id}"
    for name in ("p_charge_max_w", "p_discharge_max_w", "energy_wh"):
        if not 0 < getattr(battery, name) < math.inf:
            raise _bad(f"{key}.{name}", getattr(battery, name), "must be positive and finite")
    for name in ("eta_charge", "eta_discharge"):
        if not 0 < getattr(battery, name) <= 1:
            raise _bad(f"{key}.{name}", getattr(battery, name), "must be in (0, 1]")
    if not 0 <= battery.soc_min_pct < battery.soc_max_pct <= 100:
        raise _bad(f"{key}.soc_min_pct", battery.soc_min_pct, "expected 0 <= soc_min_pct < soc_max_pct <= 100")
    for name in ("soc_now_pct", "soc_end_pct"):
        if not 0 <= getattr(battery, name) <= 100:
            raise _bad(f"{key}.{name}", getattr(battery, name), "must be within 0 and 100")
    if not 0 <= battery.wear_eur_per_mwh < math.inf:
        raise _bad(f"{key}.wear_eur_per_mwh", battery.wear_eur_per_mwh, "must be a number and not negative")


def _check_flexible(load: FlexibleLoad, problem: PlanningProblem) -> None:
    key = f"flexible.{load.edge_id}/{load.device_id}"
    if not 0 <= load.first_step <= load.last_step < problem.steps:
        raise _bad(f"{key}.first_step", (load.first_step, load.last_step), f"the window must lie in 0..{problem.steps - 1}")
    if not 0 < load.p_max_w < math.inf:
        raise _bad(f"{key}.p_max_w", load.p_max_w, "must be positive and finite")
    most = load.p_max_w * problem.hours * (load.last_step - load.first_step + 1)
    if not 0 <= load.energy_wh <= most * (1 + 1e-9):
        raise _bad(f"{key}.energy_wh", load.energy_wh, f"the window holds 0 to {most:g} Wh at full power")


def _check_devices(problem: PlanningProblem) -> None:
    edges = [site.edge_id for site in problem.sites]
    if not edges:
        raise _bad("sites", (), "a plan needs at least one site")
    if len(set(edges)) != len(edges):
        raise _bad("sites", edges, "an edge stands in a problem once")
    seen: set[tuple[str, str]] = set()
    for kind, devices in (("batteries", problem.batteries), ("pv", problem.pv), ("flexible", problem.flexible)):
        for device in devices:
            key = f"{kind}.{device.edge_id}/{device.device_id}"
            if device.edge_id not in edges:
                raise _bad(key, device.edge_id, f"there is no site of this edge, only {edges}")
            if (device.edge_id, device.device_id) in seen:
                raise _bad(key, device.device_id, "a device stands in a problem once")
            seen.add((device.edge_id, device.device_id))
    for battery in problem.batteries:
        _check_battery(battery)
    for load in problem.flexible:
        _check_flexible(load, problem)
    shares: Mapping[str, float] = {edge: sum(plant.share for plant in problem.pv if plant.edge_id == edge) for edge in edges}
    for plant in problem.pv:
        if not 0 < plant.share <= 1 or shares[plant.edge_id] > 1 + 1e-9:
            raise _bad(f"pv.{plant.edge_id}/{plant.device_id}.share", plant.share, "shares lie in (0, 1] and sum to at most 1")


def _check_limits(limits: Limits) -> None:
    for name in (item.name for item in fields(Limits) if item.name != "ageing"):
        if not 0 <= getattr(limits, name) < math.inf:
            raise _bad(f"limits.{name}", getattr(limits, name), "must be a number and not negative")
    steps = [0.0, *(loading for loading, _ in limits.ageing), limits.loading_max_pct]
    prices = [0.0, *(price for _, price in limits.ageing), limits.overload_eur_per_mwh]
    if any(low >= high for low, high in pairwise(steps)):
        raise _bad("limits.ageing", limits.ageing, "loadings must rise and stay below loading_max_pct")
    if any(low > high for low, high in pairwise(prices)):
        raise _bad("limits.ageing", limits.ageing, "prices must rise and stay below overload_eur_per_mwh")
