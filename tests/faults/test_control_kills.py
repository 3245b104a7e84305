"""The agent is killed in the middle of a write (F4, F5, F6), and devices lie or dawdle (F31, F32): real processes, real Modbus.

The witness is the log of a Modbus server that shares no code with the product and outlives the agent.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.faults.contactors import Contactor, Contactors
from tests.faults.programs import Program, RigError
from tieline_core.clock import SystemClock

pytestmark = pytest.mark.e2e
WITHIN_S = 40.0


class Edge:
    """The victim's process, and its doors."""

    def __init__(self, folder: Path, field: Contactors) -> None:
        self.folder, self._field = folder, field
        self._base = [sys.executable, "-m", "tests.faults.control_victim", str(folder)]
        self._base += ["--port", str(field.port), "--loads", str(len(field.units))]
        self.program = Program("victim", self._base, folder / "victim.log")

    def start(self, die: str | None = None) -> None:
        """Start it, to die at a point or not."""
        self.program.start(() if die is None else ("--die", die))

    async def dies(self) -> None:
        """Wait for its death by its own hand."""
        await until("the edge to die", lambda: not self.program.alive, self)
        assert await asyncio.to_thread(self.program.end) == -signal.SIGKILL

    def order(self, name: str, load: str, action: str = "open", seconds: float = 600.0) -> None:
        """Put a command into its inbox."""
        now = SystemClock().now()
        body = {
            "command_id": name,
            "edge_id": "victim",
            "device_id": load,
            "action": action,
            "expires_at": (now + timedelta(seconds=seconds)).isoformat(),
            "issued_by": "ada",
            "issued_at": now.isoformat(),
            "reason": "a test of faults",
        }
        inbox = self.folder / "inbox"
        inbox.mkdir(exist_ok=True)
        (inbox / f"{name}.tmp").write_text(json.dumps(body))
        (inbox / f"{name}.tmp").replace(inbox / f"{name}.json")

    def report(self, name: str) -> dict[str, Any]:
        """Its newest report on a command; empty when it has none."""
        try:
            rows = (self.folder / "commands-now.json").read_text().splitlines()
        except FileNotFoundError:
            return {}
        found: dict[str, Any] = next((row for row in map(json.loads, rows) if row["command_id"] == name), {})
        return found


async def until(what: str, holds: Callable[[], bool], edge: Edge) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + WITHIN_S
    while not holds():
        if time.monotonic() > deadline:
            log = edge.program.log.read_text()[-2000:]
            raise RigError(f"waited {WITHIN_S:g} s for {what}; {edge._field.writes()}\n{log}")
        await asyncio.sleep(0.02)


def state_is(edge: Edge, name: str, state: str) -> Callable[[], bool]:
    """Whether a command has come so far."""
    return lambda: edge.report(name).get("state") == state


async def quiet(edge: Edge, seconds: float) -> None:
    """Let it run on."""
    await asyncio.sleep(seconds)
    assert edge.program.alive, edge.program.log.read_text()[-2000:]


async def test_f4_killed_between_journal_and_write_it_reads_first_and_carries_out_what_is_still_wanted(tmp_path: Path) -> None:
    """F4 (I2, I5): of two commands the one that ended meanwhile is not carried out, the other one once, after a read."""
    async with Contactors({unit: Contactor() for unit in (1, 2, 3)}) as field:
        edge = Edge(tmp_path, field)
        edge.start(die="before-write")
        await until("the edge to be up", (tmp_path / "commands-now.json").exists, edge)
        edge.order("command-long", "load02")
        edge.order("command-short", "load01", seconds=4.0)
        ordered_s = time.monotonic()
        await edge.dies()
        assert field.writes() == [], "journalled and not written"
        journal = (tmp_path / "state/commands.json").read_text()
        assert "command-short" in journal
        assert "command-long" in journal
        await asyncio.sleep(max(0.0, ordered_s + 4.5 - time.monotonic()))
        began = len(field.log)
        edge.start()
        try:
            await until("the command to work", state_is(edge, "command-long", "effective"), edge)
            await quiet(edge, 1.0)
            assert [(one.unit, one.value) for one in field.writes()] == [(2, 0)]
            before = field.log[began : field.log.index(field.writes()[0])]
            assert any(one.unit == 2 and not one.writes for one in before), "the device was read before it was written to"
            assert edge.report("command-short")["state"] == "expired"
            assert field.units[1].moves == 0
        finally:
            edge.program.end()


async def test_f5_killed_between_write_and_read_back_it_finds_what_it_did_and_repeats_nothing(tmp_path: Path) -> None:
    """F5 (I2, I9): the state is reconciled by reading; the command becomes effective and says how that is known."""
    async with Contactors({unit: Contactor() for unit in (1, 2)}) as field:
        edge = Edge(tmp_path, field)
        edge.order("command-five", "load01")
        edge.start(die="after-write")
        await edge.dies()
        assert len(field.writes(1)) == 1
        edge.start()
        try:
            await until("the command to be known to work", state_is(edge, "command-five", "effective"), edge)
            await quiet(edge, 1.0)
            assert "found in place" in edge.report("command-five")["text"]
            assert len(field.writes(1)) == 1
            assert field.units[1].moves == 1
        finally:
            edge.program.end()


async def test_f6_killed_after_two_of_five_sheddings_it_ends_in_a_legal_state(tmp_path: Path) -> None:
    """F6 (I4): while the overload lasts the other three follow and the two are not told again; afterwards all come back."""
    async with Contactors({unit: Contactor() for unit in range(1, 7)}) as field:
        edge = Edge(tmp_path, field)
        (tmp_path / "overload").touch()
        edge.start(die="third-write")
        await edge.dies()
        done = {one.unit for one in field.writes()}
        # Writes to other units may have been under way in the same instant; nobody was told twice.
        assert 2 <= len(done) <= 5
        assert len(field.writes()) == len(done)
        edge.start()
        try:
            await until("five loads to be open", lambda: sum(not one.closed for one in field.units.values()) == 5, edge)
            await quiet(edge, 1.0)
            assert sorted((one.unit, one.value) for one in field.writes()) == [(unit, 0) for unit in range(1, 6)]
            (tmp_path / "overload").unlink()
            await until("all to be closed", lambda: all(one.closed for one in field.units.values()), edge)
            assert [one.moves for one in field.units.values()] == [2, 2, 2, 2, 2, 0]
            assert field.writes(6) == [], "the vital one is never touched"
        finally:
            edge.program.end()


async def test_f31_f32_and_refusals_are_what_the_wire_shows(tmp_path: Path) -> None:
    """F31: echoed, not done: unconfirmed, escalated, tried at a bounded rate (I9). F32: done late: told once, moved once (I2).

    Refused: not one byte to the device (I5).
    """
    loads = {1: Contactor(obeys=False), 2: Contactor(delay_s=2.0), 3: Contactor(), 4: Contactor()}
    async with Contactors(loads) as field:
        edge = Edge(tmp_path, field)
        edge.start()
        try:
            edge.order("command-vital", "load04")
            edge.order("command-lies", "load01")
            edge.order("command-slow", "load02")
            edge.order("command-nobody", "load77")
            edge.order("command-past", "load03", seconds=-1.0)
            await until("the slow one", state_is(edge, "command-slow", "effective"), edge)
            await until("the liar", state_is(edge, "command-lies", "unconfirmed"), edge)
            for refused in ("command-vital", "command-nobody", "command-past"):
                assert edge.report(refused)["state"] == "refused", refused
            assert len(field.writes(2)) == 1
            assert field.units[2].moves == 1
            assert field.writes(3) == field.writes(4) == []
            await until("the escalation", lambda: "device.not_acting" in edge.program.log.read_text(), edge)
            assert field.units[1].moves == 0
            told = [one.at_s for one in field.writes(1)]
            assert len(told) <= 5
            assert all(after - before > 1.0 for before, after in itertools.pairwise(told))
        finally:
            edge.program.end()
