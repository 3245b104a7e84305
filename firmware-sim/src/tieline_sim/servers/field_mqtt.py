"""The meters' way to the gateway: one MQTT client a substation on the gateway's own field broker."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from tieline_sim.devices.mqtt_meter import Message, MeterRow, Outstanding
from tieline_sim.substation import Substation
from tieline_sim.witness import Witness

_MAX_RECEIPT_BYTES: Final = 4096
#: Messages handed to the client in one go; the rest waits for the next tick.
_BURST: Final = 200
_log = logging.getLogger(__name__)


class FieldMeters:
    """Makes readings, publishes them to ``meters/<serial>/reading`` (QoS 1) and repeats each until its receipt.

    Args:
        station: The substation.
        row: Its meters.
        broker: Host and port of the field broker; None keeps the meters silent.
        witness: Log of messages and receipts.
        now: Simulated seconds since 1970.
    """

    def __init__(
        self, station: Substation, row: MeterRow, broker: tuple[str, int] | None, witness: Witness, now: Callable[[], float]
    ) -> None:
        self._station, self._row, self._witness, self._now = station, row, witness, now
        self._substation = station.spec.id
        self._broker = broker
        #: Wall seconds the waits between repetitions are counted in.
        self.monotonic: Callable[[], float] = time.monotonic
        self._outstanding = Outstanding()
        self._lock = threading.Lock()
        self._devices = {serial: f"m{place + 1:02d}" for place, serial in enumerate(row.serials)}
        for record in witness.unreceipted.values():
            if record["sub"] == self._substation:
                body = {"id": record["id"], "serial": record["serial"], "ts": record["ts"], **record["q"]}
                self._outstanding.add(Message(record["serial"], record["id"], json.dumps(body, separators=(",", ":"))))
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"field-{self._substation}", clean_session=True)
        self._client.on_connect = self._connected
        self._client.on_message = self._receipt
        self._client.reconnect_delay_set(min_delay=1, max_delay=2)
        self._client.max_inflight_messages_set(_BURST)
        self._client.max_queued_messages_set(2 * _BURST)

    @property
    def outstanding(self) -> int:
        """Messages without a receipt."""
        return len(self._outstanding.messages)

    def start(self) -> None:
        """Connect in the background; goes on trying while there is no broker."""
        if self._broker is not None:
            self._client.connect_async(*self._broker, keepalive=20)
            self._client.loop_start()

    def stop(self) -> None:
        """Disconnect."""
        if self._broker is not None:
            self._client.disconnect()
            self._client.loop_stop()

    def _connected(self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            _log.warning("%s: field broker refuses the meters: %s", self._substation, reason)
            return
        client.subscribe([(f"meters/{serial}/receipt", 1) for serial in self._devices])
        with self._lock:
            self._outstanding.reset_waits()

    def _receipt(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        serial = message.topic.split("/")[1]
        try:
            message_id = str(json.loads(message.payload[:_MAX_RECEIPT_BYTES])["id"])
        except (ValueError, KeyError, TypeError) as error:
            _log.warning("%s: receipt on %s is not understood: %r", self._substation, message.topic, error)
            return
        with self._lock:
            known = self._outstanding.messages.get(message_id)
            if known is None or known.meter != serial:
                return
            self._witness.log(self._now(), self._substation, self._devices[serial], "receipt", {}, id=message_id)
            self._outstanding.receipted(message_id)

    def tick(self, previous: float, now: float) -> None:
        """Make the readings that fell due and transmit what is due, oldest first."""
        self.make(previous, now)
        self.transmit()

    def make(self, previous: float, now: float) -> None:
        """Make the readings that fell due and note them as sent; they go out with the next :meth:`transmit`."""
        for instant, message, values in self._row.readings(previous, now, self._read):
            device = self._devices[message.meter]
            self._witness.log(
                instant, self._substation, device, "sent", values, id=message.id, serial=message.meter,
                ts=json.loads(message.payload)["ts"],
            )  # fmt: skip
            with self._lock:
                self._outstanding.add(message)

    def transmit(self) -> None:
        """Send, or send again, what is due and has no receipt yet."""
        if not self._client.is_connected():
            return
        with self._lock:
            due = list(self._outstanding.due(self.monotonic(), _BURST))
        for message in due:
            self._client.publish(f"meters/{message.meter}/reading", message.payload, qos=1)

    def _read(self, place: int) -> dict[str, float]:
        station = self._station
        return {
            "p_w": round(float(station.meter_p_w[place]), 1),
            "v_v": round(float(station.meter_v_v[place]), 2),
            "e_wh": int(station.meter_e_wh[place]),
        }


def serials(station: Substation, number: int) -> list[str]:
    """Serial numbers of a substation's meters: eight digits, as on a label."""
    return [f"{10_000_000 + 100_000 * (number + 1) + 37 * place}" for place in range(1, station.spec.meters + 1)]
