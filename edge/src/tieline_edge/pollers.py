"""The pollers of all devices, which may come and go while the others go on."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from tieline_core.errors import TielineError, TransientError
from tieline_core.ids import DeviceId, PointId
from tieline_edge.drivers.context import DriverContext
from tieline_edge.drivers.mqtt.parties import Party, Publishing
from tieline_edge.drivers.mqtt.reports import ReportingDevice
from tieline_edge.drivers.stagger import poll_offsets
from tieline_edge.sampling import DeviceHandle, Poller
from tieline_edge.settings import CycleSettings

_LOG = logging.getLogger(__name__)


class Pollers:
    """One task a device, all owned by :meth:`run`.

    Args:
        handles: The devices to begin with.
        context: Shared by their drivers.
        cycle: The wall-time floor of the poll periods.
        rng: Jitter of the back-off.
    """

    def __init__(
        self,
        handles: Mapping[DeviceId, DeviceHandle],
        context: DriverContext,
        cycle: CycleSettings,
        rng: random.Random | None = None,
    ) -> None:
        self._first = dict(handles)
        self._context = context
        self._cycle = cycle
        self._rng = rng or random.Random()
        self._group: asyncio.TaskGroup | None = None
        self._tasks: dict[DeviceId, asyncio.Task[None]] = {}

    async def run(self, on_ready: Callable[[], None] | None = None) -> None:
        """Poll all devices (and listen on the field broker) until cancelled."""
        recorded_at = await self._recorded_at(self._first.values())
        async with asyncio.TaskGroup() as group:
            meters = self._context.meters
            if meters is not None:
                group.create_task(meters.run(), name="field-broker")
                meters.join(party for handle in self._first.values() if (party := _party(handle)) is not None)
            self._group = group
            offsets = poll_offsets(handle.settings for handle in self._first.values())
            for handle in self._first.values():
                self._start(handle, offsets[handle.id], recorded_at)
            if on_ready is not None:
                on_ready()
            # Also without a single device there is somebody to add one to.
            await asyncio.Event().wait()

    async def stop(self, handle: DeviceHandle) -> None:
        """End the poller of a device; its connection is closed, or nobody listens to it any more, when this returns."""
        party = _party(handle)
        if self._context.meters is not None and party is not None:
            self._context.meters.leave(party)
        task = self._tasks.pop(handle.id, None)
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        if isinstance(party, ReportingDevice) and (said := party.collect()):
            try:
                await self._context.recorder.record(said)
            except TielineError as error:
                _LOG.warning("%d readings that %s said last are not kept: %s", len(said), handle.id, error)

    async def start(self, handle: DeviceHandle) -> None:
        """Begin to poll one more device, or to listen to it."""
        if self._group is not None and self._context.meters is not None and (party := _party(handle)) is not None:
            self._context.meters.join([party])
        self._start(handle, 0.0, await self._recorded_at([handle]))

    def _start(self, handle: DeviceHandle, offset: float, recorded_at: Mapping[PointId, datetime]) -> None:
        if self._group is None:
            self._first[handle.id] = handle
            return
        poller = Poller(handle, self._context, self._cycle, self._rng, recorded_at=recorded_at)
        self._tasks[handle.id] = self._group.create_task(poller.run(offset), name=f"poll-{handle.id}")

    async def _recorded_at(self, handles: Iterable[DeviceHandle]) -> dict[PointId, datetime]:
        """Newest kept instant of each polled point: a source that stood still while we were away shows it again."""
        if self._context.recorded is None:
            return {}
        points = [point for handle in handles if handle.settings.mqtt is None for point in handle.points]
        try:
            found = await self._context.recorded.recorded_instants(points, 1)
        except TransientError as error:
            # A disk that refuses must not keep the devices from being polled: at worst an instant is recorded again.
            _LOG.warning("what was recorded before cannot be asked now: %s", error)
            return {}
        return {point: max(instants) for point, instants in found.items() if instants}


def _party(handle: DeviceHandle) -> Party | None:
    """The device as the field broker's gateway knows it; None where it is polled."""
    return handle.driver.party if isinstance(handle.driver, Publishing) else None


async def run_pollers(
    handles: Mapping[DeviceId, DeviceHandle],
    context: DriverContext,
    cycle: CycleSettings,
    rng: random.Random | None = None,
    on_ready: Callable[[], None] | None = None,
) -> None:
    """Poll a set of devices that does not change, until cancelled."""
    await Pollers(handles, context, cycle, rng).run(on_ready)
