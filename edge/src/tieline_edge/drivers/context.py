"""What every driver of an edge shares: clock, recorder, process image and connections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tieline_core.clock import Clock
from tieline_core.ids import DeviceId, EdgeId
from tieline_edge.drivers.modbus.link import ModbusLinks
from tieline_edge.drivers.mqtt.gateway import MeterGateway
from tieline_edge.drivers.opcua.pki import Pki
from tieline_edge.outbox.ports import RecordedInstants, Recorder
from tieline_edge.snapshot import ProcessImage


def _nothing_barred(_device: DeviceId) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class DriverContext:
    """Handed to each driver when it is built; nothing in it is connected before a driver is entered.

    Attributes:
        edge_id: The edge.
        clock: Stamps readings that carry no time of their own.
        recorder: Where readings and events are kept.
        image: Last values.
        meters: The client of the field broker; None when the site has none.
        recorded: What the outbox held before this start; None = nothing is known.
        modbus_links: One connection for each Modbus server.
        pki: Own OPC-UA certificate and trusted servers; None = only servers declared insecure can be reached.
        barred: Says why nothing may be written to a device now (a tag, a dry run); None when it may.
    """

    edge_id: EdgeId
    clock: Clock
    recorder: Recorder
    image: ProcessImage
    meters: MeterGateway | None = None
    recorded: RecordedInstants | None = None
    modbus_links: ModbusLinks = field(default_factory=ModbusLinks)
    pki: Pki | None = None
    barred: Callable[[DeviceId], str | None] = _nothing_barred
