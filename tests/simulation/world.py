"""One seed from its first second to its verdict."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import inspect
import random
import shutil
import sys
import tempfile
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from unittest.mock import patch

from tests.simulation import field_driver
from tests.simulation.disk import Disk
from tests.simulation.fence import fenced
from tests.simulation.field import Field, Unit
from tests.simulation.happenings import Happenings
from tests.simulation.hub import SimHub
from tests.simulation.oracle import Oracle, Violation
from tests.simulation.scenario import Scenario
from tests.simulation.timeline import KilledError, StuckError, Timeline, VirtualLoop
from tieline_core.errors import TielineError
from tieline_core.quantities import Reading
from tieline_core.signing import Signer
from tieline_core.timegrid import to_us
from tieline_edge.agent import Agent
from tieline_edge.drivers.spec import spec_of
from tieline_edge.outbox import recorded
from tieline_edge.outbox.store import Outbox
from tieline_edge.settings import EdgeSettings

#: The first second of every simulation.
START: Final = datetime(2016, 12, 14, 6, 0, tzinfo=UTC)
#: Time without faults at the end, in which everything has to come right by itself.
SETTLE_S: Final = 300.0
LAST_CALL_S: Final = 60.0
_LOOKED_THROUGH_S: Final = 60.0
_KEPT: Final = 40_000
#: Files are written to memory where there is some.
_SHM: Final = Path("/dev/shm")  # noqa: S108 (a private folder is made in it)


class SimClock:
    """The edge's clock: the world's, and what is wrong with it."""

    def __init__(self, timeline: Timeline) -> None:
        self.wrong_by_s = 0.0
        self.booted_s = -100.0
        self._line = timeline

    def now(self) -> datetime:
        """The present instant as the edge believes it."""
        return START + timedelta(seconds=self._line.now_s + self.wrong_by_s)

    def speed(self) -> float:
        """As in production."""
        return 1.0

    def elapsed_s(self) -> float:
        """What no step of the clock changes; it starts anew with the machine."""
        return self._line.now_s - self.booted_s

    async def sleep(self, seconds: float, at_least_wall_s: float = 0.0) -> None:
        """As in production: a step of the clock wakes nobody."""
        await asyncio.sleep(max(0.0, seconds, at_least_wall_s))


@dataclass(slots=True)
class Log:
    """Everything that happened, as a hash and as the last lines of it."""

    timeline: Timeline
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT))
    counts: Counter[str] = field(default_factory=Counter)
    _hash: hashlib._Hash = field(default_factory=hashlib.sha256)

    def __call__(self, kind: str, detail: str = "") -> None:
        """Note something."""
        line = f"{self.timeline.now_s:11.4f} {kind} {detail}"
        self._hash.update(line.encode())
        self.lines.append(line)
        self.counts[kind] += 1

    @property
    def digest(self) -> str:
        """Hash of all lines."""
        return self._hash.hexdigest()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a seed."""

    seed: int
    hours: float
    violations: tuple[Violation, ...]
    digest: str
    happenings: Counter[str]
    lines: Sequence[str]
    cycles: int
    lived_h: float

    @property
    def ok(self) -> bool:
        """Nothing was wrong."""
        return not self.violations

    def command(self) -> str:
        """What replays it exactly."""
        return f"make simulate SEED={self.seed} SEEDS=1 HOURS={self.hours:g}"


class World:
    """A site with everything round it.

    Args:
        scenario: What happens.
        folder: Where the agent keeps its state.
        stop_at_first: End at the first violation.
    """

    def __init__(self, scenario: Scenario, folder: Path, *, stop_at_first: bool = True) -> None:
        seed = scenario.seed
        self.scenario = scenario
        self.timeline = Timeline()
        self.log = Log(self.timeline)
        self.clock = SimClock(self.timeline)
        self.disk = Disk(random.Random(f"disk {seed}"), operation=self._operation, log=self.log)
        key = random.Random(f"key {seed}").randbytes(32)
        self.settings: EdgeSettings = scenario.settings(folder, Signer(key).public.hex())
        self.hub = SimHub(
            self.timeline,
            self.settings.edge_id,
            random.Random(f"net {seed}"),
            lambda: START + timedelta(seconds=self.timeline.now_s),
            key,
            self.log,
        )
        self.oracle = Oracle(self)
        specs = {device.id: spec_of(device) for device in self.settings.devices}
        units = {str(device): Unit(spec) for device, spec in specs.items()}
        self.field = Field(self.timeline, units, self.settings.site.rated_va, random.Random(f"field {seed}"), self.oracle)
        self.field.operation = self._operation
        self.happenings = Happenings(self)
        self.agent: Agent | None = None
        #: Operations on disk and devices until the process is killed; None = it lives.
        self.kill_in: int | None = None
        self.kill_is_power_cut = False
        #: Readings by point and instant that the outbox has promised to keep, and those it was killed over.
        self.acknowledged: Counter[tuple[str, int]] = Counter()
        self.unanswered: Counter[tuple[str, int]] = Counter()
        self.promised: Counter[tuple[str, int]] = Counter()
        self._chance = random.Random(f"chance {seed}")
        self._loop_rng = random.Random(f"loop {seed}")
        self._stop_at_first = stop_at_first
        self.lives = 0

    @property
    def up(self) -> bool:
        """The agent's process is there."""
        return self.agent is not None

    @property
    def end_s(self) -> float:
        """When the faults stop."""
        return max(0.0, self.scenario.hours * 3600.0 - SETTLE_S)

    def run(self) -> Verdict:
        """Live through it."""
        with (
            field_driver.serving(self.field),
            fenced(self.timeline, self.disk, self._chance, self.hub.net.client, self.hub.pull),
            # A start looks through the last minute of frames, here too: with rare commits these are fewer.
            patch.object(recorded, "_FRAMES", int(_LOOKED_THROUGH_S / self.scenario.commit_s)),
            self._tapped(),
        ):
            self._plan()
            try:
                while self.timeline.now_s < self.scenario.hours * 3600.0:
                    self._live()
                    if self.oracle.violations and self._stop_at_first:
                        break
                if not self.oracle.violations:
                    self.oracle.final()
            except StuckError as error:
                self.oracle.violated("I10", None, str(error))
        digest = self.log.digest
        return Verdict(
            self.scenario.seed,
            self.scenario.hours,
            tuple(self.oracle.violations),
            digest,
            self.log.counts,
            tuple(self.log.lines),
            self.oracle.cycles,
            self.timeline.now_s / 3600.0,
        )

    def _plan(self) -> None:
        line = self.timeline
        self.happenings.begin()

        def tick() -> None:
            self.field.advance()
            self.oracle.cycle()
            if self.oracle.violations and self._stop_at_first:
                raise KilledError
            line.after(1.0, tick)

        line.after(1.0, tick)
        for at_s, kind in self.scenario.happenings:
            if at_s < self.end_s:
                line.at(at_s, lambda kind=kind: self.happenings.happen(kind))  # type: ignore[misc] # (lambda with a default)
        line.at(self.end_s, self.happenings.all_is_well)
        line.at(self.scenario.hours * 3600.0 - LAST_CALL_S, self._last_call)
        line.at(self.scenario.hours * 3600.0, self._farewell)

    def _last_call(self) -> None:
        """What is recorded later than this need not have arrived by the end."""
        self.promised = Counter(self.acknowledged)

    def _farewell(self) -> None:
        self.log("end")
        self.oracle.ending()
        if self.agent is not None:
            self.agent.stop()

    def _live(self) -> None:
        """One life of the process, from its start to its end, and the pause after it."""
        self.lives += 1
        self.log("start", str(self.lives))
        loop = VirtualLoop(self.timeline, self._loop_rng, shuffle=self.scenario.shuffle)
        self.hub.net.loop = loop
        self.disk.revive()
        self.kill_in = None
        self.agent = Agent(self.settings, self.clock)
        self.oracle.started()
        killed = False
        try:
            loop.run_until_complete(self.agent.run())
        except KilledError:
            killed = True
        except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 (an agent that falls over is what is looked for)
            self.oracle.violated("I10", None, f"the agent fell over: {_leaf(error)}")
        finally:
            self.agent = None
            self.hub.net.loop = None
            for text in loop.unhandled:
                self.oracle.violated("I9", None, f"nobody heard: {text}")
            self.hub.net.forget()
            self.disk.kill(power_cut=killed and self.kill_is_power_cut)
            loop.abandon()
            self.oracle.stopped()
        self.log("stop", "killed" if killed else "by itself")
        if self.oracle.violations and self._stop_at_first:
            return
        if killed:
            if self.kill_is_power_cut:
                self.clock.booted_s = self.timeline.now_s
            self.timeline.run_until(self.timeline.now_s + self._loop_rng.choice((2.0, 5.0, 20.0, 120.0)))

    def die(self, *, power_cut: bool) -> None:
        """Kill the process now."""
        if self.agent is not None:
            self.kill_is_power_cut = power_cut
            self.disk.dead = True
            raise KilledError

    def _operation(self, what: str) -> None:
        if self.kill_in is None or self.agent is None:
            return
        self.kill_in -= 1
        if self.kill_in <= 0:
            self.kill_in = None
            self.log("killed", f"at {what}")
            self.die(power_cut=False)

    @contextmanager
    def _tapped(self) -> Iterator[None]:
        """Notice what the outbox has promised."""
        record = Outbox.record

        async def tapped(outbox: Outbox, readings: Sequence[Reading]) -> None:
            keys = [(reading.point, to_us(reading.measured_at)) for reading in readings]
            self.unanswered.update(keys)
            try:
                await record(outbox, readings)
            except TielineError:
                self.unanswered.subtract(keys)
                raise
            self.unanswered.subtract(keys)
            self.acknowledged.update(keys)

        with patch.object(Outbox, "record", tapped):
            yield


@contextmanager
def _without_collector() -> Iterator[None]:
    """A collection in the middle of things costs time and, where it finalises something, determinism."""
    was_on, hook = gc.isenabled(), sys.unraisablehook

    def unraisable(complaint: sys.UnraisableHookArgs) -> None:
        # The coroutines of a killed process complain when they are thrown away; everybody else is heard.
        if not (inspect.iscoroutine(complaint.object) or inspect.isasyncgen(complaint.object)):
            hook(complaint)

    gc.disable()
    # What was there before need not be looked through at the end.
    gc.freeze()
    sys.unraisablehook = unraisable
    try:
        yield
    finally:
        gc.collect()
        gc.unfreeze()
        sys.unraisablehook = hook
        if was_on:
            gc.enable()


def _leaf(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return repr(error)


def live_through(seed: int, hours: float) -> Verdict:
    """Run one seed in a folder of its own.

    Args:
        seed: Which.
        hours: Simulated time.
    """
    folder = Path(tempfile.mkdtemp(prefix="tieline-sim-", dir=_SHM if _SHM.is_dir() else None))
    try:
        # The world is gone when the collector comes, so that a campaign of thousands needs no more memory than one of ten.
        with _without_collector():
            return World(Scenario.of(seed, hours), folder).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


__all__ = ["START", "TielineError", "Verdict", "World", "live_through"]
