"""An edge without a field: the product's real outbox and durable lane, fed with seeded readings, made to be killed.

Run as ``python -m tests.faults.sender``. Commands come on standard input, one a line: ``go``, ``pause``, ``burst N``,
``event NAME``. How it stands is in ``status.json``, replaced ten times a second. With ``--die`` it kills itself at a named
point of the work of the outbox or the lane, after ``--die-after`` passages.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

import numpy as np

from tests.faults.journal import Journal, JournalWriter, batch_columns, point_name
from tieline_core.clock import Clock, FollowedClock
from tieline_core.errors import BadInputError, TransientError
from tieline_core.frame import Frame
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Event, Held, Severity, Stream
from tieline_core.quantities import Quality, Reading
from tieline_core.timegrid import EPOCH, to_us
from tieline_edge.outbox.frame_table import NewFrame
from tieline_edge.outbox.store import Outbox
from tieline_edge.settings import MqttEndpoint, OutboxSettings
from tieline_edge.sync.durable import DurableLane
from tieline_edge.sync.transport import LinkTimes, MqttLink
from tieline_edge.sync.uplink import Uplink, UplinkSettings
from tieline_edge.sync.uplink_state import UplinkTimes

#: Where it can be told to die: a batch lies in the transaction that is not committed yet; it is committed and nothing is
#: sent; it is sent and its acknowledgement is not noted; a new epoch is granted and not noted.
DEATHS: Final = ("appended", "committed", "acknowledged", "relabelled")
_STATUS_S: Final = 0.1
#: The product's times, shortened: a campaign lives a day in minutes.
BRISK_UPLINK: Final = UplinkTimes(stall_s=0.4, rehello_s=1.0, hello_s=0.4, hello_cap_s=1.5, go_back_s=0.1)
BRISK_LINK: Final = LinkTimes(connect_s=1.5, answer_s=1.0, keepalive_s=1, backoff_s=0.05, backoff_cap_s=0.4)


class Doom:
    """Kills this process at a named point."""

    def __init__(self, point: str | None, after: int) -> None:
        self._point = point
        self._left = after

    def pass_by(self, point: str) -> None:
        """The work has come to a point."""
        if point == self._point:
            self._left -= 1
            if self._left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)


class MortalOutbox(Outbox):
    """The outbox of the product, with points at which its process can die."""

    doom = Doom(None, 0)

    async def next_frames(self, stream: Stream, after_seq: int, limit: int) -> list[Frame]:
        """Frames are about to be sent."""
        frames = await super().next_frames(stream, after_seq, limit)
        if frames and stream is Stream.MEASURE:
            self.doom.pass_by("committed")
        return frames

    async def mark_acknowledged(self, stream: Stream, seq: int) -> int:
        """The hub's word has come and is not noted yet."""
        self.doom.pass_by("acknowledged")
        return await super().mark_acknowledged(stream, seq)

    async def relabel(self, epoch: int, held: Held | None = None) -> None:
        """A new epoch has been granted and is not noted yet."""
        self.doom.pass_by("relabelled")
        await super().relabel(epoch, held)

    def die_before_commit(self) -> None:
        """Let a batch that lies in the open transaction be a point of death."""
        append = self._table.append

        async def fatal(frames: Sequence[NewFrame], now_us: int) -> None:
            await append(frames, now_us)
            self.doom.pass_by("appended")

        self._table.append = fatal  # type: ignore[method-assign]  # the one place between insert and commit


class Feeder:
    """Records batch after batch while it is told to."""

    def __init__(self, outbox: Outbox, clock: Clock, journal: JournalWriter, seed: int, first: int) -> None:
        self._outbox, self._clock, self._journal, self._seed = outbox, clock, journal, seed
        self._next = first
        self._points = [PointId(point_name(outbox.edge, number)) for number in range(64)]
        self.going = asyncio.Event()
        self.under_way = 0
        self.refused = 0

    def readings(self, number: int, base_us: int) -> list[Reading]:
        """The readings of a batch."""
        base = EPOCH + timedelta(microseconds=base_us)
        points, at_us, values = batch_columns(self._seed, self._outbox.edge, number, base_us)
        return [
            Reading(
                self._points[int(point)],
                None if np.isnan(value) else float(value),
                base + timedelta(microseconds=int(instant) - base_us),
                Quality.BAD if np.isnan(value) else Quality.GOOD,
            )
            for point, instant, value in zip(points, at_us, values, strict=True)
        ]

    async def one(self, base_us: int | None = None) -> None:
        """Record one batch and write the journal around it."""
        number, self._next = self._next, self._next + 1
        start_us = to_us(self._clock.now()) if base_us is None else base_us
        self.under_way += 1
        self._journal.attempt(number, start_us)
        try:
            await self._outbox.record(self.readings(number, start_us))
        except (TransientError, BadInputError):
            self.refused += 1
            self._journal.refused(number)
        else:
            self._journal.done(number)
        finally:
            self.under_way -= 1

    async def run(self, period_s: float) -> None:
        """Record while :attr:`going` is set, two sources at a time."""

        async def source() -> None:
            while True:
                await self.going.wait()
                await self.one()
                await asyncio.sleep(period_s)

        async with asyncio.TaskGroup() as group:
            group.create_task(source())
            group.create_task(source())

    async def burst(self, batches: int, hours: float) -> None:
        """Record many batches, spread over hours that lie in the past, many at a time."""
        now_us = to_us(self._clock.now())
        step_us = int(hours * 3_600_000_000 / max(1, batches))
        for start in range(0, batches, 100):
            async with asyncio.TaskGroup() as group:
                for number in range(start, min(start + 100, batches)):
                    group.create_task(self.one(now_us - (batches - number) * step_us))

    async def event(self, event_id: str) -> None:
        """Record an event in the alarm stream."""
        edge, now = self._outbox.edge, self._clock.now()
        await self._outbox.record_event(
            Event(event_id=event_id, edge_id=edge, severity=Severity.INFORMATION, code="test.event", text="a test", at=now)
        )
        self._journal.event(event_id)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.sender")
    parser.add_argument("--edge", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True, help="of the broker, or of the link to it")
    parser.add_argument("--clock", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--period", type=float, default=0.1, help="seconds between two batches of a source")
    parser.add_argument("--client-id", help="default: as the product names it")
    parser.add_argument("--stock", action="store_true", help="the product's own times instead of shortened ones")
    parser.add_argument("--keepalive", type=int, help="instead of the one of these times [s]")
    parser.add_argument("--idle", action="store_true", help="record nothing until told to")
    parser.add_argument("--die", choices=DEATHS)
    parser.add_argument("--die-after", type=int, default=1)
    return parser.parse_args(arguments)


async def _commands(act: dict[str, Callable[..., Awaitable[None]]], heard: list[str]) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        name, *words = line.decode().split()
        await act[name](*words)
        heard.append(name)


async def _status(path: Path, outbox: Outbox, uplink: Uplink, link: MqttLink, feeder: Feeder, heard: list[str]) -> None:
    while True:
        backlog = await outbox.backlog()
        row = {
            "pid": os.getpid(),
            "heard": len(heard),
            "quiet": not feeder.going.is_set() and feeder.under_way == 0,
            "waiting": sum(stream.frames for stream in backlog.values()) + await outbox.forgotten(),
            "epoch": uplink.state.epoch,
            "open": uplink.state.open,
            "connects": link.counters.connects,
            "losses": link.counters.losses,
            **{
                name: getattr(uplink.counters, name)
                for name in ("hellos", "frames_sent", "frames_acknowledged", "go_backs", "refused", "epochs")
            },
            "refused_records": feeder.refused,
            "lost_readings": outbox.counters.lost_readings,
        }
        path.with_suffix(".new").write_text(json.dumps(row), encoding="utf-8")
        path.with_suffix(".new").replace(path)
        await asyncio.sleep(_STATUS_S)


async def run(options: argparse.Namespace) -> None:
    """Serve until killed or until standard input ends."""
    edge, folder = EdgeId(options.edge), options.folder
    clock = FollowedClock.of_file(options.clock)
    rng = random.Random(f"{options.seed} {edge} {os.getpid()}")
    journal = Journal(folder / "journal", options.seed, edge)
    journal.read_on()
    times = LinkTimes() if options.stock else BRISK_LINK
    if options.keepalive:
        times = LinkTimes(times.connect_s, times.answer_s, options.keepalive, times.backoff_s, times.backoff_cap_s)
    settings = OutboxSettings(commit_interval_s=0.02, frame_readings=200)
    async with MortalOutbox.open(folder / "outbox.db", edge, settings, clock) as outbox:
        assert isinstance(outbox, MortalOutbox)
        outbox.doom = Doom(options.die, options.die_after)
        outbox.die_before_commit()
        lane_settings = UplinkSettings() if options.stock else UplinkSettings(times=BRISK_UPLINK, drain_frames_per_s=2000.0)
        uplink = Uplink(outbox, clock, "sender", f"{rng.getrandbits(64):016x}", lane_settings, rng)
        endpoint = MqttEndpoint(host="127.0.0.1", port=options.port, insecure=True)
        link = MqttLink(endpoint, options.client_id or f"{edge}-durable", times, rng=rng)
        feeder = Feeder(outbox, clock, JournalWriter(folder / "journal"), options.seed, journal.last + 1)
        if not options.idle:
            feeder.going.set()
        heard: list[str] = []

        async def go() -> None:
            feeder.going.set()

        async def pause() -> None:
            feeder.going.clear()

        async def burst(batches: str, hours: str = "1") -> None:
            await feeder.burst(int(batches), float(hours))

        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(DurableLane(link, [uplink]).run()),
                group.create_task(feeder.run(options.period)),
                group.create_task(_status(folder / "status.json", outbox, uplink, link, feeder, heard)),
            ]
            await _commands({"go": go, "pause": pause, "burst": burst, "event": feeder.event}, heard)
            for task in tasks:
                task.cancel()


if __name__ == "__main__":
    asyncio.run(run(parse(sys.argv[1:])))
