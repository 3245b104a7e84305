"""Under-frequency stages, droop and high frequency: what trips, what does not, and what returns when."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tests.edge.shedding.plant import LOADS, START, Battery, Plant, shedding
from tieline_core.errors import BadInputError
from tieline_core.messages.policy import Policy
from tieline_core.quantities import Quality
from tieline_core.shedding import STAGES, FrequencyParameters
from tieline_edge.shedding.rules import load_rules, with_policy

#: 40 kW may be shed: classes 4 (10 kW), 3 (20 kW), 1 (10 kW).
ENROLLED_W = sum(power for priority, power in LOADS.values() if priority > 0)
PERIOD_S = 0.1


def plant(*, sources: tuple[str, ...] = ("fm1",), frequency: dict[str, Any] | None = None, **rest: Any) -> Plant:
    told = shedding(frequency_at=list(sources), frequency=frequency or {}, storage={"relieve": True, "hold_s": 5})
    made = Plant(told, poll_s=PERIOD_S, base_w=10e3, **rest)
    made.extra |= {("fm1", "v_v"): 230.0, ("fm1", "f_hz"): 50.0}
    return made


def at(site: Plant, hertz: float, seconds: float, period_s: float = PERIOD_S) -> None:
    site.extra["fm1", "f_hz"] = hertz
    site.run(seconds, period_s)


def shed_share(site: Plant) -> float:
    return sum(LOADS[name][1] for name in site.open) / ENROLLED_W


@pytest.mark.parametrize(
    ("hertz", "hold_s", "least"), [(49.79, 5.0, 0.15), (49.59, 2.0, 0.40), (49.39, 1.0, 0.70), (49.19, 0.5, 1.0)]
)
def test_each_stage_trips_after_its_hold_and_sheds_its_share_and_at_most_a_block_more(
    hertz: float, hold_s: float, least: float
) -> None:
    site = plant()
    at(site, 50.0, 1)
    at(site, hertz, hold_s - 0.1)
    assert site.open == set()
    at(site, hertz, 0.3)
    assert shed_share(site) >= least
    largest = max(LOADS[name][1] for name in site.open)
    assert shed_share(site) * ENROLLED_W - least * ENROLLED_W <= largest
    assert "l01" not in site.open
    assert site.codes[0] == "frequency.stage"


def test_classes_go_from_the_highest_number_down() -> None:
    site = plant()
    at(site, 49.59, 3)  # 40 % = 16 kW: class 4 whole, and of class 3 the 8 kW load
    assert site.open == {"l41", "l42", "l32"}


def test_a_dip_that_is_shorter_than_the_hold_trips_nothing() -> None:
    site = plant()
    for _ in range(10):
        at(site, 49.59, 1.8)
        at(site, 49.9, 0.3)
    assert site.open == set()


def test_only_consecutive_good_samples_count() -> None:
    site = plant()
    at(site, 49.59, 1.5)
    site.quality = Quality.UNCERTAIN
    at(site, 49.59, 0.1)
    site.quality = Quality.GOOD
    at(site, 49.59, 1.5)
    assert site.open == set()
    at(site, 49.59, 1)
    assert site.open != set()


def test_a_slope_no_grid_can_have_is_not_believed() -> None:
    site = plant()
    at(site, 50.0, 1)
    for _ in range(30):
        at(site, 47.0, 0.1)
        at(site, 50.0, 0.1)
    assert site.open == set()


@pytest.mark.parametrize("volts", [0.69 * 230.0, 0.0])
def test_without_voltage_a_frequency_trips_nothing(volts: float) -> None:
    site = plant()
    site.extra["fm1", "v_v"] = volts
    at(site, 49.0, 20, 0.5)
    assert site.open == set()
    del site.extra["fm1", "v_v"]
    at(site, 49.0, 20, 0.5)
    assert site.open == set()


@pytest.mark.parametrize("hertz", [1e308, -50.0, 0.0, 39.0])
def test_an_absurd_frequency_never_acts(hertz: float) -> None:
    site = plant()
    at(site, hertz, 20, 0.5)
    assert site.open == set()
    assert "shed.frequency.blind" in site.codes


def test_a_stuck_sensor_steps_back_for_the_second_source_and_alone_is_not_believed() -> None:
    alone = plant(frequency={"stuck_s": 30.0})
    alone.frozen = True
    at(alone, 49.95, 40, 1.0)
    at(alone, 49.95, 1, 1.0)
    assert "shed.frequency.blind" in alone.codes
    assert "has stood at 49.95" in next(event.text for _, event in alone.events if event.code == "shed.frequency.blind")
    two = plant(sources=("fm1", "fm2"), frequency={"stuck_s": 30.0})
    two.extra |= {("fm2", "v_v"): 230.0, ("fm2", "f_hz"): 49.95}
    two.frozen = True
    for _ in range(40):
        two.extra["fm2", "f_hz"] += 0.001
        at(two, 49.95, 1, 0.5)
    two.extra["fm2", "f_hz"] = 49.55
    for _ in range(4):
        two.extra["fm2", "f_hz"] += 0.001
        at(two, 49.95, 1, 0.5)
    assert two.open != set()
    assert "shed.frequency.blind" not in two.codes


def test_loads_return_in_steps_after_the_restore_hold_of_the_stage() -> None:
    site = plant()
    at(site, 49.79, 6)
    assert site.open != set()
    at(site, 49.94, 400, 2.0)
    assert not [1 for _, _, closed in site.switched if closed]
    calm = site.t
    at(site, 49.97, 299, 1.0)
    assert not [1 for _, _, closed in site.switched if closed]
    at(site, 49.97, 30, 1.0)
    assert site.open == set()
    assert min(t for t, _, closed in site.switched if closed) >= calm + 300


def test_stage_d4_waits_for_half_an_hour_or_for_an_operator_and_batteries_give_all_they_have() -> None:
    site = plant(batteries={"bat1": Battery(20e3)})
    at(site, 49.15, 1)
    assert site.open == {"l41", "l42", "l31", "l32", "l11"}
    assert site.batteries["bat1"].p_w == -20e3
    at(site, 49.99, 1000, 2.0)
    assert site.open == {"l41", "l42", "l31", "l32", "l11"}
    policy = Policy.model_validate({"policy_id": "policy-1", "edge_id": "harbour", "released_at": site.now.isoformat()})
    released = load_rules(with_policy(site.site(site.settings), policy), site.noise)
    released.load(site.rules.dump())
    site.rules = released
    at(site, 49.99, 60, 1.0)
    assert site.open == set()


def test_a_release_from_before_the_stage_tripped_releases_nothing() -> None:
    site = plant()
    policy = Policy.model_validate({"policy_id": "policy-1", "edge_id": "harbour", "released_at": START.isoformat()})
    site.rules = load_rules(with_policy(site.site(site.settings), policy), site.noise)
    at(site, 50.0, 1)
    at(site, 49.15, 1)
    at(site, 49.99, 100, 2.0)
    assert site.open == {"l41", "l42", "l31", "l32", "l11"}


def test_a_load_that_does_not_obey_is_replaced_by_the_next() -> None:
    site = plant(disobedient={"l42"})
    at(site, 49.79, 5.2)  # 15 % = 6 kW: the 6 kW load of class 4
    assert site.rules.shed == ("l41",)
    site = plant(disobedient={"l41"})
    at(site, 49.79, 12)
    assert "shed.failed" in site.codes
    assert site.open == {"l42", "l32"} or site.open == {"l42", "l31"}


def test_the_droop_discharges_below_the_dead_band_and_switches_nothing() -> None:
    site = plant(batteries={"bat1": Battery(20e3)})
    at(site, 49.86, 29, 0.5)
    assert site.batteries["bat1"].p_w == 0.0
    at(site, 49.86, 2)
    # 120 mHz beyond the dead band of 2 Hz for full power: 6 % of 20 kW.
    assert site.batteries["bat1"].p_w == pytest.approx(-1200.0, abs=250.0)
    assert site.open == set()
    at(site, 49.985, 1)
    assert site.batteries["bat1"].p_w == 0.0


def test_high_frequency_charges_batteries_and_limits_plants() -> None:
    site = plant(batteries={"bat1": Battery(20e3)}, pv_rated_w=10e3)
    at(site, 50.7, 7)
    assert site.batteries["bat1"].p_w == pytest.approx(0.34 * 20e3, abs=400)
    assert site.pv_w == pytest.approx(7500, abs=100)
    at(site, 50.04, 1)
    assert site.pv_w == 10e3
    assert site.batteries["bat1"].p_w == 0.0


def test_a_hold_shorter_than_three_samples_refuses_to_load_and_names_key_and_value() -> None:
    with pytest.raises(BadInputError, match=r"frequency\.stages\.D2\.hold_s = 2.*fm1 is read every 1 s") as refused:
        Plant(shedding(frequency_at=["fm1"]), poll_s=1.0)
    assert refused.value.value == "2.0"
    with pytest.raises(BadInputError, match=r"D4\.hold_s"):
        Plant(shedding(frequency_at=["fm1"]), poll_s=0.2)
    Plant(shedding(frequency_at=["fm1"]), poll_s=0.15)


def test_sixty_hertz_has_its_own_stages_and_the_parameters_survive_the_wire() -> None:
    sixty = FrequencyParameters(nominal_hz=60)
    assert sixty.stages == STAGES[60]
    assert (sixty.droop_below_hz, sixty.high_hz, sixty.high_restore_hz) == (59.95, 60.2, 60.05)
    assert [stage.below_hz for stage in sixty.stages] == [59.85, 59.75, 59.65, 59.55]
    assert FrequencyParameters.model_validate_json(sixty.model_dump_json()) == sixty
    assert [stage.share_pct for stage in FrequencyParameters().stages] == [15, 40, 70, 100]


@pytest.mark.parametrize(
    "wrong",
    [
        {"stages": [STAGES[50][1], STAGES[50][0]]},
        {"stages": [{**STAGES[50][0].model_dump(), "restore_hz": 49.7}]},
        {"stages": STAGES[60]},
        {"high_hz": 50.01},
        {"min_samples": 2},
        {"nominal_hz": 16},
    ],
)
def test_frequency_parameters_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FrequencyParameters.model_validate(wrong)
