"""A control cycle on a fake field: a transformer, a battery and two loads that do what they are told."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.certificates import clean_certificate
from tieline_core.clock import ManualClock
from tieline_core.ids import DeviceId, EdgeId, PointId
from tieline_core.messages.command import Command
from tieline_core.messages.desired import LadderStep
from tieline_core.messages.plan import Plan
from tieline_core.messages.telemetry import Event, IssuedForecast
from tieline_core.quantities import Reading
from tieline_core.shedding import ThermalOverloadParameters
from tieline_edge.control.commands import CommandBook
from tieline_edge.control.cycle import ControlCycle, Parts
from tieline_edge.control.executor import Executor, Timing
from tieline_edge.control.outlet import Outlet
from tieline_edge.control.plan_book import PlanBook
from tieline_edge.control.speaker import Speaker
from tieline_edge.control.state_file import StateFile
from tieline_edge.control.trace import Trace
from tieline_edge.drivers.capabilities import Action, Capability, DeviceSpec, HoldPower, ReadBack, Release, Role, SwitchContact
from tieline_edge.settings import EdgeSettings
from tieline_edge.shedding.rule import RuleSite
from tieline_edge.snapshot import ProcessImage
from tieline_edge.steady import SteadyTime

EDGE = EdgeId("harbour")
NOW = datetime(2016, 12, 7, 16, tzinfo=UTC)
TR, BAT, LOAD, VITAL = map(DeviceId, ("tr1", "bat1", "load01", "load10"))
SPECS = {
    TR: DeviceSpec(TR, Role.TRANSFORMER, frozenset({Capability.MEASURE})),
    BAT: DeviceSpec(BAT, Role.STORAGE, frozenset({Capability.HOLD_POWER}), None, -60e3, 60e3, 150e3, 10.0, 90.0, reverts=True),
    LOAD: DeviceSpec(LOAD, Role.LOAD, frozenset({Capability.SWITCH}), 3, off_timer=True),
    VITAL: DeviceSpec(VITAL, Role.LOAD, frozenset({Capability.SWITCH}), 0),
}
LEVELS = ThermalOverloadParameters(hold_s=5, severe_hold_s=5, restore_hold_s=8)
SWITCHING = {"restore_step_s": 2, "restore_spread_s": 0, "min_off_s": 5, "effect_s": 1, "cold_load_factor": 1.3}


def settings(folder: Path, keys: Sequence[str] = ("ab" * 32,)) -> EdgeSettings:
    return EdgeSettings.model_validate(
        {
            "edge_id": EDGE,
            "state_dir": folder,
            "site": {"name": "Harbour", "rated_va": 200e3},
            "hub": {"mqtt": {"host": "127.0.0.1"}, "http": "http://127.0.0.1:1", "public_keys": list(keys)},
            "devices": [{"id": name, "catalog": "x", "modbus": {"host": "127.0.0.1"}} for name in SPECS],
            "shedding": {
                "transformer": "tr1",
                "thermal_overload": LEVELS.model_dump(),
                "switching": SWITCHING,
                "storage": {"relieve": False},
            },
        }
    )


class Disk:
    """A recorder that keeps nothing."""

    async def record(self, readings: Sequence[Reading]) -> None: ...

    async def record_event(self, event: Event) -> None: ...

    async def record_forecast(self, forecast: IssuedForecast) -> None: ...


class Field:
    """A transformer, a battery and two loads that do what they are told."""

    def __init__(self) -> None:
        self.base_w = 100e3
        self.soc_pct = 50.0
        self.power = {BAT: 0.0}
        self.closed = {LOAD: True, VITAL: True}
        self.told: list[tuple[DeviceId, Action]] = []

    def readings(self, now: datetime) -> list[Reading]:
        loads = {device: 30e3 if closed else 0.0 for device, closed in self.closed.items()}
        total = self.base_w + sum(loads.values()) + self.power[BAT]
        values = {
            (TR, "p_w"): total,
            (TR, "q_var"): 0.0,
            (TR, "loading_pct"): abs(total) / 2e3,
            (TR, "v_v"): 400.0,
            (TR, "breaker_closed"): 1.0,
            (BAT, "p_w"): self.power[BAT],
            (BAT, "soc_pct"): self.soc_pct,
            **{(device, "p_w"): power for device, power in loads.items()},
            **{(device, "closed"): float(closed) for device, closed in self.closed.items()},
        }
        return [Reading(PointId.of(EDGE, device, name), value, now) for (device, name), value in values.items()]


class Handle:
    """One device of the field."""

    def __init__(self, device: DeviceId, field: Field) -> None:
        self.spec = SPECS[device]
        self._field = field

    async def apply(self, action: Action) -> ReadBack:
        device = self.spec.device_id
        self._field.told.append((device, action))
        if isinstance(action, HoldPower):
            self._field.power[device] = action.power_w
        if isinstance(action, Release):
            self._field.power[device] = 0.0
        if isinstance(action, SwitchContact):
            self._field.closed[device] = action.closed
        return ReadBack(True, "ok")


class Site:
    """A control cycle with its field; ``again`` is the same site after a restart."""

    def __init__(
        self,
        folder: Path,
        *,
        keys: Sequence[str] = ("ab" * 32,),
        field: Field | None = None,
        at: datetime = NOW,
        speakers: tuple[Speaker, ...] = (),
        specs: Mapping[DeviceId, DeviceSpec] = SPECS,
    ) -> None:
        self.folder, self.keys = folder, keys
        self.clock = ManualClock(at)
        self.field = field or Field()
        steady = SteadyTime(self.clock)
        self.image = ProcessImage(self.clock, steady)
        self.events: list[str] = []
        made = settings(folder, keys)
        self.trace = Trace.open(folder / "trace.sqlite")
        self.outlet = Outlet(EDGE, self.clock, Disk())
        site = RuleSite(EDGE, made.site.rated_va, specs, made.shedding)
        parts = Parts(
            settings=made,
            clock=self.clock,
            image=self.image,
            rule_site=site,
            plans=PlanBook(EDGE, SPECS, StateFile(folder / "plans.json")),
            commands=CommandBook(EDGE, SPECS, StateFile(folder / "commands.json")),
            trace=self.trace,
            outlet=self.outlet,
            state=StateFile(folder / "control.json"),
            poll_s=dict.fromkeys(SPECS, 1.0),
            monitor_only=not keys,
            rng=random.Random(1),
            speakers=speakers,
            steady=steady,
        )
        self.parts = parts
        self.cycle = ControlCycle(parts)
        self.cycle.restore()

    def ladder(self) -> LadderStep:
        return self.cycle.standing.step

    def again(self) -> Site:
        self.trace.close()
        return Site(self.folder, keys=self.keys, field=self.field, at=self.clock.now())

    async def run(self, seconds: int) -> None:
        handles = {device: Handle(device, self.field) for device in (BAT, LOAD, VITAL)}
        async with Executor(handles, self.clock, Timing(60.0), self.cycle.take_outcome) as executor:
            for _ in range(seconds):
                self.image.put(self.field.readings(self.clock.now()))
                await self.cycle.run_once(executor)
                await self.clock.advance(1.0)
        await self.cycle.close()
        self.events = [item.code for item in self.outlet._queue._queue if isinstance(item, Event)]  # type: ignore[attr-defined]  # a look inside

    def close(self) -> None:
        self.trace.close()


def command(**rest: Any) -> Command:
    return Command.model_validate(
        {
            "command_id": "command-1",
            "edge_id": "harbour",
            "device_id": "bat1",
            "action": "setpoint_w",
            "value_w": -30e3,
            "expires_at": NOW + timedelta(minutes=10),
            "issued_by": "ada",
            "issued_at": NOW,
            "reason": "evening",
            **rest,
        }
    )


def plan(**rest: Any) -> Plan:
    return Plan.model_validate(
        {
            "plan_id": "plan-001",
            "edge_id": "harbour",
            "issued_at": NOW,
            "start": NOW,
            "step_s": 900,
            "devices": [{"device_id": "bat1", "mode": "setpoint_w", "values_w": [40e3, 10e3]}],
            "certificate": clean_certificate(NOW),
            **rest,
        }
    )
