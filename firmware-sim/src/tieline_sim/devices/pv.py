"""PV inverters: ``pv1`` offers SunSpec models 1, 701, 704 (limit group), ``pv2`` models 1, 103, 123 (immediate controls)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from tieline_sim.devices.inverter import der_measurement, inverter_103, inverter_values_103, inverter_values_701
from tieline_sim.devices.reversion import ReversionTimer
from tieline_sim.devices.sunspec import Model, SunSpecDevice, Writable, identity
from tieline_sim.scenario import PvSpec

_YEAR_S: Final = 31_536_000


class Panel:
    """What the sun offers and what the inverter lets through, W >= 0."""

    def __init__(self, spec: PvSpec) -> None:
        self.rating_w = spec.power_kw * 1e3
        self.available_w = 0.0
        self.injected_w = 0.0
        self.injected_wh = 0.0
        self.volt_ln = 230.0

    def step(self, seconds: float, available_w: float, limit_w: float) -> None:
        """Move on with what the sun offers and the limit in force."""
        self.available_w = min(self.rating_w, max(0.0, available_w))
        self.injected_w = min(self.available_w, limit_w)
        self.injected_wh += self.injected_w * seconds / 3600


class _Inverter(SunSpecDevice):
    """What both faces share: panel, timers and their state."""

    def __init__(self, panel: Panel, models: list[Model], timers: dict[str, ReversionTimer]) -> None:
        self.panel = panel
        self._timers = timers
        super().__init__(models)

    def to_state(self) -> dict[str, Any]:
        """Settings, energy and timers."""
        deadlines = {name: timer.deadline for name, timer in self._timers.items()}
        return {"models": super().to_state(), "injected_wh": self.panel.injected_wh, "deadlines": deadlines}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`to_state` gave."""
        super().load_state(state["models"])
        self.panel.injected_wh = state["injected_wh"]
        for name, deadline in state["deadlines"].items():
            self._timers[name].deadline = deadline


class Pv704(_Inverter):
    """PV inverter limited through model 704: WMaxLimPct in percent of the rated power."""

    def __init__(self, panel: Panel, serial: str, now: Callable[[], float], frequency: Callable[[], float]) -> None:
        self._limit_timer = ReversionTimer(now)
        self._controls = Model(
            704,
            scales={"WMaxLimPct_SF": -2, "PF_SF": -3, "WSet_SF": 0, "WSetPct_SF": -2, "VarSet_SF": 0, "VarSetPct_SF": -2},
            writable={
                "WMaxLimPctEna": Writable(0, 0, 1),
                "WMaxLimPct": Writable(100, 0, 100),
                "WMaxLimPctRvrt": Writable(100, 0, 100),
                "WMaxLimPctEnaRvrt": Writable(0, 0, 1),
                "WMaxLimPctRvrtTms": Writable(0, 0, _YEAR_S),
            },
            live=lambda: {"WMaxLimPctRvrtRem": round(self._limit_timer.remaining_s())},
            written=lambda _names: self._limit_timer.restart(self._controls.settings["WMaxLimPctRvrtTms"]),
        )
        self._frequency = frequency
        models = [identity("PV-704", serial), der_measurement(self._measured), self._controls]
        super().__init__(panel, models, {"limit": self._limit_timer})

    def _measured(self) -> Mapping[str, float]:
        panel = self.panel
        return inverter_values_701(panel.injected_w, panel.volt_ln, self._frequency()) | {
            "TotWhInj": panel.injected_wh,
            "TotWhAbs": 0.0,
        }

    def limit_w(self) -> float:
        """Most it may inject now."""
        settings = self._controls.settings
        if self._limit_timer.expired():
            settings["WMaxLimPctEna"], settings["WMaxLimPct"] = settings["WMaxLimPctEnaRvrt"], settings["WMaxLimPctRvrt"]
        return self.panel.rating_w * (settings["WMaxLimPct"] / 100 if settings["WMaxLimPctEna"] else 1.0)


class Pv123(_Inverter):
    """PV inverter limited through model 123: WMaxLimPct and Conn, each with its own reversion time."""

    def __init__(self, panel: Panel, serial: str, now: Callable[[], float], frequency: Callable[[], float]) -> None:
        self._limit_timer = ReversionTimer(now)
        self._connect_timer = ReversionTimer(now)
        self._controls = Model(
            123,
            scales={"WMaxLimPct_SF": -2, "OutPFSet_SF": -3},
            fixed={"OutPFSet": 1.0, "OutPFSet_Ena": 0, "VArPct_Ena": 0},
            writable={
                "Conn_RvrtTms": Writable(0, 0, 65534),
                "Conn": Writable(1, 0, 1),
                "WMaxLimPct": Writable(100, 0, 100),
                "WMaxLimPct_RvrtTms": Writable(0, 0, 65534),
                "WMaxLim_Ena": Writable(0, 0, 1),
            },
            written=self._written,
        )
        self._frequency = frequency
        models = [identity("PV-123", serial), inverter_103(self._measured), self._controls]
        super().__init__(panel, models, {"limit": self._limit_timer, "connect": self._connect_timer})

    def _written(self, names: set[str]) -> None:
        settings = self._controls.settings
        if names & {"WMaxLimPct", "WMaxLim_Ena", "WMaxLimPct_RvrtTms"}:
            self._limit_timer.restart(settings["WMaxLimPct_RvrtTms"])
        if names & {"Conn", "Conn_RvrtTms"}:
            self._connect_timer.restart(settings["Conn_RvrtTms"])

    def _measured(self) -> Mapping[str, float]:
        panel = self.panel
        return inverter_values_103(panel.injected_w, panel.volt_ln, self._frequency()) | {"WH": panel.injected_wh}

    def limit_w(self) -> float:
        """Most it may inject now."""
        settings = self._controls.settings
        if self._limit_timer.expired():
            settings["WMaxLim_Ena"] = 0
        if self._connect_timer.expired():
            settings["Conn"] = 1
        if not settings["Conn"]:
            return 0.0
        return self.panel.rating_w * (settings["WMaxLimPct"] / 100 if settings["WMaxLim_Ena"] else 1.0)
