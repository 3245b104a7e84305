"""Operator commands: what they mean, what is refused, and how they are followed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.command import Command, CommandState
from tieline_edge.control.claims import NO_LIMIT, Band, Interval
from tieline_edge.control.commands import MAX_COMMANDS, MAX_OPEN, REMEMBER_S, CommandBook
from tieline_edge.control.state_file import StateFile
from tieline_edge.drivers.capabilities import Capability, DeviceSpec, HoldPower, Role

EDGE = EdgeId("harbour")
NOW = datetime(2016, 12, 7, 16, tzinfo=UTC)
BAT, PV, LOAD, VITAL = map(DeviceId, ("bat1", "pv1", "load01", "load10"))
SPECS = {
    BAT: DeviceSpec(BAT, Role.STORAGE, frozenset({Capability.HOLD_POWER}), p_min_w=-60e3, p_max_w=60e3),
    PV: DeviceSpec(PV, Role.PV, frozenset({Capability.LIMIT_GENERATION}), p_min_w=-50e3),
    LOAD: DeviceSpec(LOAD, Role.LOAD, frozenset({Capability.SWITCH}), 3),
    VITAL: DeviceSpec(VITAL, Role.LOAD, frozenset({Capability.SWITCH}), 0),
}


@pytest.fixture
def book(tmp_path: Path) -> CommandBook:
    return CommandBook(EDGE, SPECS, StateFile(tmp_path / "commands.json"))


def command(device: str = "bat1", action: str = "setpoint_w", value: float | None = None, **rest: Any) -> Command:
    return Command.model_validate(
        {
            "command_id": "command-1",
            "edge_id": "harbour",
            "device_id": device,
            "action": action,
            "value_w": value,
            "expires_at": NOW + timedelta(minutes=10),
            "issued_by": "ada",
            "issued_at": NOW,
            "reason": "test of the bay",
            **rest,
        }
    )


@pytest.mark.parametrize(
    ("device", "action", "value", "wish"),
    [
        ("bat1", "setpoint_w", -5e3, {"setpoint_w": -5e3}),
        ("bat1", "limit_w", 5e3, {"limit": Interval(hi=5e3)}),
        ("bat1", "limit_w", -5e3, {"limit": Interval(lo=-5e3)}),
        ("bat1", "limit_w", 0.0, {"limit": Interval(0.0, 0.0)}),
        ("pv1", "limit_w", -9e3, {"limit": Interval(lo=-9e3)}),
        ("pv1", "limit_w", 0.0, {"limit": Interval(lo=0.0)}),
        ("load01", "open", None, {"closed": False}),
        ("load10", "close", None, {"closed": True}),
    ],
)
async def test_an_accepted_command_becomes_a_claim_of_the_operator_band(
    book: CommandBook, device: str, action: str, value: float | None, wish: dict[str, Any]
) -> None:
    assert (await book.accept(command(device, action, value), NOW)).state is CommandState.ACCEPTED
    (claim,) = book.claims(NOW)
    assert claim.band is Band.OPERATOR
    assert claim.source == "command command-1"
    assert claim.reason == "ada: test of the bay"
    assert {name: getattr(claim, name) for name in wish} == wish
    assert book.claims(NOW + timedelta(minutes=10)) == ()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"edge_id": "mill"}, "is for mill"),
        ({"expires_at": NOW}, "expired"),
        ({"device": "bat9", "value": 1.0}, "not a device"),
        ({"device": "load01", "value": 1.0}, "holds no setpoint"),
        ({"device": "load01", "action": "limit_w", "value": 1.0}, "takes no limit"),
        ({"device": "pv1", "action": "limit_w", "value": 1.0}, "at most 0 W"),
        ({"action": "open"}, "no contactor"),
        ({"device": "load10", "action": "open"}, "vital"),
        ({"value": 61e3}, "outside"),
    ],
)
async def test_what_cannot_be_is_refused_in_words_and_claims_nothing(
    book: CommandBook, change: dict[str, Any], word: str
) -> None:
    change = {"value": 0.0 if change.get("action") != "open" else None, **change}
    report = await book.accept(command(**change), NOW)
    assert report.state is CommandState.REFUSED
    assert word in report.text
    assert book.claims(NOW) == ()


async def test_the_same_id_twice_is_one_command(book: CommandBook) -> None:
    first = await book.accept(command(value=1e3), NOW)
    again = await book.accept(command(value=9e3), NOW + timedelta(seconds=5))
    assert again == first
    assert book.claims(NOW)[0].setpoint_w == 1e3


async def test_of_two_setpoints_for_one_device_the_newer_counts_and_a_limit_stands_beside_it(book: CommandBook) -> None:
    await book.accept(command(value=2e3, command_id="command-2", issued_at=NOW + timedelta(seconds=1)), NOW)
    await book.accept(command(value=1e3), NOW)
    await book.accept(command(action="limit_w", value=3e3, command_id="command-3"), NOW)
    claims = book.claims(NOW)
    assert [claim.setpoint_w for claim in claims if claim.limit is None] == [2e3]
    assert [claim.limit for claim in claims if claim.limit is not None] == [Interval(hi=3e3)]


async def test_a_release_ends_the_setpoint_and_lifts_the_limit_in_so_many_words(book: CommandBook) -> None:
    await book.accept(command(value=1e3), NOW)
    await book.accept(command(action="limit_w", value=3e3, command_id="command-3"), NOW)
    await book.accept(command(action="release", command_id="command-4"), NOW + timedelta(seconds=1))
    (lifted,) = book.claims(NOW + timedelta(seconds=1))
    assert lifted.limit == NO_LIMIT


async def test_a_command_is_followed_to_its_effect_and_a_refresh_is_no_step_back(book: CommandBook) -> None:
    await book.accept(command(value=1e3), NOW)
    states = []
    for state in (CommandState.CONFIRMED, CommandState.CONFIRMED, CommandState.EFFECTIVE, CommandState.CONFIRMED):
        report = book.progress(BAT, "command command-1", state, "", NOW)
        states.append(None if report is None else report.state)
    assert states == [CommandState.CONFIRMED, None, CommandState.EFFECTIVE, None]
    assert book.progress(BAT, "plan", CommandState.FAILED, "", NOW) is None
    assert book.progress(PV, "command command-1", CommandState.FAILED, "", NOW) is None


async def test_a_setpoint_that_limits_hold_back_is_told_with_what_was_written_instead(book: CommandBook) -> None:
    await book.accept(command(value=-20e3), NOW)
    states = (CommandState.CONFIRMED, CommandState.EFFECTIVE, CommandState.EFFECTIVE)
    held = [book.progress(BAT, "command command-1", state, "read", NOW, HoldPower(-49e3, 180)) for state in states]
    assert [report and report.text for report in held] == [
        "in part: -49000 W, not -20000 W: limits or a ramp hold it back, see why; read"
    ] * 2 + [None]
    free = HoldPower(-20e3, 180)
    assert book.progress(BAT, "command command-1", CommandState.CONFIRMED, "read", NOW, free) is None
    reached = book.progress(BAT, "command command-1", CommandState.EFFECTIVE, "the field shows it", NOW, free)
    assert reached is not None
    assert (reached.state, reached.text) == (CommandState.EFFECTIVE, "the field shows it")


async def test_a_command_that_was_in_force_ends_with_its_time_and_says_so_once(book: CommandBook) -> None:
    await book.accept(command(value=1e3), NOW)
    book.progress(BAT, "command command-1", CommandState.EFFECTIVE, "", NOW)
    later = NOW + timedelta(minutes=11)
    assert [(report.state, report.text) for report in book.expire(later)] == [(CommandState.ENDED, "its time is over")]
    assert book.expire(later) == ()
    assert book.progress(BAT, "command command-1", CommandState.FAILED, "", later) is None


async def test_a_release_ends_what_was_in_force_and_names_who_released_it(book: CommandBook) -> None:
    await book.accept(command(value=1e3), NOW)
    await book.accept(command("pv1", "limit_w", -5e3, command_id="command-2"), NOW)
    book.progress(BAT, "command command-1", CommandState.EFFECTIVE, "", NOW)
    release = command(action="release", command_id="command-3", issued_by="grace", reason="work is done")
    assert (await book.accept(release, NOW)).state is CommandState.EFFECTIVE
    states = {report.command_id: (report.state, report.text) for report in book.reports()}
    assert states["command-1"] == (CommandState.ENDED, "released by grace: work is done")
    assert states["command-2"][0] is CommandState.ACCEPTED
    assert [claim.device for claim in book.claims(NOW)] == [PV]


async def test_a_command_without_effect_expires_and_says_so_once(book: CommandBook) -> None:
    await book.accept(command(value=1e3), NOW)
    book.progress(BAT, "command command-1", CommandState.FAILED, "no answer", NOW)
    later = NOW + timedelta(minutes=11)
    assert [report.state for report in book.expire(later)] == [CommandState.EXPIRED]
    assert book.expire(later) == ()
    assert book.progress(BAT, "command command-1", CommandState.EFFECTIVE, "", later) is None


async def test_commands_survive_a_restart_and_are_forgotten_a_day_after_they_ended(book: CommandBook, tmp_path: Path) -> None:
    await book.accept(command(value=1e3), NOW)
    again = CommandBook(EDGE, SPECS, StateFile(tmp_path / "commands.json"))
    assert again.restore() is None
    assert again.claims(NOW) == book.claims(NOW)
    assert again.reports() == book.reports()
    later = NOW + timedelta(seconds=REMEMBER_S + 700)
    await again.accept(command(value=1e3, command_id="command-2", expires_at=later + timedelta(hours=1)), later)
    assert [report.command_id for report in again.reports()] == ["command-2"]


def test_unreadable_commands_are_kept_aside_and_said(book: CommandBook, tmp_path: Path) -> None:
    assert book.restore() is None
    (tmp_path / "commands.json").write_text("{}")
    message = book.restore()
    assert message is not None
    assert "unreadable" in message


async def test_commands_on_devices_that_have_gone_since_claim_nothing(book: CommandBook, tmp_path: Path) -> None:
    await book.accept(command(value=1e3), NOW)
    fewer = CommandBook(EDGE, {}, StateFile(tmp_path / "commands.json"))
    fewer.restore()
    assert fewer.claims(NOW) == ()


async def test_a_full_disk_does_not_stop_an_approved_command(book: CommandBook, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(book._file, "write", full)
    assert (await book.accept(command(value=1e3), NOW)).state is CommandState.ACCEPTED
    assert book.claims(NOW)[0].setpoint_w == 1e3


async def test_a_command_to_a_tagged_device_is_refused_with_who_and_why_and_a_release_is_not(tmp_path: Path) -> None:
    tags = {DeviceId("bat1"): "tagged by the crew: cable is open"}
    held = CommandBook(EDGE, SPECS, StateFile(tmp_path / "commands.json"), tags.get)
    refused = await held.accept(command(value=5e3), NOW)
    assert refused.state is CommandState.REFUSED
    assert "cable is open" in refused.text
    assert (await held.accept(command(action="release", command_id="release-0001"), NOW)).state is CommandState.EFFECTIVE
    assert held.claims(NOW) == ()


async def test_what_is_in_force_outlives_any_number_of_refused_and_finished_commands(book: CommandBook) -> None:
    day = NOW + timedelta(hours=20)
    assert (await book.accept(command(action="limit_w", value=5e3, expires_at=day), NOW)).state is CommandState.ACCEPTED
    for number in range(MAX_COMMANDS + 1):
        later = NOW + timedelta(seconds=1 + number)
        await book.accept(command(device="nobody", value=1.0, command_id=f"other-{number:05}", expires_at=day), later)
    assert [claim.limit for claim in book.claims(NOW + timedelta(hours=1))] == [Interval(hi=5e3)]


async def test_more_commands_than_can_be_kept_are_refused_and_a_release_is_still_heard(tmp_path: Path) -> None:
    many = {f"bat{number}": DeviceId(f"bat{number}") for number in range(MAX_OPEN + 1)}
    specs = {device: replace(SPECS[BAT], device_id=device) for device in many.values()}
    book = CommandBook(EDGE, specs, StateFile(tmp_path / "commands.json"))
    told = [(await book.accept(command(device=name, value=1.0, command_id=f"command-{name}"), NOW)).state for name in many]
    assert told == [*[CommandState.ACCEPTED] * MAX_OPEN, CommandState.REFUSED]
    assert len(book.claims(NOW)) == MAX_OPEN
    assert (await book.accept(command("bat0", "release", command_id="release-1"), NOW)).state is CommandState.EFFECTIVE
    assert (
        await book.accept(command(f"bat{MAX_OPEN}", value=1.0, command_id="command-again"), NOW)
    ).state is CommandState.ACCEPTED
