"""What the utility has before the story begins: the published network, a year of measurements, tomorrow's prices.

Nothing in it lies after the scenario's epoch, except prices, which are published a day ahead. It holds no noise of the
future, no profile and none of the true impedances.
"""

from __future__ import annotations

import csv
import warnings
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

import numpy as np

from tieline_sim.demand import CustomerSplit, Demand
from tieline_sim.errors import ScenarioError
from tieline_sim.grid import Grid
from tieline_sim.network import (
    PROFILE_START_UNIX_S,
    PROFILE_STEP_S,
    Floats,
    add_substations,
    bend_impedances,
    load_base,
    load_position,
    open_net,
)
from tieline_sim.scenario import Scenario

#: Share of the intervals that are missing, as in any real archive.
_MISSING: Final = 0.002
_LOCAL: Final = timezone(timedelta(hours=1))
#: Power flows the loss curve of each feeder is fitted on.
_SAMPLES: Final = 12


def write_history(scenario: Scenario, folder: Path, days: int, cache: Path | None = None) -> dict[str, Any]:
    """Write ``network.json``, ``measurements.parquet`` and ``prices.csv``.

    Args:
        scenario: The story.
        folder: Where to.
        days: Days of measurements before the epoch.
        cache: Folder for converted SimBench data, None for the usual one.

    Returns:
        What was written, for the command line.

    Raises:
        ScenarioError: When the profile year does not reach back that far.
    """
    last = int((scenario.epoch_unix_s - PROFILE_START_UNIX_S) // PROFILE_STEP_S)
    first = last - days * 96
    base = load_base(scenario.network.simbench_code, cache)
    if first < 1 or last >= len(base.load_p_w):
        raise ScenarioError("history", "days", days, f"the profile year holds {max(0, (last - 1) // 96)} days before the epoch")
    folder.mkdir(parents=True, exist_ok=True)
    _write_network(base.net_json, scenario, folder / "network.json")
    series = _series(base, scenario, range(first, last))
    rows = _write_measurements(series, first, scenario.seed, folder / "measurements.parquet")
    prices = _write_prices(scenario, folder / "prices.csv")
    return {
        "network": str(folder / "network.json"),
        "measurements": str(folder / "measurements.parquet"),
        "prices": str(folder / "prices.csv"),
        "points": list(series),
        "rows": rows,
        "start": _instant(first).isoformat(),
        "end": _instant(last).isoformat(),
        "price_hours": prices,
    }


def _instant(row: int) -> datetime:
    return datetime.fromtimestamp(PROFILE_START_UNIX_S + row * PROFILE_STEP_S, UTC)


def _write_network(text: str, scenario: Scenario, path: Path) -> None:
    """The published net: nominal impedances; customers, batteries and PV as elements with names."""
    net = open_net(text)
    busbars = add_substations(net, scenario)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandapower's writer warns about pandas it calls itself
        import pandapower as pp

        for number, spec in enumerate(scenario.substations):
            bus = busbars[spec.id]
            whole = net.load[net.load.name == f"{spec.id}/site"].iloc[0]
            shares = CustomerSplit(spec, scenario, 100 + 10 * number).base
            names = [f"load{item.unit:02d}" for item in spec.sheddable] + [f"m{k + 1:02d}" for k in range(spec.meters)]
            for name, share in zip(names, shares, strict=True):
                pp.create_load(
                    net, bus, p_mw=float(whole.p_mw * share), q_mvar=float(whole.q_mvar * share), name=f"{spec.id}/{name}"
                )
            net.load = net.load.drop(index=whole.name)
            for battery in spec.batteries:
                pp.create_storage(
                    net, bus, p_mw=0.0, max_e_mwh=battery.energy_kwh / 1e3, sn_mva=battery.power_kw / 1e3,
                    min_p_mw=-battery.power_kw / 1e3, max_p_mw=battery.power_kw / 1e3, name=f"{spec.id}/{battery.id}",
                    controllable=True,
                )  # fmt: skip
            for panel in spec.pv:
                pp.create_sgen(net, bus, p_mw=0.0, sn_mva=panel.power_kw / 1e3, type="PV", name=f"{spec.id}/{panel.id}")
        net.load["zone"] = net.bus.zone.loc[net.load.bus].to_numpy()
        pp.runpp(net, numba=False, lightsim2grid=False)  # refuses to publish a net that cannot be solved
        pp.to_json(net, str(path))


def _series(base: Any, scenario: Scenario, rows: range) -> dict[str, Floats]:
    """15-minute means by point."""
    net = open_net(base.net_json)
    positions = {spec.id: load_position(net, spec) for spec in scenario.substations}
    demand = Demand(base, scenario, positions)
    load_w, load_var, generators = demand.interval_means(rows)
    sun = demand.sun_means(generators)
    series: dict[str, Floats] = {}
    pv_w: dict[str, Floats] = {}
    for spec in scenario.substations:
        pv_w[spec.id] = -sun * sum(panel.power_kw for panel in spec.pv) * 1e3
        load = load_w[:, positions[spec.id]]
        series[f"{spec.id}/site/load_w"] = load
        series[f"{spec.id}/site/pv_w"] = pv_w[spec.id]
        series[f"{spec.id}/tr1/p_w"] = load + pv_w[spec.id]
        series[f"{spec.id}/tr1/q_var"] = load_var[:, positions[spec.id]]
    series |= _feeder_series(net, scenario, positions, (load_w, load_var, generators), pv_w)
    return {name: np.round(values, 1) for name, values in series.items()}


def _feeder_series(
    net: Any,
    scenario: Scenario,
    positions: dict[str, int],
    means: tuple[Floats, Floats, Floats],
    pv_w: dict[str, Floats],
) -> dict[str, Floats]:
    """Power into every feeder: the sum of what hangs on it, plus losses fitted on power flows of the true network."""
    busbars = add_substations(net, scenario)
    bend_impedances(net, scenario)
    grid = Grid(net, scenario, busbars)
    load_w, load_var, generators = means
    no_var = np.zeros(len(busbars))
    sites = np.stack([pv_w[name] for name in positions], axis=1)
    load_zone = net.bus.zone.loc[net.load.bus].to_numpy()
    sgen_zone = np.where(net.sgen.in_service, net.bus.zone.loc[net.sgen.bus], "")
    site_zone = net.bus.zone.loc[list(busbars.values())].to_numpy()
    sums = {
        feeder: (
            load_w[:, load_zone == feeder].sum(axis=1)
            - generators[:, sgen_zone == feeder].sum(axis=1)
            + sites[:, site_zone == feeder].sum(axis=1),
            load_var[:, load_zone == feeder].sum(axis=1),
        )
        for feeder in grid.heads
    }
    samples = np.unique(np.linspace(0, len(load_w) - 1, _SAMPLES).astype(int))
    solved = []
    for row in samples:
        grid.solve(load_w[row], load_var[row], generators[row], sites[row], no_var)
        solved.append(grid.feeder_powers())
    series: dict[str, Floats] = {}
    for feeder, parts in sums.items():
        square = parts[0] ** 2 + parts[1] ** 2
        basis = np.stack([np.ones(len(samples)), square[samples]], axis=1)
        for place, name in enumerate(("p_w", "q_var")):
            gap = np.array([row[feeder][place] for row in solved]) - parts[place][samples]
            constant, slope = np.linalg.lstsq(basis, gap, rcond=None)[0]
            series[f"primary/{feeder}/{name}"] = parts[place] + constant + slope * square
    return series


def _write_measurements(series: dict[str, Floats], first: int, seed: int, path: Path) -> int:
    """Long table: point, start of the interval, value, quality. Gives the number of rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    random = np.random.default_rng([seed, 90])
    tables = []
    for point, values in series.items():
        kept = np.flatnonzero(random.random(len(values)) >= _MISSING)
        micros = (PROFILE_START_UNIX_S + (first + kept) * PROFILE_STEP_S).astype(np.int64) * 1_000_000
        tables.append(
            pa.table(
                {
                    "point": pa.array([point] * len(kept)).dictionary_encode(),
                    "measured_at": pa.array(micros, pa.timestamp("us", tz="UTC")),
                    "value": pa.array(values[kept] + 0.0),
                    "quality": pa.array(["good"] * len(kept)).dictionary_encode(),
                }
            )
        )
    whole = pa.concat_tables(tables).unify_dictionaries()
    pq.write_table(whole, path, compression="zstd")
    return int(whole.num_rows)


def _write_prices(scenario: Scenario, path: Path) -> int:
    """Hourly prices of the epoch's local day and the days after it that the scenario knows."""
    midnight = scenario.clock.epoch.astimezone(_LOCAL).replace(hour=0, minute=0, second=0, microsecond=0)
    hours = [price for day in scenario.prices.days for price in day]
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["start", "price_eur_per_mwh"])
        for number, price in enumerate(hours):
            start = (midnight + timedelta(hours=number)).astimezone(UTC)
            writer.writerow([start.isoformat().replace("+00:00", "Z"), f"{price:.2f}"])
    return len(hours)
