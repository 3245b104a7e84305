"""The top that several batteries leave, against HiGHS: it can be kept, and a lower one cannot."""

from __future__ import annotations

import highspy
import numpy as np
import pytest

from tieline_core.ids import DeviceId
from tieline_edge.control.battery import EFFICIENCY, Battery
from tieline_edge.control.peak import flatten

STEPS, HOURS = 48, 0.5


def unserved_kwh(load_w: np.ndarray, batteries: list[Battery], top_w: float) -> float:
    """Least energy above a top that no schedule serves: who is above only delivers, who is below only charges."""
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    above = np.maximum(0.0, load_w - top_w) / 1e3
    below = np.maximum(0.0, top_w - load_w) / 1e3
    open_kw = [solver.addVariable(0.0, most, HOURS) for most in above]
    charge, discharge = [], []
    for battery in batteries:
        into = [solver.addVariable(0.0, battery.charge_w / 1e3 if room > 0 else 0.0, 0.0) for room in below]
        out = [solver.addVariable(0.0, battery.discharge_w / 1e3 if need > 0 else 0.0, 0.0) for need in above]
        stored = [solver.addVariable(0.0, battery.room_wh / 1e3, 0.0) for _ in load_w]
        for t in range(load_w.size):
            before = stored[t - 1] if t else battery.stored_wh / 1e3
            solver.addConstr(stored[t] == before + into[t] * (HOURS * EFFICIENCY) - out[t] * (HOURS / EFFICIENCY))
        charge.append(into)
        discharge.append(out)
    for t in range(load_w.size):
        solver.addConstr(sum(row[t] for row in discharge) + open_kw[t] >= above[t])
        solver.addConstr(sum(row[t] for row in charge) <= below[t])
    solver.run()
    return float(solver.getObjectiveValue())


@pytest.mark.parametrize("seed", range(10))
def test_the_top_is_the_lowest_that_can_be_kept(seed: int) -> None:
    rng = np.random.default_rng(seed)
    load = 60e3 + 40e3 * np.sin(np.arange(STEPS) / STEPS * 4 * np.pi + rng.uniform(0, 6)) + rng.normal(0.0, 8e3, STEPS)
    batteries = []
    for number in range(2 + seed % 3):
        room = rng.uniform(5e3, 90e3)
        sizes = rng.uniform(2e3, 25e3), rng.uniform(2e3, 25e3), room, rng.uniform(0.0, room)
        batteries.append(Battery(DeviceId(f"bat{number}"), *sizes))
    top = float((load + flatten(load, batteries, 3600.0 * HOURS).sum(axis=0)).max())
    assert unserved_kwh(load, batteries, top + 0.1) == pytest.approx(0.0, abs=1e-5)
    assert unserved_kwh(load, batteries, top - 20.0) > 1e-4
