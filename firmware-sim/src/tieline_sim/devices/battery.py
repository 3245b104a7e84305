"""Batteries: the physics, and the two register faces it is offered behind.

``bat1``: SunSpec models 1, 701 (DER AC measurement), 713 (storage capacity), 704 (DER AC controls), 802 (battery base).
``bat2``: SunSpec models 1, 103 (three-phase inverter), 124 (basic storage controls), 802.
Inside, power is positive when charging; models 701, 704, 103 and 124's rates count as their documents say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tieline_sim.devices.inverter import der_measurement, inverter_103, inverter_values_103, inverter_values_701
from tieline_sim.devices.reversion import ReversionTimer
from tieline_sim.devices.sunspec import Model, SunSpecDevice, Writable, identity
from tieline_sim.scenario import BatterySpec

_YEAR_S: Final = 31_536_000
_CHARGING, _DISCHARGING, _HOLDING, _EMPTY, _FULL = 4, 3, 6, 2, 5


class Battery:
    """State of charge, ramp and losses of a battery behind an inverter."""

    def __init__(self, spec: BatterySpec) -> None:
        self.spec = spec
        self.rating_w = spec.power_kw * 1e3
        self.capacity_wh = spec.energy_kwh * 1e3
        self.soc_wh = self.capacity_wh * spec.soc_pct / 100
        self.p_w = 0.0
        self.absorbed_wh = 0.0
        self.injected_wh = 0.0
        self.volt_ln = 230.0

    @property
    def soc_pct(self) -> float:
        """State of charge in percent of the rated energy."""
        return 100 * self.soc_wh / self.capacity_wh

    def step(self, seconds: float, target_w: float) -> None:
        """Move on: ramp towards the target (charging positive), inside rating and state of charge."""
        if seconds <= 0:
            return
        target = min(self.rating_w, max(-self.rating_w, target_w))
        reach = self.rating_w / self.spec.ramp_s * seconds
        ramped = self.p_w + min(reach, max(-reach, target - self.p_w))
        power = min(self.rating_w, max(-self.rating_w, ramped))
        hours = seconds / 3600
        room_wh = max(0.0, self.capacity_wh * self.spec.soc_max_pct / 100 - self.soc_wh)
        stock_wh = max(0.0, self.soc_wh - self.capacity_wh * self.spec.soc_min_pct / 100)
        highest = room_wh / self.spec.efficiency / hours
        lowest = -stock_wh * self.spec.efficiency / hours
        self.p_w = min(highest, max(lowest, power))
        energy = self.p_w * hours
        if energy >= 0:
            self.soc_wh += energy * self.spec.efficiency
            self.absorbed_wh += energy
        else:
            self.soc_wh += energy / self.spec.efficiency
            self.injected_wh -= energy

    def charge_state(self) -> int:
        """ChaSt of models 124 and 802."""
        if abs(self.p_w) > 0.005 * self.rating_w:
            return _CHARGING if self.p_w > 0 else _DISCHARGING
        if self.soc_pct <= self.spec.soc_min_pct + 0.01:
            return _EMPTY
        return _FULL if self.soc_pct >= self.spec.soc_max_pct - 0.01 else _HOLDING

    def to_state(self) -> dict[str, float]:
        """For the state file."""
        return {name: getattr(self, name) for name in ("soc_wh", "p_w", "absorbed_wh", "injected_wh")}

    def load_state(self, state: Mapping[str, float]) -> None:
        """Take back what :meth:`to_state` gave."""
        for name, value in state.items():
            setattr(self, name, value)


def _battery_base(battery: Battery) -> Model:
    """Model 802, battery base model; DC power positive when charging as its note on W says for A and W."""

    def live() -> Mapping[str, float]:
        dc_w = battery.p_w * (battery.spec.efficiency if battery.p_w > 0 else 1 / battery.spec.efficiency)
        return {
            "SoC": battery.soc_pct,
            "DoD": 100 - battery.soc_pct,
            "ChaSt": battery.charge_state(),
            "W": dc_w,
            "A": dc_w / 720,
        }

    spec = battery.spec
    return Model(
        802,
        scales={
            "AHRtg_SF": 0,
            "WHRtg_SF": 1,
            "WChaDisChaMax_SF": 1,
            "SoC_SF": -2,
            "DoD_SF": -2,
            "SoH_SF": -2,
            "V_SF": -1,
            "A_SF": -1,
            "AMax_SF": -1,
            "W_SF": 1,
        },
        fixed={
            "AHRtg": battery.capacity_wh / 720,
            "WHRtg": battery.capacity_wh,
            "WChaRteMax": battery.rating_w,
            "WDisChaRteMax": battery.rating_w,
            "SoCMax": spec.soc_max_pct,
            "SoCMin": spec.soc_min_pct,
            "SoH": 98.0,
            "NCyc": 412,
            "LocRemCtl": 0,
            "AlmRst": 0,
            "Typ": 4,
            "State": 3,
            "Evt1": 0,
            "Evt2": 0,
            "EvtVnd1": 0,
            "EvtVnd2": 0,
            "V": 720.0,
            "SetOp": 1,
            "SetInvState": 3,
        },
        live=live,
        transmits=("SoC", "W"),
    )


class BatteryDevice(SunSpecDevice):
    """What both register faces keep: a battery and the timer after which its controls revert.

    Args:
        battery: The physics.
        models: The face.
        timer: Runs since the controls were written last.
    """

    def __init__(self, battery: Battery, models: Sequence[Model], timer: ReversionTimer) -> None:
        super().__init__(models)
        self.battery = battery
        self._timer = timer

    def to_state(self) -> dict[str, Any]:
        """Settings, physics and timer."""
        return {"models": super().to_state(), "battery": self.battery.to_state(), "deadline": self._timer.deadline}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`to_state` gave."""
        super().load_state(state["models"])
        self.battery.load_state(state["battery"])
        self._timer.deadline = state["deadline"]


class Battery704(BatteryDevice):
    """A battery that takes a power setpoint through model 704 (WSet group), measured through model 701.

    Args:
        battery: The physics.
        serial: Serial number of model 1.
        now: Simulated seconds since 1970.
        frequency: Grid frequency, Hz.
    """

    def __init__(self, battery: Battery, serial: str, now: Callable[[], float], frequency: Callable[[], float]) -> None:
        self._frequency = frequency
        timer = ReversionTimer(now)
        rating = battery.rating_w
        self._controls = Model(
            704,
            scales={"WSet_SF": 0, "WSetPct_SF": -2, "PF_SF": -3, "WMaxLimPct_SF": -2, "VarSet_SF": 0, "VarSetPct_SF": -2},
            writable={
                "WSetEna": Writable(0, 0, 1),
                "WSetMod": Writable(1, 0, 1),
                "WSet": Writable(0, -rating, rating),
                "WSetRvrt": Writable(0, -rating, rating),
                "WSetPct": Writable(0, -100, 100),
                "WSetPctRvrt": Writable(0, -100, 100),
                "WSetEnaRvrt": Writable(0, 0, 1),
                "WSetRvrtTms": Writable(0, 0, _YEAR_S),
            },
            live=lambda: {"WSetRvrtRem": round(timer.remaining_s())},
            written=lambda _names: timer.restart(self._controls.settings["WSetRvrtTms"]),
        )
        super().__init__(
            battery,
            [
                identity("BAT-704", serial),
                der_measurement(self._measured),
                Model(
                    713,
                    scales={"WH_SF": 1, "Pct_SF": -2},
                    fixed={"WHRtg": battery.capacity_wh, "SoH": 98.0, "Sta": 0},
                    live=lambda: {"SoC": battery.soc_pct, "WHAvail": battery.soc_wh},
                ),
                self._controls,
                _battery_base(battery),
            ],
            timer,
        )

    def _measured(self) -> Mapping[str, float]:
        battery = self.battery
        return inverter_values_701(-battery.p_w, battery.volt_ln, self._frequency()) | {
            "TotWhInj": battery.injected_wh,
            "TotWhAbs": battery.absorbed_wh,
        }

    def target_w(self) -> float:
        """Power asked for, charging positive; 0 W without a setpoint."""
        settings = self._controls.settings
        if self._timer.expired():
            settings["WSetEna"] = settings["WSetEnaRvrt"]
            settings["WSet"], settings["WSetPct"] = settings["WSetRvrt"], settings["WSetPctRvrt"]
        if not settings["WSetEna"]:
            return 0.0
        return -settings["WSet"] if settings["WSetMod"] == 1 else -settings["WSetPct"] / 100 * self.battery.rating_w


class Battery124(BatteryDevice):
    """A battery steered by the charge and discharge rates of model 124, measured through model 103.

    StorCtl_Mod activates limits: bit 0 the charge rate InWRte, bit 1 the discharge rate OutWRte, each in percent of WChaMax.
    The power, discharging positive, is held in [-InWRte, OutWRte]; inside that window the battery rests at 0 W. A negative
    rate is a floor in the other direction: InWRte = -50 makes it discharge with at least half power.
    """

    def __init__(self, battery: Battery, serial: str, now: Callable[[], float], frequency: Callable[[], float]) -> None:
        self._frequency = frequency
        timer = ReversionTimer(now)
        self._controls = Model(
            124,
            scales={"WChaMax_SF": 1, "WChaDisChaGra_SF": 0, "ChaState_SF": -2, "InOutWRte_SF": -2, "MinRsvPct_SF": -2},
            fixed={"WChaGra": 100 / battery.spec.ramp_s, "WDisChaGra": 100 / battery.spec.ramp_s, "ChaGriSet": 1},
            writable={
                "WChaMax": Writable(battery.rating_w, 0, battery.rating_w),
                "StorCtl_Mod": Writable(0, 0, 3),
                "OutWRte": Writable(100, -100, 100),
                "InWRte": Writable(100, -100, 100),
                "InOutWRte_RvrtTms": Writable(0, 0, 65534),
            },
            live=lambda: {"ChaState": battery.soc_pct, "ChaSt": battery.charge_state()},
            written=lambda _names: timer.restart(self._controls.settings["InOutWRte_RvrtTms"]),
        )
        face = [identity("BAT-124", serial), inverter_103(self._measured), self._controls, _battery_base(battery)]
        super().__init__(battery, face, timer)

    def _measured(self) -> Mapping[str, float]:
        battery = self.battery
        return inverter_values_103(-battery.p_w, battery.volt_ln, self._frequency()) | {"WH": battery.injected_wh}

    def target_w(self) -> float:
        """Power asked for, charging positive; 0 W when no limit forbids it."""
        settings = self._controls.settings
        if self._timer.expired():
            settings["StorCtl_Mod"] = 0
        mode = int(settings["StorCtl_Mod"])
        rate_w = settings["WChaMax"] / 100
        highest = settings["InWRte"] * rate_w if mode & 1 else self.battery.rating_w
        lowest = -settings["OutWRte"] * rate_w if mode & 2 else -self.battery.rating_w
        if lowest > highest:
            return 0.0
        return min(highest, max(lowest, 0.0))
