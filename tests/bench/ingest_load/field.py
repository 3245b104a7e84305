"""Meters of the real edges: JSON over MQTT through a field broker, and the count of receipts."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

#: Numbers in each message: power, voltage, energy.
READINGS_A_MESSAGE = 3


@dataclass(frozen=True, slots=True)
class Field:
    """What publishes.

    Attributes:
        port: Of the field broker on loopback.
        edges: Names of the real edges.
        meters: Meters behind each.
        per_s: Messages a second of each edge's meters together.
        seed: Of the data.
    """

    port: int
    edges: tuple[str, ...]
    meters: int
    per_s: float
    seed: int


def serial(edge: str, number: int) -> str:
    """Serial number of a meter."""
    return f"{edge}-{number:04d}"


class _Meters:
    def __init__(self, field: Field) -> None:
        self._field = field
        self._rng = np.random.default_rng(field.seed)
        self._power = self._rng.gamma(2.0, 500.0, (len(field.edges), field.meters))
        self.published = 0
        self.receipts = 0
        self._client = paho.Client(CallbackAPIVersion.VERSION2, "field", protocol=paho.MQTTv5)
        self._client.max_inflight_messages_set(5000)
        self._client.on_connect = lambda client, *_: client.subscribe("meters/+/receipt", 0)
        self._client.on_message = self._count
        self._client.connect("127.0.0.1", field.port, 60)
        self._client.loop_start()

    def _count(self, *_: object) -> None:
        self.receipts += 1

    def publish(self, number: int) -> None:
        """One message of the same meter of every edge."""
        meter = number % self._field.meters
        for row, edge in enumerate(self._field.edges):
            self._power[row, meter] = abs(self._power[row, meter] + self._rng.normal(0.0, 15.0))
            text = json.dumps(
                {
                    "id": f"{meter}-{number}",
                    "ts": datetime.now(UTC).isoformat(),  # noqa: TID251 (a meter's own clock)
                    "p_w": round(float(self._power[row, meter]), 1),
                    "v_v": round(float(self._rng.normal(230.0, 1.0)), 1),
                    "e_wh": number // self._field.meters,
                }
            )
            self._client.publish(f"meters/{serial(edge, meter)}/reading", text, 1)
            self.published += 1

    def close(self) -> None:
        """Say goodbye."""
        self._client.disconnect()
        self._client.loop_stop()


def run(field: Field, pipe: Connection) -> None:
    """Publish between ``on`` and ``off``; answer ``status``; end with ``stop``."""
    meters = _Meters(field)
    on, number, due_s = False, 0, 0.0
    while True:
        if on and time.monotonic() >= due_s:
            meters.publish(number)
            number += 1
            due_s = max(due_s + 1.0 / field.per_s, time.monotonic() - 1.0)
        wait_s = max(0.0, min(0.05, due_s - time.monotonic())) if on else 0.05
        if pipe.poll(wait_s):
            word = pipe.recv()
            if word == "stop":
                meters.close()
                return
            on, due_s = (word == "on") if word in ("on", "off") else on, time.monotonic() if word == "on" else due_s
            answer: dict[str, Any] = {"readings": meters.published * READINGS_A_MESSAGE, "receipts": meters.receipts}
            pipe.send({**answer, "published": meters.published})
