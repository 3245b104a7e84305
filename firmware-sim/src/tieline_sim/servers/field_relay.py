"""An MQTT relay with power metering in front of a contactor, after the Shelly Gen2+ device API (RPC over MQTT, status
notifications, ``online`` as last will, ``Switch.Set`` with ``toggle_after``, ``Switch.GetStatus``).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from tieline_sim.devices.contactor import Contactor

_MAX_REQUEST_BYTES: Final = 4096
_WRITE_COIL, _WRITE_REGISTER = 5, 6
_log = logging.getLogger(__name__)


class MqttRelay:
    """One relay; its network thread answers, :meth:`tick` tells changes.

    Args:
        prefix: MQTT prefix of the device.
        contactor: What it switches; with an off-timer (odd units) ``toggle_after`` works.
        broker: Host and port of the field broker.
        written: Told of each accepted order: (device id, what was set).
    """

    def __init__(
        self, prefix: str, contactor: Contactor, broker: tuple[str, int], written: Callable[[str, dict[str, float]], None]
    ) -> None:
        self.prefix, self._contactor, self._broker, self._written = prefix, contactor, broker, written
        self._told: bool | None = None
        #: Accepts orders and does nothing, as a welded contact.
        self.stuck = False
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=f"relay-{prefix.replace('/', '-')}", clean_session=True
        )
        self._client.will_set(f"{prefix}/online", "false", qos=1, retain=True)
        self._client.on_connect = self._connected
        self._client.on_message = self._request
        self._client.reconnect_delay_set(min_delay=1, max_delay=2)

    def start(self) -> None:
        """Connect in the background; goes on trying while there is no broker."""
        self._client.connect_async(*self._broker, keepalive=5)
        self._client.loop_start()

    def stop(self) -> None:
        """Switch off with a goodbye: the device itself says that it goes."""
        self._client.publish(f"{self.prefix}/online", "false", qos=1, retain=True)
        self._client.disconnect()
        self._client.loop_stop()

    def pull_the_plug(self) -> None:
        """Lose power: no goodbye, the broker publishes the last will."""
        sock = self._client.socket()
        self._client.loop_stop()
        if sock is not None:
            sock.close()

    def tick(self) -> None:
        """Tell the status when the output has changed since it was told last, for example by its own timer."""
        self._contactor.run_timer()
        if self._client.is_connected() and self._told != self._contactor.closed:
            self._tell()

    def _tell(self) -> None:
        self._told = self._contactor.closed
        self._client.publish(f"{self.prefix}/status/switch:0", json.dumps(self._status()), qos=1)

    def _status(self) -> dict[str, Any]:
        row = self._contactor
        return {
            "id": 0, "source": "mqtt", "output": row.closed, "apower": round(row.p_w, 1), "voltage": round(row.volt_ln, 1),
            "current": round(row.p_w / max(row.volt_ln, 1.0), 3), "aenergy": {"total": round(row.energy_wh, 3)},
        }  # fmt: skip

    def _connected(self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            _log.warning("%s: field broker refuses the relay: %s", self.prefix, reason)
            return
        client.subscribe(f"{self.prefix}/rpc", 1)
        client.publish(f"{self.prefix}/online", "true", qos=1, retain=True)
        self._tell()

    def _request(self, client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        try:
            request = json.loads(message.payload[:_MAX_REQUEST_BYTES])
            answer = {"id": request["id"], "src": self.prefix, "dst": request["src"]}
            method, params = str(request["method"]), dict(request.get("params", {}))
        except (ValueError, KeyError, TypeError) as error:
            _log.warning("%s: request is not understood: %r", self.prefix, error)
            return
        if params.get("id") != 0:
            answer["error"] = {"code": -105, "message": "Argument 'id', value not found!"}
        elif method == "Switch.GetStatus":
            answer["result"] = self._status()
        elif method == "Switch.Set":
            answer["result"] = {"was_on": self._contactor.closed}
            self._set(params)
        else:
            answer["error"] = {"code": 404, "message": f"No handler for {method}"}
        client.publish(f"{request['src']}/rpc", json.dumps(answer), qos=1)

    def _set(self, params: Mapping[str, Any]) -> None:
        values: dict[str, float] = {}
        if not self.stuck:
            after_s = float(params.get("toggle_after", 0))
            if self._contactor.has_off_timer:
                values |= self._contactor.write(_WRITE_REGISTER, 1, [round(after_s) if params["on"] is False else 0])
            values |= self._contactor.write(_WRITE_COIL, 0, [int(bool(params["on"]))])
        self._written(f"load{self._contactor.spec.unit:02d}", values)
        if not self.stuck:
            self._tell()
