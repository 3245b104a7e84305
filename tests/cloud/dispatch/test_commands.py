"""Operator commands on their way to the edge."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.cloud.rooms import HARBOUR, NOW, TRUSTED, Rooms, reported
from tieline_cloud.dispatch.commands import CommandConflictError
from tieline_cloud.dispatch.publisher import PublishFailedError
from tieline_core import topics
from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.command import Action, Command, CommandReport, CommandState
from tieline_core.signing import EnvelopeType, open_envelope


def command(command_id: str = "command-1", value_w: float = 1000.0) -> Command:
    return Command(
        command_id=command_id,
        edge_id=HARBOUR,
        device_id=DeviceId("bat1"),
        action=Action.SETPOINT_W,
        value_w=value_w,
        expires_at=NOW + timedelta(minutes=10),
        issued_by="local",
        issued_at=NOW,
        reason="relieve the feeder",
    )


async def test_a_command_leaves_signed_for_its_edge_and_is_not_retained(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path)
    record = await rooms.commands.send(command())
    assert record.state is CommandState.ACCEPTED
    topic, payload, retain = rooms.outbox.sent[0]
    assert (topic, retain) == (topics.command(HARBOUR), False)
    envelope = open_envelope(payload, kind=EnvelopeType.COMMAND, edge=HARBOUR, trusted=TRUSTED, now=NOW)
    assert Command.from_bytes(envelope.payload, topic) == command()


async def test_the_same_command_again_is_sent_once(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path)
    await rooms.commands.send(command())
    await rooms.commands.send(command())
    assert len(rooms.outbox.sent) == 1


async def test_an_id_that_was_used_for_something_else_is_refused(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path)
    await rooms.commands.send(command())
    with pytest.raises(CommandConflictError):
        await rooms.commands.send(command(value_w=2000.0))


async def test_the_edge_s_reports_become_its_state_and_only_its_own_edge_is_heard(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path)
    await rooms.commands.send(command())
    told = CommandReport(command_id="command-1", state=CommandState.EFFECTIVE, at=NOW, text="moved")
    assert not rooms.commands.hear(reported(edge_id=EdgeId("mill"), commands=(told,)))
    assert [record.state for record in rooms.commands.hear(reported(commands=(told,)))] == [CommandState.EFFECTIVE]
    assert not rooms.commands.hear(reported(commands=(told,)))
    again = rooms.commands.get("command-1")
    assert again is not None
    assert again.reports == (told,)


async def test_without_a_broker_it_has_failed_and_says_so(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path)
    rooms.outbox.away = True
    with pytest.raises(PublishFailedError):
        await rooms.commands.send(command())
    record = rooms.commands.get("command-1")
    assert record is not None
    assert record.state is CommandState.FAILED


async def test_a_command_nobody_answered_expires(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path)
    await rooms.commands.send(command())
    await rooms.clock.advance(601)
    assert [record.state for record in rooms.commands.newest(10)] == [CommandState.EXPIRED]


async def test_what_was_in_force_is_not_beyond_its_end_though_the_edge_is_away(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path)
    await rooms.commands.send(command())
    told = CommandReport(command_id="command-1", state=CommandState.EFFECTIVE, at=NOW, text="moved")
    rooms.commands.hear(reported(commands=(told,)))
    await rooms.clock.advance(601)
    assert [record.state for record in rooms.commands.newest(10)] == [CommandState.ENDED]
