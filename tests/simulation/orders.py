"""What the hub and its operators ask for, and what others try to ask for in their name."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from tests.simulation.scenario import EDGE, VITAL
from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.command import Action, Command
from tieline_core.messages.plan import Certificate, DevicePlan, Plan, PlanMode, Verdict
from tieline_core.messages.policy import Policy
from tieline_core.messages.telemetry import Stream
from tieline_edge.drivers.capabilities import Role

if TYPE_CHECKING:
    from tests.simulation.world import World

_SPOILT: Final = ("tampered", "forged", "elsewhere", "expired", "vital")


class Orders:
    """Writes orders for a world's edge."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._count = 0
        #: Every class a policy has ever given to a load.
        self.classes: dict[str, set[int]] = {}

    def _name(self, what: str) -> str:
        self._count += 1
        return f"{what}-{self._world.scenario.seed}-{self._count:05d}"

    def _of(self, role: Role) -> list[str]:
        units = self._world.field.units
        return sorted(name for name, unit in units.items() if unit.spec.role is role and name != VITAL)

    def give(self, kind: str, rng: random.Random) -> None:
        """Give an order of a kind."""
        if kind == "plan":
            self.plan(rng)
        elif kind == "command":
            self.command(rng)
        elif kind == "bad command":
            self.bad_command(rng)
        elif kind == "policy":
            self.policy(rng)
        elif kind == "replay":
            self._world.hub.replay()
        else:
            self._world.hub.acknowledge(rng.choice(list(Stream)), beyond=rng.choice((1, 5, 1000)))

    def plan(
        self, rng: random.Random, steps: int | None = None, step_s: int | None = None, lead_s: float | None = None
    ) -> None:
        """A plan: now, later, or over soon."""
        now = self._world.hub.now()
        step_s = step_s or rng.choice((60, 300, 900))
        steps = steps or rng.randint(1, 6)
        lead_s = rng.choice((-120.0, -1.0, 30.0, 300.0)) if lead_s is None else lead_s
        units = self._world.field.units
        parts = []
        for name in self._of(Role.STORAGE):
            spec = units[name].spec
            values = [rng.choice((None, 0.0, rng.uniform(spec.p_min_w, spec.p_max_w))) for _ in range(steps)]
            parts.append(DevicePlan(device_id=spec.device_id, mode=PlanMode.SETPOINT_W, values_w=tuple(values)))
        if rng.random() < 0.6:
            limits = [rng.choice((None, 0.0, rng.uniform(-50e3, 0.0))) for _ in range(steps)]
            parts.append(DevicePlan(device_id=DeviceId("pv1"), mode=PlanMode.GENERATION_LIMIT_W, values_w=tuple(limits)))
        if rng.random() < 0.2:
            load = units[rng.choice(self._of(Role.LOAD))].spec
            tops = [rng.choice((None, 0.0)) for _ in range(steps)]
            parts.append(DevicePlan(device_id=load.device_id, mode=PlanMode.LOAD_LIMIT_W, values_w=tuple(tops)))
        certificate = Certificate(
            verdict=Verdict.CLEAN,
            max_loading_pct={"p10": 50.0, "p50": 60.0, "p90": 70.0},
            max_loading_element="tr1",
            min_vm_pu=0.97,
            max_vm_pu=1.02,
            optimality_gap=0.0,
            objective_eur=1.0,
            objective_without_eur=2.0,
            iterations=1,
            input_sha256={"forecast": "0" * 64},
            solver="simulated",
            checked_at=now,
        )
        self._world.hub.send_plan(
            Plan(
                plan_id=self._name("plan"),
                edge_id=EdgeId(EDGE),
                issued_at=now,
                start=now + timedelta(seconds=lead_s),
                step_s=step_s,
                devices=tuple(parts),
                certificate=certificate,
            )
        )

    def last_plan(self, lead: timedelta) -> None:
        """A plan that covers the rest, so that what should be running is known."""
        rng = random.Random(f"last plan {self._world.scenario.seed}")
        self.plan(rng, steps=4, step_s=900, lead_s=lead.total_seconds())

    def last_commands(self) -> None:
        """On every site, when all is well: an operator against the plan, and a load opened for a moment."""
        now = self._world.hub.now()
        for name in self._of(Role.STORAGE):
            value = (0.3 if self._world.scenario.seed % 2 else -0.3) * self._world.field.units[name].spec.p_max_w
            self._say(name, Action.SETPOINT_W, now + timedelta(seconds=100), value)
        loads = [name for name in self._of(Role.LOAD) if self._world.field.units[name].closed]
        for name in loads[:1]:
            self._say(name, Action.OPEN, now + timedelta(seconds=20), None)

    def _say(self, device: str, action: Action, until: datetime, value_w: float | None) -> None:
        self._world.hub.send_command(
            Command(
                command_id=self._name("command"),
                edge_id=EdgeId(EDGE),
                device_id=DeviceId(device),
                action=action,
                value_w=value_w,
                expires_at=until,
                issued_by="control room",
                issued_at=self._world.hub.now(),
                reason="simulated",
            )
        )

    def command(self, rng: random.Random) -> Command:
        """A command somebody may give."""
        command = self._command(rng)
        self._world.hub.send_command(command)
        return command

    def _command(self, rng: random.Random, lasts_s: float | None = None) -> Command:
        now = self._world.hub.now()
        units = self._world.field.units
        name = rng.choice(
            [one for one in sorted(units) if units[one].spec.role in (Role.STORAGE, Role.LOAD, Role.PV) and one != VITAL]
        )
        spec = units[name].spec
        value = None
        if spec.role is Role.STORAGE:
            action = rng.choice((Action.SETPOINT_W, Action.SETPOINT_W, Action.LIMIT_W, Action.RELEASE))
            value = rng.uniform(spec.p_min_w, spec.p_max_w)
            value = rng.choice((value, 0.0)) if action is Action.LIMIT_W else value
        elif spec.role is Role.PV:
            action = rng.choice((Action.LIMIT_W, Action.RELEASE))
            value = rng.uniform(spec.p_min_w, 0.0)
        else:
            action = rng.choice((Action.OPEN, Action.OPEN, Action.CLOSE, Action.RELEASE))
        return Command(
            command_id=self._name("command"),
            edge_id=EdgeId(EDGE),
            device_id=spec.device_id,
            action=action,
            value_w=value if action in (Action.SETPOINT_W, Action.LIMIT_W) else None,
            expires_at=now + timedelta(seconds=rng.choice((20.0, 90.0, 300.0)) if lasts_s is None else lasts_s),
            issued_by="control room",
            issued_at=now,
            reason="simulated",
        )

    def bad_command(self, rng: random.Random) -> None:
        """A command that must not be obeyed."""
        spoilt = rng.choice(_SPOILT)
        hub = self._world.hub
        if spoilt == "expired":
            hub.send_command(self._command(rng, lasts_s=-rng.uniform(0.5, 60.0)))
        elif spoilt == "vital":
            command = self._command(rng).model_copy(
                update={"device_id": DeviceId(VITAL), "action": Action.OPEN, "value_w": None}
            )
            hub.send_command(command).genuine = False
        else:
            hub.send_command(self._command(rng), spoilt)

    def policy(self, rng: random.Random) -> None:
        """Other classes; never fewer vital loads."""
        loads = self._of(Role.LOAD)
        classes = {DeviceId(name): rng.randint(1, 4) for name in rng.sample(loads, rng.randint(0, len(loads)))}
        for device, priority in classes.items():
            self.classes.setdefault(str(device), set()).add(priority)
        self._world.hub.send_policy(Policy(policy_id=self._name("policy"), edge_id=EdgeId(EDGE), classes=classes))
