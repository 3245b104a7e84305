"""Runs a campaign: faults round after round, quiet now and then, and then both sides must be equal."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.faults.mqtt_packets import Mischief
from tests.faults.programs import RigError, Sender
from tests.faults.proxy import FAIR, Proxy, Weather
from tests.faults.rig import Layout, Rig
from tests.soak.plan import Action, round_actions

ROUND_S: Final = 1.15
#: Time everybody has to recover once the faults stop.
RECOVERY_S: Final = 45.0
_VERDICTS: Final = ("accepted", "duplicate", "repeated", "gap", "foreign", "conflict")
_BAD: Final = {
    "half_open": (Weather(swallow=True), Weather(swallow=True)),
    "deaf": (FAIR, Weather(swallow=True)),
    "mute": (Weather(swallow=True), FAIR),
    "slow": (Weather(delay_s=0.15, bytes_per_s=20_000), Weather(delay_s=0.15)),
    "stalls": (Weather(stall=0.3, stall_s=0.15), Weather(stall=0.3, stall_s=0.15)),
    "duplicates": (Weather(mischief=Mischief(duplicate=0.5)), FAIR),
    "reordering": (Weather(mischief=Mischief(late=0.5)), FAIR),
    "packet_loss": (Weather(mischief=Mischief(lose=0.3)), FAIR),
    "back_duplicates": (FAIR, Weather(mischief=Mischief(duplicate=0.4, late=0.4))),
}


@dataclass
class Outcome:
    """What a campaign found; the final JSON."""

    seed: int
    rounds: int
    command: str
    edges: int
    done: int = 0
    ok: bool = False
    reason: str = ""
    seconds: float = 0.0
    seconds_per_round: float = 0.0
    checks: list[dict[str, Any]] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)
    starts: dict[str, int] = field(default_factory=dict)
    verdicts: dict[str, int] = field(default_factory=dict)
    longest_recovery_s: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


class Campaign:
    """One seed, so many rounds.

    Args:
        folder: Where everything happens; it must be empty.
        outcome: Is filled.
        every: Rounds between two comparisons.
        tell: Takes progress lines.
        restore_every: Rounds between two restorations of the hub from its last backup; 0 = never.
    """

    def __init__(
        self,
        folder: Path,
        outcome: Outcome,
        every: int,
        tell: Callable[[str], None] = lambda _line: None,
        restore_every: int = 0,
    ) -> None:
        self._folder = folder
        self._outcome = outcome
        self._every = every
        self._tell = tell
        self._restore_every = restore_every
        self._counted: dict[str, int] = {}
        self._counted_start = 0

    async def run(self) -> Outcome:
        """Run all rounds; ends early when the sides differ or somebody does not recover."""
        outcome, began_s = self._outcome, time.monotonic()
        # Readings of a stepped clock shall be compared, not put aside.
        layout = Layout(edges=outcome.edges, seed=outcome.seed, sender=("--period", "0.12"), future_s=5 * 86_400.0)
        async with Rig(self._folder, layout) as rig:
            try:
                for number in range(1, outcome.rounds + 1):
                    if self._restore_every and number % self._restore_every in (0, self._restore_every // 2):
                        await self._back_up_or_restore(rig, number)
                    await self._round(rig, number)
                    outcome.done = number
                    if number % self._every == 0 or number == outcome.rounds:
                        await self._check(rig, number, last=number == outcome.rounds)
                outcome.ok = True
            except (RigError, OSError) as error:
                outcome.reason = str(error)
            outcome.starts = {"hub": rig.hub.starts, **{name: row.program.starts for name, row in rig.senders.items()}}
        outcome.seconds = round(time.monotonic() - began_s, 1)
        outcome.seconds_per_round = round(outcome.seconds / max(1, outcome.done), 2)
        return outcome

    async def _back_up_or_restore(self, rig: Rig, number: int) -> None:
        """Take a backup of the hub half way between two restorations; every other one is used twice."""
        backup = rig.folder / "backup"
        restore = number % self._restore_every == 0
        if not restore and backup.exists() and number // self._restore_every % 2:
            return
        await asyncio.to_thread(rig.hub.end, signal.SIGKILL if restore else signal.SIGTERM)
        if restore and backup.exists():
            rig.put_hub_data_back(backup)
        else:
            rig.copy_hub_data(backup)
        rig.hub.start()
        name = "hub.restore" if restore else "hub.backup"
        self._outcome.history.append({"round": number, "target": "hub", "fault": name})
        _count(self._outcome.faults, name)

    async def _round(self, rig: Rig, number: int) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(ROUND_S))
            for action in round_actions(self._outcome.seed, number, list(rig.senders)):
                self._outcome.history.append({"round": number, **action.row()})
                _count(self._outcome.faults, f"{action.target}.{action.fault}")
                group.create_task(self._do(rig, action))
        for sender in rig.senders.values():
            if not sender.program.alive:  # it died where it was told to
                await asyncio.to_thread(sender.program.end)
                sender.start()

    async def _do(self, rig: Rig, action: Action) -> None:
        await asyncio.sleep(action.at_s)
        if action.target == "edge":
            await self._edge(rig.senders[action.name], action)
        elif action.target == "link":
            await _link(rig.senders[action.name].link, action)
        elif action.target == "hub_link":
            await _link(rig.hub_link, action)
        elif action.target == "hub":
            await self._hub(rig, action)
        elif action.target == "broker":
            await self._broker(rig, action)
        else:
            rig.set_clock(action.name, action.detail or 0.0)

    async def _edge(self, sender: Sender, action: Action) -> None:
        program = sender.program
        if action.fault in ("kill", "doom"):
            await asyncio.to_thread(program.end)
            await asyncio.sleep(action.lasts_s / 2)
            sender.start(*(("--die", action.detail[0], "--die-after", str(action.detail[1])) if action.detail else ()))
        elif program.alive and action.fault == "freeze":
            program.pause()
            await asyncio.sleep(action.lasts_s)
            program.wake()
        elif program.alive:
            word = f"burst {action.detail}" if action.fault == "burst" else f"event soak-{sender.edge}-{time.monotonic_ns()}"
            _say(sender, word)

    async def _hub(self, rig: Rig, action: Action) -> None:
        if action.fault == "freeze":
            rig.hub.pause()
            await asyncio.sleep(action.lasts_s)
            rig.hub.wake()
            return
        await asyncio.to_thread(rig.hub.end, signal.SIGTERM if action.fault == "terminate" else signal.SIGKILL)
        rig.hub.start()

    async def _broker(self, rig: Rig, action: Action) -> None:
        process = rig.broker.process
        if action.fault == "freeze" and process is not None:
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(action.lasts_s)
            process.send_signal(signal.SIGCONT)
        else:
            rig.broker.kill()
            await asyncio.sleep(action.lasts_s / 2)
            await asyncio.to_thread(rig.broker.start)

    async def _check(self, rig: Rig, number: int, *, last: bool) -> None:
        """The faults stop: everybody recovers by himself, and then both sides are equal."""
        outcome, began_s = self._outcome, time.monotonic()
        await rig.ready(RECOVERY_S)
        for sender in rig.senders.values():
            _say(sender, "pause")
        for sender in rig.senders.values():
            await rig.until(f"{sender.edge} to drain", lambda s=sender: _settled(s), RECOVERY_S)  # type: ignore[misc]  # a lambda with a default
        recovery_s = round(time.monotonic() - began_s, 2)
        outcome.longest_recovery_s = max(outcome.longest_recovery_s, recovery_s)
        await self._count_verdicts(rig)
        found = await rig.compare()
        outcome.checks.append({"round": number, "recovery_s": recovery_s, **asdict(found)})
        word = "equal" if found.equal else "DIFFERENT"
        self._tell(f"round {number}/{outcome.rounds}: {found.stored} rows {word}, recovered in {recovery_s} s")
        if not found.equal:
            raise RigError(f"round {number}: {found}")
        await self._compare_events(rig)
        if not last:
            for sender in rig.senders.values():
                _say(sender, "go")

    async def _compare_events(self, rig: Rig) -> None:
        told = {event for sender in rig.senders.values() for event in sender.journal.events}
        rows = await rig.ask("/v1/events?from=2000-01-01T00:00:00Z&to=2199-01-01T00:00:00Z&limit=10000")
        kept = Counter(row["event_id"] for row in rows if row["event_id"].startswith("soak-"))
        if lost := told - set(kept):
            raise RigError(f"events the outbox took are not at the hub: {sorted(lost)[:5]} of {len(told)}")
        if twice := [event for event, count in kept.items() if count > 1]:
            raise RigError(f"events stored twice: {twice[:5]}")

    async def _count_verdicts(self, rig: Rig) -> None:
        """The hub counts from its start; what a killed one had counted is not known."""
        if rig.hub.starts != self._counted_start:
            self._counted, self._counted_start = {}, rig.hub.starts
        for verdict in _VERDICTS:
            seen = int(await rig.metric("frames_total", verdict=verdict))
            _count(self._outcome.verdicts, verdict, seen - self._counted.get(verdict, 0))
            self._counted[verdict] = seen


def _count(table: dict[str, int], name: str, by: int = 1) -> None:
    table[name] = table.get(name, 0) + by


def _say(sender: Sender, word: str) -> None:
    try:
        sender.say(word)
    except BrokenPipeError:
        return  # it died where it was told to


async def _settled(sender: Sender) -> bool:
    """Whether all of a sender is at the hub; one that died where it was told to begins its next life."""
    if not sender.program.alive:
        await asyncio.to_thread(sender.program.end)
        sender.start("--idle")
    return sender.settled()


async def _link(link: Proxy, action: Action) -> None:
    if action.fault == "flap":
        await link.flap()
        return
    if action.fault == "cut":
        await link.cut()
    else:
        await link.set(*_BAD[action.fault])
    await asyncio.sleep(action.lasts_s)
    await link.heal()
