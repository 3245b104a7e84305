"""The world: two copies of the true network solved in lockstep, one with the field's devices, one where no setpoint arrives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from tieline_sim.demand import Demand, Noise
from tieline_sim.devices.contactor import Contactor
from tieline_sim.errors import PowerFlowError
from tieline_sim.faults import FaultBoard
from tieline_sim.grid import Grid, GridState
from tieline_sim.network import BaseNetwork, Floats, add_substations, bend_impedances, load_position, open_net
from tieline_sim.record import RunRecord, Shed
from tieline_sim.scenario import Scenario
from tieline_sim.substation import Draw, Substation

#: Reactive share of what a back-feed draws (power factor 0.97).
_TIE_TAN_PHI: Final = 0.25
_DISTURBANCES: Final = ("line_out", "tie_closed", "surge")
_UTC_OFFSET_S: Final = 3600

Event = Callable[[str, Mapping[str, Any]], None]


class World:
    """Everything physical.

    Args:
        base: SimBench data.
        scenario: The story.
        now: Simulated seconds since 1970.
        wall: Wall seconds since 1970, only to note when things happened.
        event: Told of what happens: (name, details).
    """

    def __init__(
        self, base: BaseNetwork, scenario: Scenario, now: Callable[[], float], wall: Callable[[], float], event: Event
    ) -> None:
        self.scenario = scenario
        self._now, self._wall, self._event = now, wall, event
        net = open_net(base.net_json)
        self._positions = {spec.id: load_position(net, spec) for spec in scenario.substations}
        self.demand = Demand(base, scenario, self._positions)
        busbars = add_substations(net, scenario)
        bend_impedances(net, scenario)
        self._grid, self._free_grid = Grid(net, scenario, busbars), Grid(net, scenario, busbars)
        self.substations = {
            spec.id: Substation(spec, scenario, number, now, self._moved) for number, spec in enumerate(scenario.substations)
        }
        self.faults = FaultBoard(scenario.faults)
        for name, fault in scenario.faults.items():
            if fault.kind == "line_out" and not self._grid.has_line(fault.params["line"]):
                from tieline_sim.errors import ScenarioError

                raise ScenarioError("scenario", f"faults.{name}.line", fault.params["line"], "the network has no such line")
        self.record = RunRecord()
        self._frequency = Noise(scenario.seed, 5, 1, 20.0)
        self.instant: float | None = None
        self.grid_state: GridState | None = None
        self.free_state: GridState | None = None

    def _moved(self, substation: str, contactor: Contactor, closed: bool, why: str) -> None:
        kilowatts = contactor.demand_w / 1e3
        shed = Shed(substation, contactor.spec.unit, contactor.spec.priority_class, round(kilowatts, 3))
        all_closed = all(row.closed for row in self.substations[substation].contactors.values())
        self.record.note_contactor(shed, closed, why, [self._now(), self._wall()], all_closed)
        self._event(
            "closed" if closed else "opened",
            {"substation": substation, "unit": shed.unit, "class": shed.priority_class, "why": why, "kw": shed.shed_kw},
        )

    def tick(self, instant: float) -> None:
        """Move the world on to a simulated instant and solve both networks.

        A power flow that does not converge leaves the last solution standing and is an event.
        """
        seconds = 0.0 if self.instant is None else max(0.0, instant - self.instant)
        self.instant = instant
        load_w, load_var = self.demand.loads(instant)
        for _, params in self.faults.of_kind("surge"):
            row = self._positions[params["substation"]]
            load_w[row] *= params["factor"]
            load_var[row] *= params["factor"]
        generators, sun = self.demand.generators(instant), self.demand.sun(instant)
        lines = frozenset(params["line"] for _, params in self.faults.of_kind("line_out"))
        draws = {
            name: station.step(instant, seconds, float(load_w[row]), float(load_var[row]), sun)
            for (name, station), row in zip(self.substations.items(), self._positions.values(), strict=True)
        }
        try:
            for grid in (self._grid, self._free_grid):
                grid.take_out(lines)
            self._fix_ties(load_w, load_var, generators, draws)
            ties = self._ties()
            self.grid_state = self._solve(self._grid, load_w, load_var, generators, draws, ties)
            self.free_state = self._solve_free(load_w, load_var, generators, draws, ties)
        except PowerFlowError as error:
            self._event("power-flow-failed", {"reason": str(error)})
        if self.grid_state is not None and self.free_state is not None:
            self._observe(instant, seconds, self.grid_state, self.free_state)

    def _ties(self) -> Floats:
        """Power of the active back-feeds at each substation, W."""
        power = dict.fromkeys(self.substations, 0.0)
        for name, params in self.faults.of_kind("tie_closed"):
            power[params["substation"]] += self.faults.fixed.get(name, 0.0)
        return np.array(list(power.values()))

    def _solve(
        self, grid: Grid, load_w: Floats, load_var: Floats, generators: Floats, draws: Mapping[str, Draw], ties: Floats
    ) -> GridState:
        powers, reactive = load_w.copy(), load_var.copy()
        for name, row in self._positions.items():
            powers[row], reactive[row] = draws[name].site_w, draws[name].site_var
        der = np.array([draw.der_w for draw in draws.values()]) + ties
        return grid.solve(powers, reactive, generators, der, ties * _TIE_TAN_PHI)

    def _solve_free(
        self, load_w: Floats, load_var: Floats, generators: Floats, draws: Mapping[str, Draw], ties: Floats
    ) -> GridState:
        der = np.array([draw.free_der_w for draw in draws.values()]) + ties
        return self._free_grid.solve(load_w, load_var, generators, der, ties * _TIE_TAN_PHI)

    def _fix_ties(self, load_w: Floats, load_var: Floats, generators: Floats, draws: Mapping[str, Draw]) -> None:
        """Settle what a newly closed tie draws: as told, or so that the transformer stands at the scenario's loading."""
        for name, params in self.faults.of_kind("tie_closed"):
            if name in self.faults.fixed:
                continue
            station = params["substation"]
            if "extra_kw" in params:
                self.faults.fixed[name] = float(params["extra_kw"]) * 1e3
            else:
                others, place = self._ties(), list(self.substations).index(station)
                rating_w = self.substations[station].spec.transformer.rating_kva * 1e3
                low, high = 0.0, 3 * rating_w
                for _ in range(14):
                    middle = (low + high) / 2
                    trial = others.copy()
                    trial[place] += middle
                    state = self._solve(self._grid, load_w, load_var, generators, draws, trial)
                    below = state.busbars[station].loading_pct < params["to_loading_pct"]
                    low, high = (middle, high) if below else (low, middle)
                self.faults.fixed[name] = (low + high) / 2
            self._event("tie-power", {"fault": name, "substation": station, "kw": round(self.faults.fixed[name] / 1e3, 1)})

    def _observe(self, instant: float, seconds: float, state: GridState, free: GridState) -> None:
        hertz = 50.0 + 0.008 * float(self._frequency.at(instant)[0])
        disturbed = any(self.faults.of_kind(kind) for kind in _DISTURBANCES)
        price = self.price(instant)
        at = [instant, self._wall()]
        for name, station in self.substations.items():
            busbar, shadow = state.busbars[name], free.busbars[name]
            station.observe(busbar, shadow, seconds, hertz)
            self.record.note_loading(name, (busbar.loading_pct, shadow.loading_pct), disturbed)
            self.record.note_overload(name, busbar.loading_pct, at, self._event)
            for place, power in enumerate((busbar.p_w, shadow.p_w)):
                energy = power * seconds / 3600
                self.record.energy_wh[place] += energy
                self.record.cost_eur[place] += energy * price / 1e6
        self.record.price_seconds[0] += price * seconds
        self.record.price_seconds[1] += seconds

    def price(self, instant: float) -> float:
        """Day-ahead price, EUR/MWh; the last day known holds on."""
        day0 = (self.scenario.epoch_unix_s + _UTC_OFFSET_S) // 86400
        day, second = divmod(instant + _UTC_OFFSET_S, 86400)
        days = self.scenario.prices.days
        return days[min(len(days) - 1, max(0, int(day - day0)))][int(second // 3600)]

    def to_state(self) -> dict[str, Any]:
        """For the state file."""
        return {
            "instant": self.instant,
            "substations": {name: station.to_state() for name, station in self.substations.items()},
            "faults": self.faults.to_state(),
            "record": self.record.to_state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`to_state` gave."""
        self.instant = state["instant"]
        for name, row in state["substations"].items():
            self.substations[name].load_state(row)
        self.faults.load_state(state["faults"])
        self.record = RunRecord.of_state(state["record"])
