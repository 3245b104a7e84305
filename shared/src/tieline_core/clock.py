"""The one place where time comes from.

Decisions, stamps and periods take the injected :class:`Clock`; protocol time-outs, keepalives and certificates stay on
``time.monotonic`` and never see it. In production the clock is the system's. In a simulation it follows a published
schedule of (wall instant, simulated instant, speed), so that simulator, edges and hub change speed at the same moment.
"""

from __future__ import annotations

import asyncio
import json
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from tieline_core.errors import BadInputError
from tieline_core.timegrid import EPOCH

#: Longest wait in one piece: a change of speed is noticed within it.
_NAP_S: Final = 0.2
_REREAD_S: Final = 0.1
#: A published clock that is further off than this from its own speed was set [s].
_STEP_S: Final = 0.5


class Clock(Protocol):
    """Time as the system under control sees it."""

    def now(self) -> datetime:
        """The present instant, aware, UTC."""
        ...

    def speed(self) -> float:
        """Seconds of this clock a second of wall time; 1 in production."""
        ...

    def elapsed_s(self) -> float:
        """Seconds of this clock since some instant of this process; never steps, whoever sets the time of day."""
        ...

    async def sleep(self, seconds: float, at_least_wall_s: float = 0.0) -> None:
        """Wait until the clock has advanced by this many of its own seconds, and so many wall seconds have passed.

        The floor keeps periods bearable on a fast simulated clock, and lets go at once when the clock slows down.
        """
        ...


class SystemClock:
    """The computer's clock, in UTC."""

    def now(self) -> datetime:
        """The present instant, aware, UTC."""
        return datetime.now(UTC)

    def speed(self) -> float:
        """Always 1."""
        return 1.0

    def elapsed_s(self) -> float:
        """The monotonic clock."""
        return time.monotonic()

    async def sleep(self, seconds: float, at_least_wall_s: float = 0.0) -> None:
        """Plain sleep."""
        await asyncio.sleep(max(0.0, seconds, at_least_wall_s))


@dataclass(frozen=True, slots=True)
class ClockSegment:
    """From ``wall_unix_s`` on, simulated time is ``sim_unix_s + (wall - wall_unix_s) * speed``."""

    wall_unix_s: float
    sim_unix_s: float
    speed: float


def parse_segments(text: str, source: str) -> tuple[ClockSegment, ...]:
    """Read a published clock: ``{"version": 1, "segments": [{wall_unix_s, sim_unix_s, speed}, ...]}``, ascending.

    Raises:
        BadInputError: When it is not of that form.
    """
    try:
        segments = tuple(
            ClockSegment(float(row["wall_unix_s"]), float(row["sim_unix_s"]), float(row["speed"]))
            for row in json.loads(text)["segments"]
        )
    except (ValueError, KeyError, TypeError) as error:
        raise BadInputError(source, "segments", text, f"not a published clock: {error!r}") from error
    starts = [segment.wall_unix_s for segment in segments]
    if not segments or starts != sorted(starts) or any(segment.speed <= 0 for segment in segments):
        raise BadInputError(source, "segments", text, "segments must ascend in wall time and run at a speed above 0")
    return segments


class _Progress:
    """Adds up how far a published clock has run, leaving out the steps it was made to take."""

    def __init__(self, now_s: float, monotonic_s: float, speed: float) -> None:
        self._last = (now_s, monotonic_s, speed)
        self._sum_s = 0.0

    def elapsed_s(self, now_s: float, monotonic_s: float, speed: float) -> float:
        """The sum up to a look at clock, monotonic time and speed."""
        then_s, since_s, before = self._last
        self._last = (now_s, monotonic_s, speed)
        ran_s, wall_s = now_s - then_s, monotonic_s - since_s
        slow, fast = sorted((before, speed))
        if not wall_s * slow - _STEP_S <= ran_s <= wall_s * fast + _STEP_S:
            # Somebody has set it: what has really passed is known by the other clock only.
            ran_s = wall_s * speed
        self._sum_s += max(0.0, ran_s)
        return self._sum_s


class FollowedClock:
    """Follows a published clock; keeps running on the last schedule while the publisher is away.

    Args:
        read: Gives the published text, or None while there is none (yet).
        source: Name of the publication, for error messages.
        wall: Wall time in seconds since 1970.
        monotonic: Monotonic seconds, for how often to look again.
    """

    def __init__(
        self,
        read: Callable[[], str | None],
        source: str,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._source = source
        self._wall = wall
        self._monotonic = monotonic
        self._segments: tuple[ClockSegment, ...] = ()
        self._text: str | None = None
        self._next_look_s = float("-inf")
        self._progress: _Progress | None = None
        self._look()
        if not self._segments:
            raise BadInputError(source, "", None, "no clock is published there")

    @classmethod
    def of_file(cls, path: Path) -> FollowedClock:
        """Follow a clock published as a file that is replaced atomically.

        Raises:
            BadInputError: When the file is missing or malformed at the start.
        """

        def read() -> str | None:
            try:
                return path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                return None

        return cls(read, str(path))

    def _look(self) -> None:
        moment = self._monotonic()
        if moment < self._next_look_s:
            return
        self._next_look_s = moment + _REREAD_S
        text = self._read()
        if text is None or text == self._text:
            return
        self._text = text
        try:
            self._segments = parse_segments(text, self._source)
        except BadInputError:
            if not self._segments:
                raise
            # A torn publication is not the end of time: the last schedule runs on until a whole one is there.

    def _segment(self) -> tuple[ClockSegment, float]:
        self._look()
        wall = self._wall()
        starts: Sequence[float] = [segment.wall_unix_s for segment in self._segments]
        return self._segments[max(0, bisect_right(starts, wall) - 1)], wall

    def now(self) -> datetime:
        """The present simulated instant."""
        segment, wall = self._segment()
        return EPOCH + timedelta(seconds=segment.sim_unix_s + (wall - segment.wall_unix_s) * segment.speed)

    def speed(self) -> float:
        """Simulated seconds a wall second at present."""
        return self._segment()[0].speed

    def elapsed_s(self) -> float:
        """Simulated seconds since the first question, without the steps the publisher has made."""
        now_s, monotonic_s, speed = (self.now() - EPOCH).total_seconds(), self._monotonic(), self.speed()
        if self._progress is None:
            self._progress = _Progress(now_s, monotonic_s, speed)
        return self._progress.elapsed_s(now_s, monotonic_s, speed)

    async def sleep(self, seconds: float, at_least_wall_s: float = 0.0) -> None:
        """Wait in short naps, so that a change of speed is followed."""
        until, floor = self.now() + timedelta(seconds=seconds), self._monotonic() + at_least_wall_s
        while True:
            left = max((until - self.now()).total_seconds() / self.speed(), floor - self._monotonic())
            if left <= 0:
                return
            await asyncio.sleep(min(_NAP_S, left))


class ManualClock:
    """A clock that stands still until it is moved: for tests and replays."""

    def __init__(self, start: datetime, speed: float = 1.0) -> None:
        self._start = start
        # Time that has really passed; setting the time of day moves only what is added to it.
        self._line = start
        self._set_by = timedelta()
        self._speed = speed
        self._sleepers: list[tuple[datetime, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        """The instant it was moved to."""
        return self._line + self._set_by

    def speed(self) -> float:
        """The speed it was made with; 1 unless a test is about a fast clock."""
        return self._speed

    def elapsed_s(self) -> float:
        """Seconds it was advanced by."""
        return (self._line - self._start).total_seconds()

    def step(self, seconds: float) -> None:
        """Set the time of day forward or back; nothing has elapsed by it, and no sleeper wakes."""
        self._set_by += timedelta(seconds=seconds)

    async def sleep(self, seconds: float, at_least_wall_s: float = 0.0) -> None:
        """Wait until :meth:`advance` has passed the instant; a wall second is ``speed`` of its own."""
        seconds = max(seconds, at_least_wall_s * self._speed)
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._line + timedelta(seconds=seconds), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Move on, waking sleepers in the order of their instants and letting each run before time goes on."""
        end = self._line + timedelta(seconds=seconds)
        while due := sorted((row for row in self._sleepers if row[0] <= end), key=lambda row: row[0])[:1]:
            self._sleepers.remove(due[0])
            self._line = max(self._line, due[0][0])
            if not due[0][1].done():
                due[0][1].set_result(None)
            await self.settle()
        self._line = end
        await self.settle()

    @staticmethod
    async def settle(turns: int = 20) -> None:
        """Let every ready task run."""
        for _ in range(turns):
            await asyncio.sleep(0)
