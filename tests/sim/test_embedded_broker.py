"""The embedded broker does what the demo needs of a broker: QoS 1, retained messages, wills."""

from __future__ import annotations

import queue
import subprocess
import sys
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from deploy.ports import free_port
from tests.conftest import wait_for_port


def client(port: int, name: str) -> tuple[mqtt.Client, queue.Queue[mqtt.MQTTMessage]]:
    inbox: queue.Queue[mqtt.MQTTMessage] = queue.Queue()
    ready: queue.Queue[bool] = queue.Queue()
    made = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name)

    def connected(each: mqtt.Client, *_: Any) -> None:
        each.subscribe("t/#", qos=1)

    made.on_connect = connected
    made.on_subscribe = lambda *_: ready.put(True)
    made.on_message = lambda _client, _data, message: inbox.put(message)
    made.will_set("t/will", name, qos=1)
    made.connect("127.0.0.1", port)
    made.loop_start()
    assert ready.get(timeout=60)
    return made, inbox


def test_the_embedded_broker_keeps_retained_messages_delivers_wills_and_ends_on_sigterm() -> None:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "tieline_sim", "broker", "--port", str(port)])
    try:
        wait_for_port(port, process, 30)
        first, inbox = client(port, "first")
        first.publish("t/state", "kept", qos=1, retain=True).wait_for_publish(5)
        assert inbox.get(timeout=60).payload == b"kept"
        second, other = client(port, "second")
        held = other.get(timeout=60)
        assert (held.payload, held.retain) == (b"kept", True)
        sock = second.socket()
        assert sock is not None
        sock.close()
        second.loop_stop()
        will = inbox.get(timeout=60)
        assert (will.topic, will.payload) == ("t/will", b"second")
        first.disconnect()
        first.loop_stop()
    finally:
        process.terminate()
        assert process.wait(60) == 0
