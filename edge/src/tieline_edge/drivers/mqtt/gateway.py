"""Everything that publishes to the field broker: meters are recorded first and receipted then, other devices just heard.

A device repeats its message, with the same id, until it holds the receipt. So a receipt leaves only after the outbox has
committed, and a repeated message is receipted again but recorded once. After a restart the memory of what was recorded
comes from the outbox itself (:class:`~tieline_edge.outbox.ports.RecordedInstants`), because nothing else is exact when
the power fails between commit and receipt.

Devices that report without receipts go to the process image at once; their own pollers record what they have said.

Devices join and leave while the gateway runs; whoever is not concerned notices nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from tieline_core.clock import Clock
from tieline_core.errors import BadInputError, TransientError
from tieline_core.ids import EdgeId
from tieline_core.messages.telemetry import Event, Severity
from tieline_core.quantities import Reading
from tieline_edge.drivers.capabilities import DeviceTransientError
from tieline_edge.drivers.finish import finish
from tieline_edge.drivers.mqtt.client import Arrival, FieldClient, NotOpenedError
from tieline_edge.drivers.mqtt.message import parse_message, readings_of
from tieline_edge.drivers.mqtt.parties import REMEMBERED, Meter, Party
from tieline_edge.drivers.mqtt.reports import ReportingDevice
from tieline_edge.outbox.ports import RecordedInstants, Recorder
from tieline_edge.settings import MqttEndpoint
from tieline_edge.snapshot import AHEAD_S, ProcessImage

_LOG = logging.getLogger(__name__)
_BATCH: Final = 500
#: A meter is silent after this many of its own periods, and not before this wall time at a fast clock.
_SILENT_PERIODS: Final = 3.0
_SILENT_WALL_S: Final = 10.0
_RETRY_S: Final = 1.0
#: A connection that cannot be begun, for want of its password for instance, is tried again after this time [wall s].
_REOPEN_S: Final = 10.0


@dataclass(slots=True)
class GatewayCounters:
    """What has passed, for metrics."""

    messages: int = 0
    recorded: int = 0
    repeated: int = 0
    refused: int = 0
    receipts: int = 0


class MeterGateway:
    """The client of the field broker, shared by all publishing devices of an edge.

    Args:
        endpoint: The field broker.
        edge: The edge; its client id is ``<edge>-field``.
        clock: Tells how long a meter has been silent.
        recorder: Where readings are kept before the receipt leaves.
        image: Last values.
        recorded: Memory of what was recorded before a restart; None forgets it.
    """

    def __init__(
        self,
        endpoint: MqttEndpoint,
        edge: EdgeId,
        clock: Clock,
        recorder: Recorder,
        image: ProcessImage,
        recorded: RecordedInstants | None = None,
    ) -> None:
        self._endpoint, self._edge, self._clock = endpoint, edge, clock
        self._recorder, self._image, self._recorded = recorder, image, recorded
        self._meters: dict[str, Meter] = {}
        self._devices: dict[str, list[ReportingDevice]] = {}
        #: Meters of which the outbox has not yet told what it holds.
        self._unrecalled: set[str] = set()
        self._somebody = asyncio.Event()
        self._client: FieldClient | None = None
        #: Why no connection can even be begun; None = nothing stands in the way.
        self._fault: str | None = None
        self.counters = GatewayCounters()

    @property
    def connected(self) -> bool:
        """True while the field broker holds the connection."""
        return self._client is not None and self._client.connected

    def join(self, parties: Iterable[Party]) -> None:
        """Listen to more devices, at once or as soon as :meth:`run` does; of two meters on one topic the first stays."""
        before = self._topics()
        for party in parties:
            party.since = self._clock.now()
            if isinstance(party, Meter):
                self._meters.setdefault(party.topic, party)
                self._unrecalled.add(party.topic)
                continue
            for topic in party.topics:
                self._devices.setdefault(topic, []).append(party)
        fresh = [topic for topic in self._topics() if topic not in before]
        if fresh:
            self._somebody.set()
        if fresh and self._client is not None:
            self._client.subscribe(fresh)

    def leave(self, party: Party) -> None:
        """Listen to a device no longer; what it has said is kept."""
        before = self._topics()
        if isinstance(party, Meter):
            if self._listens_to(party):
                del self._meters[party.topic]
                self._unrecalled.discard(party.topic)
        else:
            for topic in party.topics:
                others = [device for device in self._devices.pop(topic, ()) if device is not party]
                if others:
                    self._devices[topic] = others
        after = self._topics()
        gone = [topic for topic in before if topic not in after]
        if gone and self._client is not None:
            self._client.unsubscribe(gone)

    def _topics(self) -> dict[str, None]:
        """What is subscribed to, in the order of joining."""
        return dict.fromkeys((*self._meters, *self._devices))

    def check_reporting(self, device: ReportingDevice, *, heard: bool = False) -> None:
        """Raise DeviceTransientError when the device is not there, by its own word, its last will, or its silence.

        Args:
            device: Which.
            heard: Also raise when it has not been heard at all yet.
        """
        if device.available is False:
            raise DeviceTransientError(f"{device.serial} is offline, says {device.availability_topic}")
        since = device.heard_at or device.since
        if heard and (device.heard_at is None or not self.connected):
            raise DeviceTransientError(f"{device.serial} has not been heard yet{self._broker_words()}")
        if since is None:
            return
        limit_s = max(device.form.silent_periods * device.report_s, _SILENT_WALL_S * self._clock.speed())
        silent_s = (self._clock.now() - since).total_seconds()
        if silent_s > limit_s:
            raise DeviceTransientError(
                f"{device.serial}: silent for {silent_s:.0f} s, reports each {device.report_s:g} s{self._broker_words()}"
            )

    def publish(self, topic: str, payload: bytes) -> bool:
        """Send a message for a device, now or not at all."""
        return self._client is not None and self._client.publish(topic, payload)

    def _broker_words(self) -> str:
        address = f"{self._endpoint.host}:{self._endpoint.port}"
        return "" if self.connected else f"; field broker {address} is not reached{self._fault or ''}"

    def check_heard(self, meter: Meter) -> None:
        """Raise DeviceTransientError when the meter has been silent for too long."""
        since = meter.heard_at or meter.since
        if since is None:
            return
        limit_s = max(_SILENT_PERIODS * meter.form.report_s, _SILENT_WALL_S * self._clock.speed())
        silent_s = (self._clock.now() - since).total_seconds()
        if silent_s > limit_s:
            raise DeviceTransientError(
                f"meter {meter.serial}: silent for {silent_s:.0f} s, "
                f"reports each {meter.form.report_s:g} s{self._broker_words()}"
            )

    async def run(self) -> None:
        """Listen until cancelled; nothing is connected before there is somebody to listen to."""
        await self._somebody.wait()
        while True:
            try:
                async with FieldClient(self._endpoint, f"{self._edge}-field", tuple(self._topics())) as client:
                    self._fault = None
                    await self._listen(client)
            except NotOpenedError as error:
                # Its devices are told offline with the reason; nobody else on the edge has to do with it.
                self._fault = f": {error}"
                await self._clock.sleep(0.0, at_least_wall_s=_REOPEN_S)

    async def _listen(self, client: FieldClient) -> None:
        self._client = client
        try:
            while True:
                await finish(self._take(await client.arrivals(_BATCH), client))
        finally:
            self._client = None

    async def _recall(self) -> None:
        """Ask the outbox, once, what it holds of the meters that have joined: only then is a repetition told from news."""
        asked = [meter for topic, meter in self._meters.items() if topic in self._unrecalled]
        if self._recorded is not None:
            try:
                # By all its points: a message need not bring each of them.
                points = [point for meter in asked for point in meter.points.ids()]
                found = await self._recorded.recorded_instants(points, REMEMBERED)
            except TransientError as error:
                _LOG.warning("what was recorded of %d meters cannot be asked now: %s", len(asked), error)
                return
            for meter in asked:
                meter.instants.extend(sorted({at for point in meter.points.ids() for at in found.get(point, ())}))
        # Who has joined meanwhile in the place of another has not been asked for.
        self._unrecalled.difference_update(meter.topic for meter in asked if self._listens_to(meter))

    def _listens_to(self, meter: Meter) -> bool:
        return self._meters.get(meter.topic) is meter

    async def _take(self, batch: Sequence[Arrival], client: FieldClient) -> None:
        """Record what is new, then receipt all of it."""
        readings: list[Reading] = []
        receipts: list[tuple[Meter, str]] = []
        fresh: list[tuple[Meter, str, datetime]] = []
        pending: set[tuple[str, datetime]] = set()
        shown: list[tuple[Meter, list[Reading]]] = []
        if self._unrecalled:
            await self._recall()
        for arrival in batch:
            self.counters.messages += 1
            for device in self._devices.get(arrival.topic, ()):
                await self._hear(device, arrival)
            meter = self._meters.get(arrival.topic)
            if meter is None:
                continue
            try:
                message = parse_message(arrival.payload, meter.form, arrival.topic)
                found = readings_of(message, meter.points, arrival.topic)
            except BadInputError as error:
                await self._refuse(meter, error, "meter.bad_message")
                continue
            meter.in_error, meter.heard_at = False, self._clock.now()
            if meter.topic in self._unrecalled:
                # Good for control; not receipted, so the meter repeats it.
                shown.append((meter, found))
                continue
            receipts.append((meter, message.id))
            if message.id in meter.ids or message.at in meter.instants or (meter.serial, message.at) in pending:
                self.counters.repeated += 1
                continue
            pending.add((meter.serial, message.at))
            fresh.append((meter, message.id, message.at))
            readings.extend(found)
            shown.append((meter, found))
        if readings and not await self._record(readings):
            receipts = []
        else:
            for meter, identity, at in fresh:
                meter.ids.append(identity)
                meter.instants.append(at)
            self.counters.recorded += len(fresh)
        # A meter whose clock is ahead is recorded as it says, but decides nothing; who has left meanwhile is forgotten already.
        latest = self._clock.now() + timedelta(seconds=AHEAD_S)
        present = (reading for meter, found in shown if self._listens_to(meter) for reading in found)
        self._image.put([reading for reading in present if reading.measured_at <= latest])
        for meter, identity in receipts:
            topic = meter.form.receipt_topic.format(serial=meter.serial)
            client.publish(topic, json.dumps({meter.form.id_key: identity}).encode())
            self.counters.receipts += 1
        for arrival in batch:
            client.acknowledge(arrival)

    async def _hear(self, device: ReportingDevice, arrival: Arrival) -> None:
        readings, mistake = device.take(arrival, self._clock.now())
        self._image.put(readings)
        if device.available is False:
            # At once, not with the next poll: nobody may decide on what a dead device has said.
            self._image.mark_stale(device.points.ids())
        if not arrival.retained:
            device.keep(readings)
        if mistake is not None:
            await self._refuse(device, mistake, "device.bad_message")
        elif readings:
            device.in_error = False

    async def _record(self, readings: Sequence[Reading]) -> bool:
        try:
            await self._recorder.record(readings)
        except TransientError:
            # No receipt leaves, so every meter of the batch repeats; a breath keeps a full disk from a busy loop.
            await self._clock.sleep(_RETRY_S * self._clock.speed())
            return False
        return True

    async def _refuse(self, meter: Meter | ReportingDevice, error: BadInputError, code: str) -> None:
        self.counters.refused += 1
        if meter.in_error:
            return
        meter.in_error = True
        event = Event(
            event_id=uuid.uuid4().hex,
            edge_id=self._edge,
            device_id=meter.device_id,
            severity=Severity.ALARM,
            code=code,
            text=f"{meter.device_id} sends what cannot be read: {error}"[:500],
            at=self._clock.now(),
        )
        try:
            await self._recorder.record_event(event)
        except TransientError:
            meter.in_error = False  # told with the next bad message
