"""The hub's network table at work in the edge: an isolated edge with and without it, judged by the hub's AC power flow."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from tests.cloud.planning.conftest import evening, site
from tieline_cloud.gridmodel import GridModel, load_network
from tieline_cloud.gridmodel.allocation import allocate
from tieline_cloud.planning import Battery, PlanningProblem
from tieline_cloud.planning.day_ahead import plan_day
from tieline_cloud.powerflow import PowerFlow
from tieline_core.ids import DeviceId, EdgeId, PointId
from tieline_core.messages.network import NetworkTable
from tieline_core.quantities import Quality, Reading
from tieline_edge.control.arbiter import decide
from tieline_edge.control.claims import Band, Claim
from tieline_edge.control.facts import AgeLimits, DeviceFacts, SiteFacts
from tieline_edge.control.memory import ArbiterMemory
from tieline_edge.control.network_limits import NetworkLimits
from tieline_edge.drivers.capabilities import Capability, DeviceSpec, HoldPower, Role
from tieline_edge.shedding.rule import RuleView
from tieline_edge.snapshot import ProcessImage

VILLAGE = Path(__file__).parents[1] / "cloud/gridmodel/village.json"
START = datetime(2016, 12, 7, 12, tzinfo=UTC)
EDGE = EdgeId("harbour")
BATTERIES = (DeviceId("bat1"), DeviceId("bat2"))
STEP_S = 3600


@pytest.fixture(scope="module")
def village() -> GridModel:
    return load_network(json.dumps(json.loads(VILLAGE.read_bytes())).encode())


@pytest.fixture(scope="module")
def planned(village: GridModel) -> tuple[PlanningProblem, NetworkTable]:
    steps = 24
    rest = allocate(village, {}, {}).rest(village)
    made = PlanningProblem(
        start=START,
        step=timedelta(seconds=STEP_S),
        price_eur_per_mwh=np.full(steps, 60.0),
        sites=(site("harbour", evening(540e3)), site("mill", evening(540e3))),
        rest_p_w=np.tile(rest.p_w, (steps, 1)),
        rest_q_var=np.tile(rest.q_var, (steps, 1)),
        batteries=tuple(Battery(name, "harbour", 100e3, 100e3, 300e3, 60.0) for name in BATTERIES),
    )
    plan = next(one for one in plan_day(made, village, START).plans if one.edge_id == EDGE)
    assert plan.network is not None
    return made, plan.network


class Isolated:
    """An edge whose local schedule charges all the time, in a field that is the power flow itself."""

    def __init__(self, grid: GridModel, problem: PlanningProblem, table: NetworkTable | None) -> None:
        self._grid, self._problem = grid, problem
        self._engine = PowerFlow(grid)
        able = frozenset({Capability.HOLD_POWER})
        self.specs = {
            name: DeviceSpec(name, Role.STORAGE, able, None, -100e3, 100e3, 300e3, ramp_w_per_s=5e3) for name in BATTERIES
        }
        self._speaker = NetworkLimits(EDGE, lambda: table, lambda: self.specs)
        self._image = ProcessImage()
        self._memory = ArbiterMemory()
        self.power: dict[DeviceId, float] = dict.fromkeys(BATTERIES, 0.0)
        self.loading: list[float] = []
        self.orders: list[Mapping[DeviceId, float]] = []

    def second(self, now: datetime, load_w: float) -> None:
        """Measure, decide, act, and let the power flow say what it did."""
        p_w, q_var = self._problem.rest_p_w[:1].copy(), self._problem.rest_q_var[:1].copy()
        for edge in ("harbour", "mill"):
            bus = self._grid.substation(edge).lv_bus
            p_w[0, bus] += load_w if edge == EDGE else 400e3
            q_var[0, bus] += 0.25 * load_w
        p_w[0, self._grid.substation(EDGE).lv_bus] += sum(self.power.values())
        solved = self._engine.batch(p_w, q_var)
        substation = self._grid.substation(EDGE)
        loading = float(solved.loading_pct[0, substation.branch])
        volts = float(solved.vm_pu[0, substation.lv_bus] * self._grid.buses.kv[substation.lv_bus] * 1e3)
        self.loading.append(loading)
        self._image.put(
            Reading(PointId.of(EDGE, "tr1", name), value, now, Quality.GOOD)
            for name, value in (("loading_pct", round(loading, 1)), ("v_v", round(volts, 1)))
        )
        ages = MappingProxyType({"p_w": 0.0, "soc_pct": 0.0})
        facts = SiteFacts({name: DeviceFacts(self.power[name], 50.0, None, ages) for name in BATTERIES})
        view = RuleView(now, self._image.freeze(now), facts, AgeLimits(10.0))
        soon = now + timedelta(seconds=5)
        wishes = [Claim(name, Band.PLAN, "local-schedule", "r", setpoint_w=90e3, expires_at=soon) for name in BATTERIES]
        judged = decide(self.specs, [*wishes, *self._speaker.claims(view)], self._memory, facts, now, 180.0)
        self._memory = judged.memory
        for name in BATTERIES:
            action = judged.by_device[name].action
            assert isinstance(action, HoldPower)
            self.power[name] = action.power_w
        self.orders.append(dict(self.power))


def run(isolated: Isolated, seconds: int) -> None:
    for second in range(seconds):
        # Half an hour of load that climbs from 420 to 560 kW and falls again, with a swing of a few kilowatts.
        load_w = 420e3 + 140e3 * np.sin(np.pi * second / seconds) + 4e3 * np.sin(second)
        isolated.second(START + timedelta(seconds=second), float(load_w))


def test_an_isolated_edge_respects_its_feeder_with_the_table_and_not_without(
    village: GridModel, planned: tuple[PlanningProblem, NetworkTable]
) -> None:
    problem, table = planned
    most = problem.limits.loading_max_pct
    without, with_table = Isolated(village, problem, None), Isolated(village, problem, table)
    run(without, 600)
    run(with_table, 600)
    crossed = sum(value > most for value in without.loading)
    assert crossed > 300, "without the table the transformer is overloaded for half of the time"
    # The swing of the load between two looks is all that may stand above the limit.
    kept = [value for value in with_table.loading if value > most]
    assert len(kept) <= 6
    assert max(with_table.loading) < most + 1.0
    # It does not do so by doing nothing, and not by hunting.
    charged = sum(sum(one.values()) for one in with_table.orders)
    assert charged > 0.2 * sum(sum(one.values()) for one in without.orders)
    turns = [b[BATTERIES[0]] - a[BATTERIES[0]] for a, b in zip(with_table.orders, with_table.orders[1:], strict=False)]
    signs = [change > 0 for change in turns if abs(change) > 1.0]
    assert sum(a != b for a, b in itertools.pairwise(signs)) <= 40
