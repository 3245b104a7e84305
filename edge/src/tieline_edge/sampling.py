"""One poller a device: readings to the process image and to the outbox, offline once, back by itself.

A dead device costs one time-out a back-off period. Going offline marks its points stale, records one bad reading for each
(the gap's flag) and one event; coming back records another event.
"""

from __future__ import annotations

import logging
import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final

from tieline_core.clock import Clock
from tieline_core.errors import BadInputError, TransientError
from tieline_core.ids import DeviceId, PointId
from tieline_core.messages.telemetry import Event, Severity
from tieline_core.quantities import Quality, Reading
from tieline_edge.drivers.capabilities import (
    Action,
    DeviceOfflineError,
    DevicePermanentError,
    DeviceSpec,
    DeviceTransientError,
    Driver,
    ReadBack,
)
from tieline_edge.drivers.catalog.load import entry as catalog_entry
from tieline_edge.drivers.context import DriverContext
from tieline_edge.drivers.finish import finish
from tieline_edge.drivers.points import PointTable
from tieline_edge.drivers.registry import open_driver
from tieline_edge.outbox.ports import Recorder
from tieline_edge.settings import CycleSettings, DeviceSettings, EdgeSettings
from tieline_edge.snapshot import ProcessImage

_LOG = logging.getLogger(__name__)
#: The first polls of all devices are spread over this share of a second.
_FIRST_SHARE: Final = 0.3


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses between attempts at a dead device [wall seconds]: doubling, capped, jittered."""

    first_s: float = 0.5
    most_s: float = 10.0

    def pause_s(self, attempt: int, rng: random.Random) -> float:
        """Pause after the given failed attempt (0 = the first)."""
        return min(self.most_s, self.first_s * 2.0 ** min(attempt, 16)) * rng.uniform(0.75, 1.25)


@dataclass(slots=True)
class PollCounters:
    """What a poller has done, for metrics and status."""

    polls: int = 0
    failures: int = 0
    late: int = 0
    unrecorded: int = 0
    """Readings given up because the disk refused for so long that :data:`DeviceHandle.MAX_PENDING` was reached."""


class DeviceHandle:
    """A device as the rest of the agent knows it: what it is, whether it is there, and how to ask it for something.

    Args:
        settings: Its part of the configuration.
        driver: Its driver.
        points: Ids of its points.
        period_s: Poll period [clock seconds].
        barred: Says why nothing may be written to it now; None when it may.
    """

    MAX_PENDING: Final = 20_000

    def __init__(
        self,
        settings: DeviceSettings,
        driver: Driver,
        points: Sequence[PointId],
        period_s: float,
        barred: Callable[[DeviceId], str | None] = lambda _device: None,
    ) -> None:
        self.settings, self.points, self.period_s = settings, tuple(points), period_s
        self._driver = driver
        self._barred = barred
        self.online = False
        self.last_error: str | None = None
        self.counters = PollCounters()

    @property
    def id(self) -> DeviceId:
        """Id within the edge."""
        return self.settings.id

    @property
    def spec(self) -> DeviceSpec:
        """What the device is."""
        return self._driver.spec

    @property
    def driver(self) -> Driver:
        """Its driver; entered and read by its poller only."""
        return self._driver

    @property
    def fresh_s(self) -> float:
        """Its values come at least so often [clock seconds]: of a device that reports by itself, not each poll brings one."""
        reports, place = catalog_entry(self.settings.catalog).reports, self.settings.mqtt
        return max(self.period_s, (place.report_s if place else None) or reports.report_s) if reports else self.period_s

    async def apply(self, action: Action) -> ReadBack:
        """Write and read back over the poller's own connection.

        Raises:
            DeviceOfflineError: At once when the device is offline: nothing waits behind its retries.
            DeviceTransientError: It may or may not have arrived.
            DevicePermanentError: Refused, nothing was written.
        """
        # The last door before the wire: whatever went wrong above, a tag and a dry run hold here.
        if (barred := self._barred(self.id)) is not None:
            raise DevicePermanentError(f"{self.id}: {barred}; nothing was written")
        if not self.online:
            raise DeviceOfflineError(f"{self.id} is offline: {self.last_error or 'not reached yet'}; nothing was written")
        return await self._driver.apply(action)


def open_devices(
    settings: EdgeSettings, context: DriverContext, devices: Sequence[DeviceSettings] | None = None
) -> dict[DeviceId, DeviceHandle]:
    """A handle for each configured device, or for some of them; nothing is connected yet.

    Raises:
        BadInputError: When a catalogue entry does not exist.
        DevicePermanentError: When an endpoint does not fit its entry.
    """
    handles = {}
    for device in settings.devices if devices is None else devices:
        entry = catalog_entry(device.catalog)
        period_s = max(device.poll_s, entry.message.report_s if entry.message else 0.0)
        points = PointTable(settings.edge_id, device, entry).ids()
        driver = open_driver(device, settings.edge_id, context)
        handles[device.id] = DeviceHandle(device, driver, points, period_s, context.barred)
    return handles


class Poller:
    """Polls one device until cancelled.

    Args:
        handle: The device.
        context: Clock, recorder and image.
        cycle: The wall-time floor of its period.
        rng: Jitter.
        backoff: Pauses between attempts while it is dead.
        recorded_at: Newest instant of each point that the outbox holds already.
    """

    def __init__(
        self,
        handle: DeviceHandle,
        context: DriverContext,
        cycle: CycleSettings,
        rng: random.Random,
        backoff: Backoff = Backoff(),
        recorded_at: Mapping[PointId, datetime] = MappingProxyType({}),
    ) -> None:
        self._handle, self._context, self._floor_s = handle, context, cycle.floor_wall_s
        self._rng, self._backoff = rng, backoff
        self._clock: Clock = context.clock
        self._recorder: Recorder = context.recorder
        self._image: ProcessImage = context.image
        self._bad: set[PointId] = set()
        self._recorded_at = dict(recorded_at)
        self._pending: list[Reading] = []
        self._told_offline = False
        #: The next place on the grid of this device.
        self._due_s = context.clock.elapsed_s()

    async def run(self, offset: float) -> None:
        """Poll for ever on a grid; ``offset`` (0..1) is this device's place in it, so that devices take turns.

        The first poll comes earlier, so that control soon knows the whole field.
        """
        self._due_s = self._clock.elapsed_s() + offset * self._handle.period_s
        soon = offset * _FIRST_SHARE
        await self._clock.sleep(soon * min(self._handle.period_s, 1.0), at_least_wall_s=soon * self._floor_s)
        attempt = 0
        while True:
            polls = self._handle.counters.polls
            try:
                async with self._handle.driver as driver:
                    await self._poll(driver)
            except (DeviceTransientError, DevicePermanentError) as error:
                await self._offline(error)
            except Exception as error:  # noqa: BLE001 - a library's surprise at one device must not take the others along
                _LOG.exception("%s: unexpected error in its driver", self._handle.id)
                await self._offline(DeviceTransientError(f"unexpected {type(error).__name__}: {error}"))
            finally:
                self._handle.online = False
            attempt = 0 if self._handle.counters.polls > polls else attempt + 1
            await self._clock.sleep(0.0, at_least_wall_s=self._backoff.pause_s(attempt, self._rng))

    async def _poll(self, driver: Driver) -> None:
        while True:
            await finish(self._step(driver))
            await self._clock.sleep(self._ahead_s(), at_least_wall_s=self._floor_s)

    def _ahead_s(self) -> float:
        """Time until the next place on the grid; places that were run over are left out, the device keeps its turn."""
        now_s, period_s = self._clock.elapsed_s(), self._handle.period_s
        if now_s >= self._due_s:
            missed = int((now_s - self._due_s) // period_s)
            self._handle.counters.late += missed > 0
            self._due_s += (missed + 1) * period_s
        return self._due_s - now_s

    async def _step(self, driver: Driver) -> None:
        readings = await driver.read()
        self._handle.counters.polls += 1
        self._image.put(readings)
        if not self._handle.online:
            await self._online()
        await self._record(self._fresh(readings))

    def _fresh(self, readings: Sequence[Reading]) -> list[Reading]:
        """What is new: a gap is flagged once, and a source that still shows the same instant has measured nothing new."""
        kept = []
        for reading in readings:
            bad = reading.quality is Quality.BAD
            if (bad and reading.point in self._bad) or self._recorded_at.get(reading.point) == reading.measured_at:
                continue
            kept.append(reading)
            self._recorded_at[reading.point] = reading.measured_at
            (self._bad.add if bad else self._bad.discard)(reading.point)
        return kept

    async def _record(self, readings: Sequence[Reading]) -> None:
        self._pending.extend(readings)
        if not self._pending:
            return
        try:
            await self._recorder.record(self._pending)
        except TransientError:
            # Control goes on with the image; what is not kept yet waits here, bounded, and what is given up is counted.
            surplus = len(self._pending) - DeviceHandle.MAX_PENDING
            if surplus > 0:
                del self._pending[:surplus]
                self._handle.counters.unrecorded += surplus
            return
        except BadInputError as error:
            # Nothing a device says may end its poller: what the outbox cannot hold is counted and given up.
            self._handle.counters.unrecorded += len(self._pending)
            _LOG.error("%s: not recordable: %s", self._handle.id, error)
        self._pending = []

    async def _online(self) -> None:
        self._handle.online, self._handle.last_error = True, None
        self._bad.clear()
        if self._told_offline:
            self._told_offline = not await self._tell(Severity.INFORMATION, "device.online", f"{self._handle.id} answers again")

    async def _offline(self, error: DeviceTransientError | DevicePermanentError) -> None:
        handle = self._handle
        handle.online, handle.last_error = False, str(error)
        handle.counters.failures += 1
        self._image.mark_stale(handle.points)
        now = self._clock.now()
        await self._record(self._fresh([Reading(point, None, now, Quality.BAD) for point in handle.points]))
        if not self._told_offline:
            hint = " (this does not pass by itself)" if isinstance(error, DevicePermanentError) else ""
            self._told_offline = await self._tell(Severity.ALARM, "device.offline", f"{handle.id} is offline: {error}{hint}")

    async def _tell(self, severity: Severity, code: str, text: str) -> bool:
        event = Event(
            event_id=uuid.uuid4().hex,
            edge_id=self._context.edge_id,
            device_id=self._handle.id,
            severity=severity,
            code=code,
            text=text[:500],
            at=self._clock.now(),
        )
        try:
            await self._recorder.record_event(event)
        except TransientError:
            return False
        return True
