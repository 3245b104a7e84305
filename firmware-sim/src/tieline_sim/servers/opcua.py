"""The transformer bay on OPC-UA (asyncua server): node table after the quantities of IEC 61850-7-4 YPTR and MMXU.

Nodes are ``ns=2;s=TR1.<name>``. Power is positive from the medium- to the low-voltage side. SourceTimestamp is the
simulated instant of the power flow the value comes from.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from asyncua import Server, ua
from asyncua.common.callback import CallbackType

from tieline_sim.clock import utc_text
from tieline_sim.errors import SimulatorError
from tieline_sim.servers.opcua_security import Security
from tieline_sim.servers.opcua_stop import stop_server
from tieline_sim.substation import Substation
from tieline_sim.witness import Witness

NAMESPACE: Final = "urn:tieline:field:transformer-bay"
_BOOLEAN: Final = "BreakerClosed"
_WAITING: Final = ua.StatusCode(ua.StatusCodes.BadWaitingForInitialData)
#: Node name -> (value of the substation, decimals).
NODES: Final[dict[str, tuple[Callable[[Substation], float], int]]] = {
    "TR1.ActivePowerW": (lambda station: station.busbar.p_w, 1),
    "TR1.ReactivePowerVar": (lambda station: station.busbar.q_var, 1),
    "TR1.CurrentA": (lambda station: station.busbar.i_a, 2),
    "TR1.VoltageV": (lambda station: station.busbar.line_v, 2),
    "TR1.LoadingPct": (lambda station: station.busbar.loading_pct, 2),
    "TR1.OilTempC": (lambda station: station.oil.temp_degc, 2),
    "TR1.BreakerClosed": (lambda _station: 1.0, 0),
    "TR1.RatedPowerVA": (lambda station: station.spec.transformer.rating_kva * 1e3, 0),
}


class TransformerBay:
    """OPC-UA server of one substation.

    Args:
        station: The substation.
        port: TCP port, not 0.
        witness: Log of what is read.
        now: Simulated seconds since 1970.
        security: Sign and encrypt; None offers no security at all.
    """

    def __init__(
        self, station: Substation, port: int, witness: Witness, now: Callable[[], float], security: Security | None = None
    ) -> None:
        self._station = station
        self._substation = station.spec.id
        self.port = port
        self._witness = witness
        self._now = now
        self._security = security
        self._server: Server | None = None
        self._nodes: dict[str, Any] = {}
        self._names: dict[Any, str] = {}

    @property
    def url(self) -> str:
        """Endpoint address."""
        return f"opc.tcp://127.0.0.1:{self.port}/{self._substation}"

    async def open(self) -> None:
        """Build the address space and listen; nothing when it does already.

        Raises:
            SimulatorError: When the port is taken.
        """
        if self._server is not None:
            return
        logging.getLogger("asyncua").setLevel(logging.ERROR)  # it warns about the missing security, which is intended here
        server = Server()
        await server.init()
        server.set_endpoint(self.url)
        server.set_server_name(f"Tieline field, {self._substation}")
        if self._security is None:
            server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        else:
            await self._security.apply(server)
        space = await server.register_namespace(NAMESPACE)
        bay = await server.nodes.objects.add_object(ua.NodeId("TR1", space), "TR1")
        for name in NODES:
            initial: ua.Variant = self._variant(name, 0.0)
            node = await bay.add_variable(ua.NodeId(name, space), name.removeprefix("TR1."), initial)
            self._nodes[name], self._names[node.nodeid] = node, name
            # Until the first power flow a read must not find the zero the node was made with.
            await server.write_attribute_value(node.nodeid, ua.DataValue(None, _WAITING, None, self._server_time()))
        server.subscribe_server_callback(CallbackType.PostRead, self._after_read)
        try:
            await server.start()
        except OSError as error:
            raise SimulatorError(f"OPC-UA port {self.port} on 127.0.0.1 cannot be opened: {error.strerror}") from error
        self._server = server

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            server, self._server = self._server, None
            await stop_server(server)

    @staticmethod
    def _variant(name: str, value: float) -> Any:
        if name.endswith(_BOOLEAN):
            return ua.Variant(bool(value), ua.VariantType.Boolean)
        return ua.Variant(float(value), ua.VariantType.Double)

    async def publish(self, instant: float, dead_sensors: set[str]) -> None:
        """Offer the values of a power flow; a dead sensor's node turns Bad and carries no number."""
        if self._server is None:
            return
        stamp = datetime.fromtimestamp(round(instant, 3), UTC)
        values: dict[str, float] = {}
        for name, (read, decimals) in NODES.items():
            if name in dead_sensors:
                data = ua.DataValue(None, ua.StatusCode(ua.StatusCodes.BadSensorFailure), stamp, self._server_time())
            else:
                values[name] = round(read(self._station), decimals)
                data = ua.DataValue(
                    self._variant(name, values[name]), ua.StatusCode(ua.StatusCodes.Good), stamp, self._server_time()
                )
            await self._server.write_attribute_value(self._nodes[name].nodeid, data)
        self._witness.log(instant, self._substation, "tr1", "published", values, ts=utc_text(instant))

    def _server_time(self) -> datetime:
        return datetime.fromtimestamp(self._now(), UTC)

    async def _after_read(self, event: Any, _dispatcher: Any = None) -> None:
        """Witness what a client's read got, before the answer is sent."""
        if not event.is_external:
            return
        by_stamp: dict[datetime, dict[str, float]] = {}
        for wanted, data in zip(event.request_params.NodesToRead, event.response_params, strict=True):
            name = self._names.get(wanted.NodeId)
            if name is None or wanted.AttributeId != ua.AttributeIds.Value or not data.StatusCode.is_good():
                continue
            by_stamp.setdefault(data.SourceTimestamp, {})[name] = float(data.Value.Value)
        for stamp, values in by_stamp.items():
            instant = stamp.replace(tzinfo=UTC).timestamp()
            self._witness.log(self._now(), self._substation, "tr1", "response", values, ts=utc_text(instant))
