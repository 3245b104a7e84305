"""What the rest of the edge may ask of the outbox."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from tieline_core.ids import PointId
from tieline_core.messages.telemetry import Event, IssuedForecast
from tieline_core.quantities import Reading


class Recorder(Protocol):
    """Durable memory of everything measured and everything that happened."""

    async def record(self, readings: Sequence[Reading]) -> None:
        """Keep readings; returns after the commit has reached the disk, so a receipt may be sent then.

        Raises:
            tieline_core.errors.TransientError: The disk refused; nothing of the batch may be acknowledged.
        """
        ...

    async def record_event(self, event: Event) -> None:
        """Keep an event in the alarm stream; returns after the commit."""
        ...

    async def record_forecast(self, forecast: IssuedForecast) -> None:
        """Keep an issued forecast in the bulk stream; returns after the commit."""
        ...


class RecordedInstants(Protocol):
    """Which instants of a point are kept already; asked once at the start, so that nothing is recorded twice."""

    async def recorded_instants(self, points: Sequence[PointId], last: int) -> Mapping[PointId, Collection[datetime]]:
        """The newest ``last`` recorded instants of each point."""
        ...
