"""Visiting one device without the agent: connect, read, go. Nothing is kept of what it says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tieline_core.clock import Clock
from tieline_core.errors import BadInputError
from tieline_core.ids import DeviceId, PointId
from tieline_core.messages.telemetry import Event, IssuedForecast
from tieline_core.quantities import Reading
from tieline_edge.control.facts import AgeLimits, SiteFacts, gather
from tieline_edge.drivers.capabilities import DeviceSpec, Driver
from tieline_edge.drivers.catalog.entry import CatalogEntry
from tieline_edge.drivers.catalog.load import entry as catalog_entry
from tieline_edge.drivers.context import DriverContext
from tieline_edge.drivers.opcua.pki import Pki
from tieline_edge.drivers.registry import open_driver
from tieline_edge.settings import DeviceSettings, EdgeSettings
from tieline_edge.snapshot import ProcessImage
from tieline_edge.state_paths import StatePaths

READ_ONLY = "this is a look, not an order"


class _Nowhere:
    """Keeps nothing: a visit leaves no trace in the history."""

    async def record(self, _readings: Sequence[Reading]) -> None: ...

    async def record_event(self, _event: Event) -> None: ...

    async def record_forecast(self, _forecast: IssuedForecast) -> None: ...


@dataclass(frozen=True, slots=True)
class Visit:
    """A connected device.

    Attributes:
        settings: Its part of the configuration.
        entry: Its catalogue entry.
        driver: Entered.
        clock: Of the site.
    """

    site: EdgeSettings
    settings: DeviceSettings
    entry: CatalogEntry
    driver: Driver
    clock: Clock

    @property
    def spec(self) -> DeviceSpec:
        """What it is."""
        return self.driver.spec

    async def read(self) -> dict[str, Reading]:
        """Its readings by quantity.

        Raises:
            tieline_edge.drivers.capabilities.DeviceTransientError: It does not answer.
            tieline_edge.drivers.capabilities.DevicePermanentError: Its entry does not fit it.
        """
        return {reading.point.quantity: reading for reading in await self.driver.read()}

    def facts(self, readings: Mapping[str, Reading], max_age_s: float = 10.0) -> SiteFacts:
        """What the arbiter may know of it."""
        image = ProcessImage()
        image.put(readings.values())
        snapshot = image.freeze(self.clock.now())
        return gather(snapshot, self.site.edge_id, {self.settings.id: self.spec}, AgeLimits(max_age_s))

    def point(self, quantity: str) -> PointId:
        """A point of it."""
        return PointId.of(self.site.edge_id, self.settings.id, quantity)


def configured(site: EdgeSettings, device: str) -> DeviceSettings:
    """A device of a site.

    Raises:
        BadInputError: There is none of that name, or it cannot be asked.
    """
    found = next((one for one in site.devices if one.id == device), None)
    if found is None:
        known = ", ".join(one.id for one in site.devices)
        raise BadInputError("command line", "DEVICE", device, f"no such device; there are: {known}")
    if found.mqtt is not None:
        reason = "it publishes by itself and cannot be asked; 'tieline-edge status' says whether the running edge hears it"
        raise BadInputError("command line", "DEVICE", device, reason)
    return found


@asynccontextmanager
async def visit(
    site: EdgeSettings,
    device: DeviceSettings,
    clock: Clock,
    barred: Callable[[DeviceId], str | None] = lambda _device: READ_ONLY,
) -> AsyncIterator[Visit]:
    """Connect to a device over a connection of its own; it is closed at the end.

    Args:
        site: The configuration.
        device: One of its devices that can be asked (:func:`configured`).
        clock: Of the site.
        barred: For drivers that ask before they write.

    Raises:
        tieline_edge.drivers.capabilities.DeviceTransientError: It cannot be reached.
        tieline_edge.drivers.capabilities.DevicePermanentError: Its entry does not fit it.
    """
    paths = StatePaths.below(site.state_dir)
    image = ProcessImage()
    context = DriverContext(site.edge_id, clock, _Nowhere(), image, pki=Pki(paths.pki, site.edge_id), barred=barred)
    async with open_driver(device, site.edge_id, context) as driver:
        yield Visit(site, device, catalog_entry(device.catalog), driver, clock)
