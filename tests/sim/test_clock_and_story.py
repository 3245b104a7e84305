"""The published clock, the script and the scenario file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.sim.conftest import SCENARIO_PATH, Instant
from tieline_sim.clock import ANNOUNCE_S, SimClock
from tieline_sim.errors import ScenarioError, SimulatorError
from tieline_sim.faults import FaultBoard
from tieline_sim.scenario import Scenario, load_scenario
from tieline_sim.story import Phase, Story

EPOCH = 1_481_729_400.0


def test_a_change_of_speed_is_announced_before_it_holds_and_time_never_jumps(tmp_path: Path) -> None:
    wall = Instant(1000.0)
    clock = SimClock(tmp_path / "clock.json", EPOCH, wall)
    wall.seconds = 1010.0
    clock.change_speed(90, normal_from_sim=EPOCH + 1000)
    segments = json.loads((tmp_path / "clock.json").read_text())["segments"]
    assert [row["speed"] for row in segments] == [1, 90, 1]
    assert segments[1]["wall_unix_s"] - 1010 == pytest.approx(ANNOUNCE_S)
    assert ANNOUNCE_S >= 0.5
    assert clock.speed() == 1
    last = clock.now()
    for step in range(1, 400):
        wall.seconds = 1010 + step * 0.1
        assert 0 < clock.now() - last <= 90 * 0.1 + 1e-6
        last = clock.now()
    assert clock.speed() == 1
    assert clock.speed_at(EPOCH + 500) == 90
    assert clock.speed_at(EPOCH + 1001) == 1
    boundary = segments[2]["wall_unix_s"]
    wall.seconds = boundary
    assert clock.now() == pytest.approx(EPOCH + 1000)


def test_a_later_life_goes_on_with_the_same_clock(tmp_path: Path) -> None:
    wall = Instant(1000.0)
    clock = SimClock(tmp_path / "clock.json", EPOCH, wall)
    clock.change_speed(90)
    wall.seconds = 1100.0
    reborn = SimClock(tmp_path / "clock.json", 0.0, wall)
    assert reborn.resumed
    assert reborn.now() == clock.now()
    with pytest.raises(ValueError, match="not above 0"):
        reborn.change_speed(0)


def test_the_script_waits_for_its_start_and_then_throws_each_switch_once(tmp_path: Path, scenario: Scenario) -> None:
    wall = Instant(1000.0)
    clock = SimClock(tmp_path / "clock.json", scenario.epoch_unix_s, wall)
    board = FaultBoard(scenario.faults)
    story = Story(scenario, clock, board, wall.note)
    late = scenario.epoch_unix_s + 86400
    story.tick(late)
    assert (board.active, story.phase(all_restored=True)) == (set(), Phase.SETUP)
    story.start()
    with pytest.raises(SimulatorError, match="already"):
        story.start()
    assert story.phase(all_restored=True) is Phase.QUIET
    cut = scenario.timeline[0].at.timestamp()
    wall.seconds = clock.segments[-1].wall_at(cut - 29)
    assert clock.speed() == 1, "speed is 1 from half a minute before the cut"
    assert story.phase(all_restored=True) is Phase.CLOSE
    seen = []
    for second in range(90):
        story.tick(cut + second)
        seen.append(frozenset(board.active))
    assert seen[0] == {"hub-link"}
    assert seen[15] == {"hub-link", "back-feed"}
    assert seen[50] == {"hub-link"}
    assert seen[80] == frozenset()
    assert story.phase(all_restored=False) is Phase.CLOSE
    assert story.phase(all_restored=True) is Phase.AFTER
    assert wall.names().count("fault-on") == 2


def test_the_part_at_speed_1_is_short_enough_for_the_demo(scenario: Scenario) -> None:
    begin = scenario.normal_from_unix_s
    assert begin is not None
    assert scenario.timeline[-1].at.timestamp() - begin <= 130 - 25
    assert (begin - scenario.epoch_unix_s) / scenario.clock.quiet_speed <= 100


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("colour",), 1, "colour.*unknown key"),
        (("seed",), "x", "seed.*must be of type int"),
        (("version",), 2, "version.*only version 1"),
        (("clock", "quiet_speed"), 601, r"quiet_speed.*\(0, 600\]"),
        (("clock", "epoch"), "yesterday", "epoch.*instant with a zone"),
        (("substations", 0, "transformer", "rating_kva"), None, "rating_kva.*must be of type float"),
        (("substations", 1, "id"), "harbour", "substations.*its own id"),
        (("substations",), {}, "substations.*must be a list"),
        (("substations", 0, "sheddable", 0, "share"), 0.9, "sum to less than 1"),
        (("timeline", 0, "fault"), "flood", r"timeline\[0\].fault.*not among faults"),
        (("faults", "back-feed", "kind"), "flood", "back-feed.kind.*none of"),
        (("faults", "back-feed", "substation"), "moon", "substation.*none of"),
        (("faults", "back-feed", "extra_kw"), 5, "either extra_kw or"),
        (("faults", "back-feed", "mood"), 5, "mood.*takes only"),
        (("faults", "hub-link", "links"), ["x"], "links.*none of"),
        (("faults", "surge-mill", "factor"), "big", "factor.*must be int or float"),
    ],
)
def test_a_mistake_in_the_scenario_names_file_key_value_and_reason(
    tmp_path: Path, path: tuple[str | int, ...], value: object, message: str
) -> None:
    tree = yaml.safe_load(SCENARIO_PATH.read_text(encoding="utf-8"))
    place = tree
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    target = tmp_path / "wrong.yaml"
    target.write_text(yaml.safe_dump(tree), encoding="utf-8")
    with pytest.raises(ScenarioError, match=message) as caught:
        load_scenario(target)
    assert "wrong.yaml" in str(caught.value)


def test_what_is_missing_or_no_yaml_is_said(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("version: 1\n")
    with pytest.raises(ScenarioError, match=r"seed.*is missing"):
        load_scenario(path)
    path.write_text("a: [")
    with pytest.raises(ScenarioError, match="is not YAML"):
        load_scenario(path)
    with pytest.raises(ScenarioError, match="cannot be read"):
        load_scenario(tmp_path / "nowhere.yaml")


def test_an_unknown_fault_is_refused_by_name(scenario: Scenario) -> None:
    with pytest.raises(SimulatorError, match="no fault 'flood'"):
        FaultBoard(scenario.faults).set("flood", on=True)


def test_the_small_scenario_has_one_substation_of_the_demo_and_no_story(scenario: Scenario) -> None:
    small = load_scenario(SCENARIO_PATH.with_name("one-substation.yaml"))
    assert small.substations == scenario.substations[:1]
    assert not small.timeline
    assert small.faults.items() <= scenario.faults.items()
