"""From what is stored to what a plan is made of: gathered on the hub, worked out in a worker process.

Load comes from the trained model where there is one, else from the season; PV from the quarter-hour quantiles of the
last fourteen days; the rest of the network from the feeders' season. Every stand-in is named in ``notes``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np

from tieline_cloud.dispatch.documents import Price
from tieline_cloud.dispatch.plans import PlanCurves
from tieline_cloud.gridmodel.allocation import allocate
from tieline_cloud.gridmodel.model import FloatArray, GridModel
from tieline_cloud.planning.problem import Battery, CurtailablePv, FlexibleLoad, Limits, PlanningProblem, SiteForecast
from tieline_cloud.settings import EdgeAssets, PlanningSettings
from tieline_core.errors import BadInputError
from tieline_core.forecast_inputs import DAY_STEPS, STEP, STEP_S, LoadHistory, NotEnoughHistoryError
from tieline_core.ids import DeviceId, EdgeId, PointId
from tieline_core.messages.telemetry import IssuedForecast
from tieline_core.model_manifest import ModelManifest
from tieline_core.timegrid import to_us

if TYPE_CHECKING:  # the solver belongs into the worker, not into the hub's memory
    from tieline_cloud.planning.day_ahead import PlanningOutcome

PV_DAYS: Final = 14
#: Assumed where no price is known.
FALLBACK_PRICE: Final = 60.0
#: Assumed where no state of charge is known.
FALLBACK_SOC_PCT: Final = 50.0


@dataclass(frozen=True, slots=True)
class PlanningInputs:
    """Everything a plan needs, out of the store; picklable.

    Attributes:
        start: First step, on the quarter hour.
        steps: Quarter hours to plan.
        prices: Known prices that touch the horizon, and the day before it.
        histories: Filled history by point: site loads, site PV, feeder heads.
        models: Manifest and ONNX file by point.
        soc_pct: Newest state of charge by battery point, None where unknown or too old.
        assets: Of each edge.
        planning: Limits.
    """

    start: datetime
    steps: int
    prices: Sequence[Price]
    histories: Mapping[PointId, LoadHistory]
    models: Mapping[PointId, tuple[ModelManifest, bytes]]
    soc_pct: Mapping[PointId, float | None]
    assets: Mapping[EdgeId, EdgeAssets]
    planning: PlanningSettings


@dataclass(frozen=True, slots=True)
class PlanningWork:
    """What a worker hands back.

    Attributes:
        outcome: Plans, certificate and arrays.
        curves: What an operator sees beside each edge's plan.
        feeders_w: Expected power of the feeder heads by point, one number a step.
        notes: What had to be assumed.
    """

    outcome: PlanningOutcome
    curves: Mapping[EdgeId, PlanCurves]
    feeders_w: Mapping[PointId, tuple[float, ...]]
    notes: tuple[str, ...]


def feeder_points(grid: GridModel) -> list[PointId]:
    """Points of the feeder heads' active power."""
    return [PointId.of("primary", area, "p_w") for area in sorted({area for area in grid.buses.area if area is not None})]


def price_steps(prices: Sequence[Price], start: datetime, steps: int) -> tuple[FloatArray, str | None]:
    """Price of each step [EUR/MWh] and what had to be assumed.

    A price holds until the next one starts, the last one as long as the one before it. Beyond the known prices, the same
    time of the day before stands in.
    """
    if not prices:
        return np.full(steps, FALLBACK_PRICE), f"no prices are known; {FALLBACK_PRICE:g} EUR/MWh is assumed throughout"
    starts = np.array([to_us(price.start) for price in prices])
    values = np.array([price.eur_per_mwh for price in prices])
    length = int(starts[-1] - starts[-2]) if len(starts) > 1 else 3_600_000_000
    day, step = 86_400_000_000, STEP_S * 1_000_000
    assumed = 0
    out = np.empty(steps)
    for number in range(steps):
        at = to_us(start) + number * step
        assumed += at >= starts[-1] + length or at < starts[0]
        while at >= starts[-1] + length and at - day >= starts[0]:
            at -= day
        out[number] = values[max(0, int(np.searchsorted(starts, at, side="right")) - 1)]
    return out, f"{assumed} of {steps} prices are not known; those of the day before stand in" if assumed else None


def pv_quantiles(history: LoadHistory, start: datetime, steps: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """P10, P50 and P90 of the signed PV power of each step: quantiles of the same quarter hour of the last days."""
    recent = history.values[-PV_DAYS * DAY_STEPS :]
    days = len(recent) // DAY_STEPS
    if days < 3:
        raise NotEnoughHistoryError("pv history", "values", f"{days} days", "at least three days are needed")
    table = np.minimum(recent[-days * DAY_STEPS :].reshape(days, DAY_STEPS), 0.0)
    offset = (to_us(start) - to_us(history.end)) // (STEP_S * 1_000_000)
    columns = (np.arange(steps) + offset) % DAY_STEPS
    p10, p50, p90 = np.quantile(table, [0.1, 0.5, 0.9], axis=0)[:, columns]
    return p10, p50, p90


def _forecast(inputs: PlanningInputs, point: PointId, notes: list[str]) -> IssuedForecast:
    from tieline_cloud.forecasting.baseline import seasonal
    from tieline_cloud.forecasting.predict import forecast

    history = inputs.histories.get(point)
    if history is None:
        raise NotEnoughHistoryError("planning inputs", point, 0, "nothing is stored for this point; import its history first")
    if point in inputs.models:
        try:
            return forecast(*inputs.models[point], history, inputs.start)
        except BadInputError as error:
            notes.append(f"{point}: the model cannot be used ({error}); the season stands in")
    else:
        notes.append(f"{point}: there is no model; the season stands in")
    return seasonal(point, history, inputs.start)


def site_forecast(inputs: PlanningInputs, edge: EdgeId, notes: list[str]) -> SiteForecast:
    """Load and PV of one site over the horizon."""
    load = _forecast(inputs, PointId.of(edge, "site", "load_w"), notes)
    p10, p50, p90 = (np.array(level[: inputs.steps]) for level in (load.p10, load.p50, load.p90))
    pv = PointId.of(edge, "site", "pv_w")
    if pv in inputs.histories:
        pv10, pv50, pv90 = pv_quantiles(inputs.histories[pv], inputs.start, inputs.steps)
    else:
        pv10 = pv50 = pv90 = np.zeros(inputs.steps)
        if inputs.assets[edge].pv:
            notes.append(f"{pv}: nothing is stored; no generation is assumed")
    return SiteForecast(edge, np.minimum(p10, p50), p50, np.maximum(p90, p50), pv10, pv50, pv90)


def _batteries(inputs: PlanningInputs, edge: EdgeId, notes: list[str]) -> list[Battery]:
    found = []
    for device, asset in inputs.assets[edge].batteries.items():
        soc = inputs.soc_pct.get(PointId.of(edge, device, "soc_pct"))
        if soc is None:
            notes.append(f"{edge}/{device}: no state of charge is known; {FALLBACK_SOC_PCT:g} % is assumed")
            soc = FALLBACK_SOC_PCT
        end = soc if asset.soc_end_pct is None else asset.soc_end_pct
        found.append(
            Battery(
                device_id=device,
                edge_id=edge,
                p_charge_max_w=asset.p_charge_max_w,
                p_discharge_max_w=asset.p_discharge_max_w,
                energy_wh=asset.energy_wh,
                soc_now_pct=soc,
                soc_min_pct=asset.soc_min_pct,
                soc_max_pct=asset.soc_max_pct,
                soc_end_pct=min(max(end, asset.soc_min_pct), asset.soc_max_pct),
                eta_charge=asset.eta_charge,
                eta_discharge=asset.eta_discharge,
                wear_eur_per_mwh=asset.wear_eur_per_mwh,
            )
        )
    return found


def _pv_plants(edge: EdgeId, assets: EdgeAssets) -> list[CurtailablePv]:
    total = sum(plant.p_rated_w for plant in assets.pv.values())
    return [CurtailablePv(device, edge, plant.p_rated_w / total) for device, plant in assets.pv.items() if plant.curtailable]


def _flexible(edge: EdgeId, assets: EdgeAssets, steps: int) -> list[FlexibleLoad]:
    loads = assets.flexible_loads.items()
    return [FlexibleLoad(device, edge, load.p_max_w, load.energy_wh, 0, steps - 1) for device, load in loads]


def _limits(planning: PlanningSettings) -> Limits:
    limits = Limits()
    ageing = tuple(row for row in limits.ageing if row[0] < planning.loading_limit_pct)
    return replace(limits, loading_max_pct=planning.loading_limit_pct, ageing=ageing)


def feeder_forecasts(inputs: PlanningInputs, grid: GridModel) -> dict[PointId, FloatArray]:
    """Expected power of the feeder heads that have a history, one number a step."""
    points = [point for point in feeder_points(grid) if point in inputs.histories]
    return {point: np.array(_forecast(inputs, point, []).p50[: inputs.steps]) for point in points}


def planning_problem(
    inputs: PlanningInputs, grid: GridModel, feeders_w: Mapping[PointId, FloatArray]
) -> tuple[PlanningProblem, tuple[str, ...]]:
    """The problem, and what had to be assumed.

    Raises:
        BadInputError: When something indispensable is missing.
    """
    notes: list[str] = []
    known = {substation.edge_id for substation in grid.substations}
    edges = [edge for edge in inputs.assets if edge in known]
    notes += [f"{edge}: the network has no such substation; it is not planned" for edge in inputs.assets if edge not in known]
    sites = tuple(site_forecast(inputs, edge, notes) for edge in edges)
    feeders: dict[str, FloatArray | float] = {point.device: values for point, values in feeders_w.items()}
    drawn: dict[str, FloatArray | float] = {site.edge_id: site.load_p50_w + site.pv_p50_w for site in sites}
    rest = allocate(grid, feeders, drawn).rest(grid)
    prices, assumed = price_steps(inputs.prices, inputs.start, inputs.steps)
    problem = PlanningProblem(
        start=inputs.start,
        step=STEP,
        price_eur_per_mwh=prices,
        sites=sites,
        rest_p_w=np.broadcast_to(rest.p_w, (inputs.steps, len(grid.buses))).copy(),
        rest_q_var=np.broadcast_to(rest.q_var, (inputs.steps, len(grid.buses))).copy(),
        batteries=tuple(battery for edge in edges for battery in _batteries(inputs, edge, notes)),
        pv=tuple(plant for edge in edges for plant in _pv_plants(edge, inputs.assets[edge])),
        flexible=tuple(load for edge in edges for load in _flexible(edge, inputs.assets[edge], inputs.steps)),
        limits=_limits(inputs.planning),
    )
    return problem, tuple(notes + ([assumed] if assumed else []))


def plan_from(inputs: PlanningInputs, grid: GridModel, now: datetime) -> PlanningWork:
    """Body of a worker: forecast, formulate, solve, certify."""
    from tieline_cloud.planning.day_ahead import plan_day

    feeders_w = feeder_forecasts(inputs, grid)
    problem, notes = planning_problem(inputs, grid, feeders_w)
    outcome = plan_day(problem, grid, now)
    return PlanningWork(
        outcome=outcome,
        curves={EdgeId(site.edge_id): _curves(problem, outcome, site) for site in problem.sites},
        feeders_w={point: _rounded(values) for point, values in feeders_w.items()},
        notes=notes,
    )


def _curves(problem: PlanningProblem, outcome: PlanningOutcome, site: SiteForecast) -> PlanCurves:
    edge = site.edge_id
    energy = outcome.schedule.energy_kwh
    return PlanCurves(
        load_p50_w=_rounded(site.load_p50_w),
        load_p90_w=_rounded(site.load_p90_w),
        pv_p50_w=_rounded(site.pv_p50_w),
        price_eur_per_mwh=_rounded(problem.price_eur_per_mwh, 2),
        loading_without_pct=_rounded(outcome.transformer_loading_without_pct[edge][1], 2),
        loading_with_pct=_rounded(outcome.transformer_loading_pct[edge][1], 2),
        loading_without_p90_pct=_rounded(outcome.transformer_loading_without_pct[edge][2], 2),
        loading_with_p90_pct=_rounded(outcome.transformer_loading_pct[edge][2], 2),
        soc_pct={
            DeviceId(battery.device_id): _rounded(energy[row] * 1e5 / battery.energy_wh, 2)
            for row, battery in enumerate(problem.batteries)
            if battery.edge_id == edge
        },
        fleet_cost_eur=round(outcome.cost_eur, 4),
        fleet_cost_without_eur=round(outcome.cost_without_eur, 4),
    )


def _rounded(values: FloatArray, digits: int = 0) -> tuple[float, ...]:
    return tuple(float(value) for value in np.round(values, digits))


def newest_soc(at: datetime, now: datetime, value: float | None, limit: timedelta = timedelta(hours=2)) -> float | None:
    """A state of charge that may still be planned with."""
    return value if value is not None and now - at <= limit and 0 <= value <= 100 else None
