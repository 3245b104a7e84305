"""The check after shedding: who did not obey is not counted on, and the next takes the place."""

from __future__ import annotations

from datetime import timedelta

from tests.edge.shedding.plant import LOADS, QUICK, Plant, shedding


def test_a_load_that_keeps_drawing_is_an_alarm_and_the_next_load_takes_its_place() -> None:
    plant = Plant(base_w=60e3, disobedient={"l41"})
    plant.run(11)
    assert "l41" in plant.rules.shed
    plant.run(5)
    assert [event.device for _, event in plant.events if event.code == "shed.failed"] == ["l41"]
    assert plant.loading_pct < 95.01
    # The next one is enough: opened late, it would be off for nothing.
    plant.disobedient.clear()
    plant.run(3)
    assert "l41" not in plant.rules.shed
    assert plant.closed["l41"]
    assert plant.codes.count("shed.given_up") == 1


def test_a_load_that_goes_late_while_it_is_still_needed_is_told() -> None:
    plant = Plant(base_w=60e3, disobedient=set(LOADS))
    plant.run(30)
    plant.disobedient.discard("l41")
    plant.run(3)
    assert "shed.obeyed_late" in plant.codes
    assert "l41" in plant.rules.shed


def test_a_silent_load_stays_asked_for_because_nobody_knows_whether_it_went() -> None:
    plant = Plant(base_w=60e3)
    plant.run(11)
    dead = plant.rules.shed
    for _ in range(20):
        readings = [reading for reading in plant.readings() if reading.point.device not in dead]
        plant.obey(plant.rules.step(plant.view_of(readings)))
        plant.now += timedelta(seconds=1)
    assert "shed.failed" in plant.codes
    assert set(dead) <= set(plant.rules.shed)


def test_when_nobody_obeys_each_load_is_asked_once_and_it_ends() -> None:
    plant = Plant(base_w=60e3, disobedient=set(LOADS))
    plant.run(120)
    assert plant.codes.count("shed.failed") == 5
    assert plant.codes.count("shed.thermal.exhausted") == 1
    asked = [one for _, event in plant.events if event.code == "shed.thermal" for one in dict(event.data["shed_w"])]  # type: ignore[call-overload]  # event data is open
    assert len(asked) == len(set(asked)) == 5


def test_a_failed_load_is_tried_again_after_its_time() -> None:
    plant = Plant(shedding(switching={**QUICK, "failed_s": 60}), base_w=60e3, disobedient={"l41"})
    plant.run(20)
    assert plant.rules.memory.failed
    plant.base_w = 15e3
    plant.run(100)
    assert not plant.rules.memory.failed
    assert plant.open == set()


def test_a_load_whose_own_timer_brings_it_back_fails_too() -> None:
    plant = Plant(base_w=60e3)
    plant.run(20)
    name = next(iter(plant.open))
    plant.disobedient.add(name)
    plant.closed[name] = True
    plant.run(5)
    assert "shed.failed" in plant.codes
    assert plant.loading_pct < 95.01


def test_a_load_without_a_power_meter_is_judged_by_its_contact_and_a_silent_one_fails() -> None:
    plant = Plant(base_w=60e3)
    plant.run(11)
    gone = sorted(plant.open)
    plant.unmeasured |= set(gone)
    plant.run(3)
    assert all(one.obeyed for one in plant.rules.memory.shed)
    silent = Plant(base_w=60e3)
    silent.run(11)
    dead = silent.rules.shed
    for second in range(10):
        readings = [reading for reading in silent.readings() if reading.point.device not in dead]
        view = silent.view_of(readings)
        silent.obey(silent.rules.step(view))
        silent.now += timedelta(seconds=1)
        if second < 4:
            assert "shed.failed" not in silent.codes
    assert "shed.failed" in silent.codes


def test_a_tagged_load_is_neither_shed_nor_let_go() -> None:
    plant = Plant(base_w=66e3, tagged={"l41"})
    plant.run(11)
    assert "l41" not in plant.open
    plant.tagged = {"l42"}
    plant.base_w = 15e3
    plant.run(120)
    assert plant.open == {"l42"}
    plant.tagged = set()
    plant.run(40)
    assert plant.open == set()
