"""An event of a device, recorded like its readings."""

from __future__ import annotations

import uuid
from typing import Final

from tieline_core.errors import TransientError
from tieline_core.ids import DeviceId
from tieline_core.messages.telemetry import Event, Severity
from tieline_edge.drivers.context import DriverContext

_MAX_CHARS: Final = 500


async def tell(context: DriverContext, device: DeviceId, severity: Severity, code: str, text: str) -> bool:
    """Record an event; False when the disk refuses now, so that it can be told later."""
    event = Event(
        event_id=uuid.uuid4().hex,
        edge_id=context.edge_id,
        device_id=device,
        severity=severity,
        code=code,
        text=text[:_MAX_CHARS],
        at=context.clock.now(),
    )
    try:
        await context.recorder.record_event(event)
    except TransientError:
        return False
    return True
