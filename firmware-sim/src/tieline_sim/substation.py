"""One substation in the field: its devices, its customers, and what they draw together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tieline_sim.demand import CustomerSplit
from tieline_sim.devices.battery import Battery, Battery124, Battery704
from tieline_sim.devices.contactor import Contactor
from tieline_sim.devices.meter import BusbarMeter
from tieline_sim.devices.pv import Panel, Pv123, Pv704
from tieline_sim.devices.sunspec import SunSpecDevice
from tieline_sim.errors import ScenarioError
from tieline_sim.grid import BusbarState
from tieline_sim.scenario import Scenario, SubstationSpec
from tieline_sim.thermal import TopOil

#: Which face a battery or an inverter of that id has. A new device model: its file, one row here, one test.
BATTERY_FACES: Final = {"bat1": Battery704, "bat2": Battery124}
PV_FACES: Final = {"pv1": Pv704, "pv2": Pv123}
#: Relative voltage drop of a service line at its customer's usual peak.
_SERVICE_DROP: Final = 0.015


@dataclass(frozen=True, slots=True)
class Draw:
    """What a substation puts on its busbar, positive from the grid: with its devices, and without any control."""

    site_w: float
    site_var: float
    der_w: float
    free_site_w: float
    free_site_var: float
    free_der_w: float


class Substation:
    """Devices and customers behind one transformer.

    Args:
        spec: Its part of the scenario.
        scenario: The whole of it.
        number: Position in the scenario, for the streams of noise.
        now: Simulated seconds since 1970.
        moved: Told of contactor movements: (substation, unit, class, closed, why, kW of the customer).
    """

    def __init__(
        self,
        spec: SubstationSpec,
        scenario: Scenario,
        number: int,
        now: Callable[[], float],
        moved: Callable[[str, Contactor, bool, str], None],
    ) -> None:
        self.spec = spec
        self.hertz = 50.0
        self.split = CustomerSplit(spec, scenario, 100 + 10 * number)
        self.oil = TopOil(spec.transformer)
        self.free_oil = TopOil(spec.transformer)
        self.batteries: dict[str, Battery704 | Battery124] = {}
        self.pv: dict[str, Pv704 | Pv123] = {}
        for battery in spec.batteries:
            face = _face(BATTERY_FACES, battery.id, spec.id, "batteries")
            self.batteries[battery.id] = face(Battery(battery), f"{spec.id}-{battery.id}", now, lambda: self.hertz)
        for panel in spec.pv:
            shape = _face(PV_FACES, panel.id, spec.id, "pv")
            self.pv[panel.id] = shape(Panel(panel), f"{spec.id}-{panel.id}", now, lambda: self.hertz)
        self.meter = BusbarMeter(f"{spec.id}-fm1")

        def contactor_moved(unit: int, closed: bool, why: str) -> None:
            moved(spec.id, self.contactors[unit], closed, why)

        rating_w = spec.transformer.rating_kva * 1e3
        self.contactors = {item.unit: Contactor(item, item.share * rating_w, now, contactor_moved) for item in spec.sheddable}
        self.meter_p_w = np.zeros(spec.meters)
        self.meter_v_v = np.full(spec.meters, 230.0)
        self.meter_e_wh = np.floor(np.random.default_rng([scenario.seed, 50 + number]).uniform(2e6, 9e6, spec.meters))
        self.busbar = BusbarState(1.0, 0.0, 0.0, 0.0, 0.0)
        self.free_busbar = self.busbar

    def sunspec_devices(self) -> dict[str, SunSpecDevice]:
        """Every SunSpec device by id."""
        return {"fm1": self.meter, **self.batteries, **self.pv}

    def step(self, instant: float, seconds: float, node_w: float, node_var: float, sun: float) -> Draw:
        """Move devices and customers on to ``instant``; ``seconds`` have passed."""
        wanted = node_w * self.split.weights(instant)
        sheddable = len(self.contactors)
        for power, contactor in zip(wanted, self.contactors.values(), strict=False):
            contactor.step(seconds, float(power), self.busbar.phase_v)
        self.meter_p_w = wanted[sheddable:]
        self.meter_e_wh = self.meter_e_wh + self.meter_p_w * seconds / 3600
        site = float(self.meter_p_w.sum()) + sum(contactor.p_w for contactor in self.contactors.values())
        for face in self.batteries.values():
            face.battery.step(seconds, face.target_w())
        for inverter in self.pv.values():
            inverter.panel.step(seconds, sun * inverter.panel.rating_w, inverter.limit_w())
        der = sum(face.battery.p_w for face in self.batteries.values()) - sum(row.panel.injected_w for row in self.pv.values())
        free_der = -sum(row.panel.available_w for row in self.pv.values())
        served = site / node_w if node_w > 0 else 1.0
        return Draw(site, node_var * served, der, node_w, node_var, free_der)

    def observe(self, busbar: BusbarState, free_busbar: BusbarState, seconds: float, hertz: float) -> None:
        """Take over what the power flows say."""
        self.busbar, self.free_busbar, self.hertz = busbar, free_busbar, hertz
        self.oil.step(seconds, busbar.loading_pct)
        self.free_oil.step(seconds, free_busbar.loading_pct)
        usual = np.maximum(1.0, self.split.base[len(self.contactors) :] * self.spec.transformer.rating_kva * 1e3)
        self.meter_v_v = busbar.phase_v * (1 - _SERVICE_DROP * self.meter_p_w / usual)
        for face in self.batteries.values():
            face.battery.volt_ln = busbar.phase_v
        for inverter in self.pv.values():
            inverter.panel.volt_ln = busbar.phase_v
        for contactor in self.contactors.values():
            contactor.volt_ln = busbar.phase_v
        self.meter.p_w, self.meter.q_var = busbar.p_w, busbar.q_var
        self.meter.volt_ln, self.meter.hertz = busbar.phase_v, hertz
        self.meter.step(seconds)

    def to_state(self) -> dict[str, Any]:
        """For the state file."""
        return {
            "batteries": {name: face.to_state() for name, face in self.batteries.items()},
            "pv": {name: face.to_state() for name, face in self.pv.items()},
            "contactors": {str(unit): row.to_state() for unit, row in self.contactors.items()},
            "busbar_meter": [self.meter.imported_wh, self.meter.exported_wh],
            "meter_e_wh": self.meter_e_wh.tolist(),
            "oil": [self.oil.temp_degc, self.free_oil.temp_degc],
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`to_state` gave."""
        for name, row in state["batteries"].items():
            self.batteries[name].load_state(row)
        for name, row in state["pv"].items():
            self.pv[name].load_state(row)
        for unit, row in state["contactors"].items():
            self.contactors[int(unit)].load_state(row)
        self.meter.imported_wh, self.meter.exported_wh = state["busbar_meter"]
        self.meter_e_wh = np.array(state["meter_e_wh"])
        self.oil.temp_degc, self.free_oil.temp_degc = state["oil"]


def _face(table: Mapping[str, Any], name: str, substation: str, key: str) -> Any:
    if name not in table:
        raise ScenarioError("scenario", f"substations.{substation}.{key}", name, f"is none of {', '.join(table)}")
    return table[name]
