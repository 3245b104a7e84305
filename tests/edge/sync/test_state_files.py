"""Damaged state files: the edge starts, keeps them aside, obeys nothing old, and says so."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tieline_core import topics
from tieline_core.clock import ManualClock
from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.command import Action, Command, CommandReport, CommandState
from tieline_core.signing import EnvelopeType, Signer
from tieline_edge.outbox.store import Outbox
from tieline_edge.settings import OutboxSettings
from tieline_edge.sync.artifacts import Artifacts
from tieline_edge.sync.downlink import Downlink
from tieline_edge.sync.durable_file import Counters
from tieline_edge.sync.installed import Installed, read_installed
from tieline_edge.sync.mqtt_session import Message
from tieline_edge.sync.sinks import Sinks
from tieline_edge.sync.trusted import trusted_keys

EDGE = EdgeId("harbour")
NOW = datetime(2016, 12, 7, 17, 30, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
PRIVATE = bytes(range(32))
NESTED = b"[" * 3000 + b"]" * 3000
DAMAGED = {
    "empty": b"",
    "half": b'{"desired": 17',
    "text": b"garbage \xff\xfe",
    "nested": NESTED,
    "nested deeply": b"[" * 200_000,
    "list": b"[1, 2]",
    "wrong types": b'{"desired": "seventeen", "plan": 7, "models": [1]}',
    "wrong values": b'{"desired": -5, "plan": "zz", "models": {"a": {}}}',
    "large": b" " * (2 * 1024 * 1024),
}


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_counters_go_on_above_everything_that_can_have_been_used(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "counters.json"
    path.write_bytes(content)
    counters = Counters(path, NOW_MS)
    assert counters.damage is not None
    assert "counters.json is no file of counters" in counters.damage
    assert (tmp_path / "counters.json.unreadable").read_bytes() == content
    assert not counters.advance("desired", NOW_MS)
    assert counters.advance("desired", NOW_MS + 1)
    # The next start finds a whole file and is no milder to the names that were not used since.
    again = Counters(path, 0)
    assert again.damage is None
    assert again.last("desired") == NOW_MS + 1
    assert not again.advance("command", NOW_MS)


def test_counters_that_can_not_be_mended_stay_closed_at_every_start(tmp_path: Path) -> None:
    path = tmp_path / "counters.json"
    path.mkdir()  # what no write replaces
    for _ in range(2):
        counters = Counters(path, NOW_MS)
        assert counters.damage is not None
        assert counters.last("desired") == NOW_MS


def test_whole_counters_are_as_they_were(tmp_path: Path) -> None:
    counters = Counters(tmp_path / "counters.json", NOW_MS)
    assert (counters.last("desired"), counters.damage) == (0, None)
    assert counters.advance("desired", 5)
    assert not Counters(tmp_path / "counters.json", NOW_MS).advance("desired", 5)


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_list_of_what_is_in_force_is_kept_aside(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "installed.json"
    path.write_bytes(content)
    installed, damage = read_installed(path)
    assert installed == Installed(models={})
    assert damage is not None
    assert "kept as installed.json.unreadable" in damage
    assert read_installed(path) == (Installed(models={}), None)


def test_a_whole_list_of_what_is_in_force_comes_back(tmp_path: Path) -> None:
    installed = Installed("a" * 64, None, {"harbour/site/load_w": "b" * 64})
    (tmp_path / "installed.json").write_bytes(installed.to_json())
    assert read_installed(tmp_path / "installed.json") == (installed, None)


class Taker:
    """Takes commands."""

    def __init__(self) -> None:
        self.taken: list[str] = []

    async def offer(self, command: Command) -> CommandReport:
        self.taken.append(command.command_id)
        return CommandReport(command_id=command.command_id, state=CommandState.ACCEPTED, at=NOW)


@asynccontextmanager
async def downlink(folder: Path, taker: Taker, clock: ManualClock) -> AsyncIterator[Downlink]:
    async with Outbox.open(folder / "outbox.sqlite", EDGE, OutboxSettings(commit_interval_s=0.0), clock) as outbox:
        keys = trusted_keys([Signer(PRIVATE).public.hex()])
        artifacts = Artifacts(folder / "artifacts", "http://127.0.0.1:9")
        yield Downlink(outbox, clock, keys, deque(), artifacts, folder, Sinks(command=taker))


def command(number: int, signed_at: datetime) -> Message:
    order = Command(
        command_id=f"command-{number}", edge_id=EDGE, device_id=DeviceId("bat1"), action=Action.OPEN,
        expires_at=at(7200), issued_by="operator", issued_at=signed_at, reason="test",
    )  # fmt: skip
    valid = (signed_at - timedelta(minutes=5), at(7200))
    envelope = Signer(PRIVATE).seal(EnvelopeType.COMMAND, EDGE, order.to_bytes(), now=signed_at, valid=valid)
    return Message(topics.command(EDGE), envelope, 1)


async def test_after_a_lost_counter_no_command_of_before_is_obeyed_and_new_ones_are(tmp_path: Path) -> None:
    (tmp_path / "counters.json").write_bytes(NESTED)
    taker, clock = Taker(), ManualClock(NOW)
    async with downlink(tmp_path, taker, clock) as link:
        assert len(link.damage) == 1
        await link.take(command(1, at(-60)))
        assert taker.taken == []
        assert link.refusals[-1].check == "replay"
        await clock.advance(600)
        await link.take(command(2, at(600)))
        assert taker.taken == ["command-2"]
    assert json.loads((tmp_path / "counters.json").read_bytes())["floor"] > NOW_MS
