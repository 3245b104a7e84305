"""From decisions to devices: written on change or refresh, read back, and watched until the power has moved.

Every device has at most one write under way; a slow or dead one delays nobody else. A failed write is tried again with
back-off in later cycles, as long as the arbiter still wants it.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Final, Protocol, Self

from tieline_core.clock import Clock
from tieline_core.ids import DeviceId
from tieline_core.messages.command import CommandState
from tieline_edge.control.arbiter import Decision
from tieline_edge.control.claims import Band
from tieline_edge.control.effect import Written, effective, same
from tieline_edge.control.facts import DeviceFacts, SiteFacts
from tieline_edge.control.unheard import Unheard
from tieline_edge.drivers.capabilities import (
    Action,
    DeviceOfflineError,
    DevicePermanentError,
    DeviceSpec,
    DeviceTransientError,
    LimitGeneration,
    ReadBack,
    Release,
    Role,
    SwitchContact,
)
from tieline_edge.steady import SteadyTime

_LOG = logging.getLogger(__name__)
#: Longest back-off between tries [s]; what safety asked for is tried oftener.
MAX_BACKOFF_S: Final = 60.0
MAX_SAFETY_BACKOFF_S: Final = 5.0


class DeviceHandle(Protocol):
    """A device as the executor knows it; shares its connection with the poller."""

    @property
    def spec(self) -> DeviceSpec:
        """What the device is."""
        ...

    async def apply(self, action: Action) -> ReadBack:
        """Write and read back.

        Raises:
            tieline_edge.drivers.capabilities.DeviceTransientError: It may or may not have arrived.
            tieline_edge.drivers.capabilities.DevicePermanentError: Refused, nothing was written.
        """
        ...


@dataclass(frozen=True, slots=True)
class Timing:
    """Periods of the executor, in seconds of the clock.

    Attributes:
        refresh_s: After this long the same action is written again, so that device timers do not run out.
        effect_s: Within this time a write must show its effect.
        retry_s: First back-off after a failure; doubled each time.
        unread_s: Safety writes to a device that has not been heard since the start only after this long.
        wall_s: Wall time that polling and writing need at least; with a fast clock it outweighs the other two.
    """

    refresh_s: float
    effect_s: float = 10.0
    retry_s: float = 1.0
    wall_s: float = 2.0
    unread_s: float = 10.0

    def effect_at(self, speed: float, of_device_s: float | None = None) -> float:
        """Effect window of a device at a speed of the clock [s]."""
        return max(of_device_s or self.effect_s, self.wall_s * speed if speed > 1.0 else 0.0)

    def backoff_at(self, failures: int, cap_s: float, speed: float) -> float:
        """Back-off after this many failures in a row at a speed of the clock [s]."""
        return min(self.retry_s * 2.0 ** min(failures - 1, 10), cap_s) * max(1.0, speed / 4.0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Something that became of a write; only changes of state and writes are told.

    Attributes:
        device: Which.
        state: How far it has come.
        action: What was written or refused.
        source: Source of the winning claim; empty for a release at the end.
        text: Read-back or error, in words.
        at: When.
        refresh: It repeats an action that had been written before.
    """

    device: DeviceId
    state: CommandState
    action: Action
    source: str
    text: str
    at: datetime
    refresh: bool = False


#: Receives each outcome: trace, events and command reports hang here.
Listener = Callable[[Outcome], Awaitable[None]]


@dataclass(slots=True)
class _Line:
    """The executor's side of one device; touched by the loop only."""

    handle: DeviceHandle
    written: Written | None = None
    state: CommandState = CommandState.COMMANDED
    source: str = ""
    failures: int = 0
    not_before: datetime | None = None
    missed_at: datetime | None = None
    tried_at: datetime | None = None
    """When a write went out last that got no answer."""
    busy: bool = False
    refresh_within_s: float = math.inf
    """Shorter than the configured period where the device's own timer says so."""
    seen: bool = False


class Executor:
    """Writes decisions. Entering starts it; leaving waits for the writes under way.

    Args:
        handles: Devices that can be written to.
        clock: The clock of stamps and periods.
        timing: Its periods.
        listener: Told of every outcome.
    """

    def __init__(self, handles: Mapping[DeviceId, DeviceHandle], clock: Clock, timing: Timing, listener: Listener) -> None:
        self._lines = {device: _Line(handle) for device, handle in handles.items()}
        self._clock = clock
        # Back-offs, refreshes and windows count what elapses; only what is told carries the time of day.
        self._steady = SteadyTime(clock)
        self._began = self._steady.now()
        self._timing = timing
        self._listener = listener
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._tasks.__aexit__(kind, error, trace)

    @property
    def states(self) -> dict[DeviceId, CommandState]:
        """State of the last write of each device that was written to."""
        return {device: line.state for device, line in self._lines.items() if line.written is not None or line.failures}

    @property
    def busy(self) -> bool:
        """True while a write is under way."""
        return any(line.busy for line in self._lines.values())

    def unheard(self) -> dict[DeviceId, Unheard]:
        """Devices that do not do what was decided last: nothing has reached them since the start, or they did not hear it, or
        their own timer has ended it."""
        now, found = self._steady.now(), {}
        for device, line in self._lines.items():
            # What is being written at this moment may yet be heard.
            missed_at = None if line.busy else line.missed_at
            spec = line.handle.spec
            held = Unheard(line.written, spec.reverts, missed_at, spec.role is Role.PV, line.tried_at)
            switched = line.written is not None and isinstance(line.written.action, SwitchContact)
            # A plant that nobody limited is free, whatever the sun makes of it; a storage does what an earlier run told it.
            untouched = line.written is None and not line.busy and spec.role is Role.STORAGE
            waits = line.state is CommandState.UNCONFIRMED and line.not_before is not None and now < line.not_before
            if (
                untouched
                or waits
                or line.state is CommandState.FAILED
                or held.over(now)
                or (switched and missed_at is not None)
            ):
                found[device] = held
        return found

    def writing(self, device: DeviceId) -> bool:
        """True while a write to this device is under way."""
        line = self._lines.get(device)
        return line is not None and line.busy

    def take_handles(self, handles: Mapping[DeviceId, DeviceHandle]) -> None:
        """Work with another set of devices from now on; what was written to a device that stays is still known.

        A write under way to a device that is gone, or has got a new handle, ends on its old one.
        """
        kept = {device: line for device, line in self._lines.items() if handles.get(device) is line.handle}
        self._lines = {device: kept.get(device) or _Line(handle) for device, handle in handles.items()}

    async def carry_out(self, decisions: Mapping[DeviceId, Decision], facts: SiteFacts) -> frozenset[DeviceId]:
        """Start the writes that are due and judge the effect of earlier ones, without waiting for devices.

        Returns:
            The devices a write was begun to.
        """
        now = self._steady.now()
        begun: set[DeviceId] = set()
        for device, decision in decisions.items():
            line = self._lines.get(device)
            if line is None or line.busy:
                continue
            if decision.hands_off:
                # Others have their hands on it: what was written before says nothing of how it stands afterwards.
                line.written, line.failures, line.not_before, line.missed_at = None, 0, None, None
                continue
            await self._judge(device, line, facts, now)
            if decision.action is None or not self._read_first(line, decision, facts.of(device), now):
                continue
            await self._adopt(device, line, decision, facts.of(device), now)
            if not self._due(line, decision, now):
                continue
            line.busy = True
            begun.add(device)
            self._tasks.create_task(self._write(device, line, decision, facts.of(device).p_w), name=f"write-{device}")
        return frozenset(begun)

    async def release_all(self) -> None:
        """Hand storages and plants back to their own default; shed loads stay as they are."""
        await self.release(self._lines)

    async def release(self, devices: Iterable[DeviceId]) -> None:
        """Hand some of them back, before they are no longer ours."""
        async with asyncio.TaskGroup() as tasks:
            for device in devices:
                if (line := self._lines.get(device)) is not None:
                    tasks.create_task(self._release(device, line), name=f"release-{device}")

    def _read_first(self, line: _Line, decision: Decision, known: DeviceFacts, now: datetime) -> bool:
        """Whether the device has been heard since the start: what an earlier run ordered may have been carried out or not.

        A device that measures nothing, or is silent, is written to unread only by safety, and after a while.
        """
        if line.written is not None or line.seen:
            return True
        line.seen = any(now - timedelta(seconds=age_s) >= self._began for age_s in known.ages_s.values())
        if line.seen:
            return True
        waited_s = (now - self._began).total_seconds()
        return _urgent(decision) and waited_s >= self._timing.unread_s

    async def _adopt(self, device: DeviceId, line: _Line, decision: Decision, known: DeviceFacts, now: datetime) -> None:
        """Take a contactor that already stands where it should for written: nothing is repeated blindly.

        A device timer that runs is the exception, nobody knows how much is left of it.
        """
        action = decision.action
        if (
            line.written is not None
            or line.failures
            or not isinstance(action, SwitchContact)
            or known.closed is not action.closed
        ):
            return
        if not action.closed and action.off_timer_s > 0:
            return
        line.written, line.state, line.source = Written(action, now, None), CommandState.EFFECTIVE, _source(decision)
        text = "found in place: read, not written"
        await self._listener(Outcome(device, line.state, action, line.source, text, self._clock.now()))

    def _due(self, line: _Line, decision: Decision, now: datetime) -> bool:
        action = decision.action
        free = isinstance(action, Release) or (isinstance(action, LimitGeneration) and action.min_power_w is None)
        if action is None or (line.written is None and free and line.handle.spec.reverts):
            # Nobody has written to it in this run, and what an earlier run wrote has its timer. A device without one may still
            # hold the order of a run that was killed: it is let go once.
            return False
        held = line.written
        changed = held is None or not same(line.handle.spec, held.action, action)
        if line.not_before is not None and now < line.not_before:
            # A new wish of safety does not wait for the back-off of an older one.
            return changed and _urgent(decision) and line.source != _source(decision)
        if changed or line.state in (CommandState.FAILED, CommandState.UNCONFIRMED):
            return True
        timed = isinstance(action, SwitchContact) and action.off_timer_s > 0
        needs_refresh = timed or (line.handle.spec.reverts and not free)
        refresh_s = min(self._timing.refresh_s, line.refresh_within_s)
        return held is not None and needs_refresh and (now - held.at).total_seconds() >= refresh_s

    async def _write(self, device: DeviceId, line: _Line, decision: Decision, power_w: float | None) -> None:
        action, source = decision.action, _source(decision)
        if action is None:
            line.busy = False
            return
        repeated = line.written is not None and same(line.handle.spec, line.written.action, action)
        line.source = source
        try:
            read_back = await line.handle.apply(action)
        except DevicePermanentError as error:
            await self._failed(device, line, decision, CommandState.FAILED, f"refused: {error}")
        except DeviceTransientError as error:
            if not isinstance(error, DeviceOfflineError):
                line.tried_at = self._steady.now()
            await self._failed(device, line, decision, CommandState.FAILED, f"no answer: {error}")
        except Exception as error:  # noqa: BLE001 - a driver's defect must not stop the shedding of other loads
            _LOG.exception("driver of %s failed in an unforeseen way", device)
            await self._failed(device, line, decision, CommandState.FAILED, f"driver defect: {error!r}")
        else:
            now = self._steady.now()
            baseline = line.written.baseline_w if repeated and line.written is not None else power_w
            line.written, line.refresh_within_s = Written(action, now, baseline), read_back.refresh_within_s
            if not read_back.confirmed:
                await self._failed(device, line, decision, CommandState.UNCONFIRMED, f"read back {read_back.text}")
                return
            line.missed_at = None
            line.failures, line.not_before = (line.failures if repeated else 0), None
            known_good = repeated and line.state is CommandState.EFFECTIVE
            line.state = CommandState.EFFECTIVE if known_good else CommandState.CONFIRMED
            await self._listener(Outcome(device, line.state, action, source, read_back.text, self._clock.now(), repeated))
        finally:
            line.busy = False

    async def _failed(self, device: DeviceId, line: _Line, decision: Decision, state: CommandState, text: str) -> None:
        line.failures += 1
        # What reads back otherwise may still be on its way; that it had no effect shows later.
        line.missed_at = self._steady.now() if state is CommandState.FAILED else None
        cap_s = MAX_SAFETY_BACKOFF_S if _urgent(decision) else MAX_BACKOFF_S
        line.not_before = self._steady.now() + timedelta(
            seconds=self._timing.backoff_at(line.failures, cap_s, self._clock.speed())
        )
        first = line.state is not state or line.failures == 1
        line.state = state
        if first and decision.action is not None:
            # Told on the edge of change: a device that stays dead does not fill the trace.
            await self._listener(Outcome(device, state, decision.action, line.source, text, self._clock.now()))

    async def _judge(self, device: DeviceId, line: _Line, facts: SiteFacts, now: datetime) -> None:
        written = line.written
        if written is None or line.state not in (CommandState.CONFIRMED, CommandState.EFFECTIVE):
            return
        seen = effective(line.handle.spec, written, facts.of(device), now)
        if line.state is CommandState.CONFIRMED and seen:
            line.state, line.failures = CommandState.EFFECTIVE, 0
            text = "the field shows it"
            await self._listener(Outcome(device, line.state, written.action, line.source, text, self._clock.now()))
        window_s = self._timing.effect_at(self._clock.speed(), line.handle.spec.effect_s)
        late = (now - written.at).total_seconds() > window_s
        lost = line.state is CommandState.EFFECTIVE and isinstance(written.action, SwitchContact) and seen is False
        if late and (lost or (line.state is CommandState.CONFIRMED and not seen)):
            line.state, line.missed_at = CommandState.UNCONFIRMED, now
            line.failures += 1
            wait_s = self._timing.backoff_at(line.failures, MAX_BACKOFF_S, self._clock.speed())
            line.not_before = now + timedelta(seconds=wait_s)
            shown = facts.of(device)
            text = f"no effect within {window_s:g} s: p_w {shown.p_w}, closed {shown.closed}"
            await self._listener(Outcome(device, line.state, written.action, line.source, text, self._clock.now()))

    async def _release(self, device: DeviceId, line: _Line) -> None:
        if line.written is None or isinstance(line.written.action, Release | SwitchContact):
            return
        try:
            read_back = await line.handle.apply(Release())
        except (DevicePermanentError, DeviceTransientError) as error:
            _LOG.warning("%s could not be released, its own timer will do it: %s", device, error)
            return
        await self._listener(Outcome(device, CommandState.CONFIRMED, Release(), "", read_back.text, self._clock.now()))


def _urgent(decision: Decision) -> bool:
    return decision.band is not None and decision.band <= Band.SAFETY


def _source(decision: Decision) -> str:
    return "" if decision.winner is None else decision.winner.source
