"""Minutes of violation, and the schedule that knew every load beforehand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tieline_sim.devices.battery import Battery
from tieline_sim.errors import SimulatorError
from tieline_sim.foresight import STEP_S, Demanded, schedule
from tieline_sim.scenario import BatterySpec
from tieline_sim.violations import LONGEST_S, Minutes, read_truth, violations

HEAD = "sim_unix_s,wall_unix_s,speed,a.loading_pct,a.loading_without_pct,a.vm_pu,a.shed_w"


def truth(folder: Path, *rows: str) -> Path:
    path = folder / "truth.csv"
    path.write_text("\n".join([HEAD, *rows]) + "\n", encoding="utf-8")
    return path


def test_a_state_counts_until_the_next_one_and_each_limit_by_itself(tmp_path: Path) -> None:
    path = truth(
        tmp_path,
        "0,0,60,101,130,1.0,0",
        "60,1,60,99,130,0.89,12000",
        "180,3,60,99,90,1.0,0",
        "240,4,60,120,90,1.0,0",
    )
    found = violations(read_truth(path, 0.0, 240.0))["a"]
    assert found["with_control"]["overload_min"] == 1.0
    assert found["with_control"]["voltage_min"] == 2.0
    assert found["with_control"]["violation_min"] == 3.0
    assert found["with_control"]["unserved_kwh"] == pytest.approx(0.4)
    assert found["without_control"]["overload_min"] == 3.0
    assert found["with_control"]["known_min"] == 4.0


def test_where_nothing_was_written_nothing_is_known() -> None:
    minutes = Minutes()
    minutes.add(10 * LONGEST_S, 120.0, 1.0)
    assert minutes.known_min == minutes.overload_min == LONGEST_S / 60.0


def test_a_time_without_a_record_is_refused(tmp_path: Path) -> None:
    path = truth(tmp_path, "0,0,60,101,130,1.0,0", "60,1,60,99,130,1.0,0")
    with pytest.raises(SimulatorError, match="holds 1 rows"):
        read_truth(path, 30.0, 90.0)
    with pytest.raises(SimulatorError, match="cannot be read"):
        read_truth(tmp_path / "absent.csv", 0.0, 1.0)


def battery(content_pct: float) -> Battery:
    return Battery(BatterySpec("b", 100.0, 100.0, content_pct, efficiency=1.0, soc_min_pct=0.0, soc_max_pct=100.0))


def test_a_peak_that_was_foreseen_is_cut_with_what_was_charged_before_it() -> None:
    need = Demanded(np.array([50e3, 50e3, 150e3, 150e3, 50e3]), np.full(5, 100e3))
    power = schedule(need, {"b": battery(0.0)})["b"]
    assert (need.p_w + power <= need.allowed_w + 1.0).all()
    assert power[:2].sum() == pytest.approx(100e3, abs=10.0)
    assert power[2:4] == pytest.approx([-50e3, -50e3], abs=10.0)


def test_what_no_battery_can_cut_is_cut_as_far_as_it_reaches_in_energy_and_power() -> None:
    need = Demanded(np.array([300e3, 300e3]), np.full(2, 100e3))
    power = schedule(need, {"b": battery(20.0)})["b"]
    assert -power.sum() * STEP_S / 3600.0 == pytest.approx(20e3, rel=1e-3)
    assert power.min() >= -100e3 - 1.0
