"""Sheddable customers on an OPC-UA server: the contactors of ``devices/contactor.py`` behind nodes (own node table).

Nodes are ``ns=2;s=F<unit>.<name>``, the unit in two digits:

=============  =======  ==========================================================================
name           type     meaning
=============  =======  ==========================================================================
ActivePowerW   Double   power drawn now
VoltageV       Double   phase to neutral
EnergyWh       Double   energy drawn, counter
Closed         Boolean  feedback of the contactor
CloseCommand   Boolean  written: true closes, false opens
OffTimerS      UInt32   written, odd units only: an open contactor closes by itself so long after the last command
=============  =======  ==========================================================================
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from asyncua import Server, ua
from asyncua.common.callback import CallbackType

from tieline_sim.devices.contactor import Contactor
from tieline_sim.errors import SimulatorError
from tieline_sim.servers.opcua_security import Security
from tieline_sim.servers.opcua_stop import stop_server

NAMESPACE: Final = "urn:tieline:field:switchable-bays"
_WRITE_COIL, _WRITE_REGISTER = 5, 6
_LONGEST_OFF_S: Final = 7200


class SwitchableBays:
    """OPC-UA server in front of some contactors.

    Args:
        name: Last part of the endpoint address.
        contactors: Contactors by unit.
        port: TCP port, not 0.
        now: Simulated seconds since 1970.
        written: Told of each accepted write: (device id, what was set).
        security: Sign and encrypt; None offers no security at all.
    """

    def __init__(
        self,
        name: str,
        contactors: Mapping[int, Contactor],
        port: int,
        now: Callable[[], float],
        written: Callable[[str, dict[str, float]], None],
        security: Security | None = None,
    ) -> None:
        self._name, self._contactors, self.port = name, dict(contactors), port
        self._now, self._written, self._security = now, written, security
        self._server: Server | None = None
        self._nodes: dict[str, Any] = {}
        self._places: dict[Any, tuple[int, str]] = {}

    @property
    def url(self) -> str:
        """Endpoint address."""
        return f"opc.tcp://127.0.0.1:{self.port}/{self._name}"

    async def open(self) -> None:
        """Build the address space and listen; nothing when it does already.

        Raises:
            SimulatorError: When the port is taken.
        """
        if self._server is not None:
            return
        logging.getLogger("asyncua").setLevel(logging.CRITICAL)
        server = Server()
        await server.init()
        server.set_endpoint(self.url)
        server.set_server_name(f"Tieline field, bays of {self._name}")
        if self._security is None:
            server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        else:
            await self._security.apply(server)
        space = await server.register_namespace(NAMESPACE)
        for unit, contactor in self._contactors.items():
            await self._add(server, space, unit, contactor)
        server.subscribe_server_callback(CallbackType.PreRead, self._before_read)
        server.subscribe_server_callback(CallbackType.PostWrite, self._after_write)
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

    async def _add(self, server: Server, space: int, unit: int, contactor: Contactor) -> None:
        root = f"F{unit:02d}"
        bay = await server.nodes.objects.add_object(ua.NodeId(root, space), root)
        values: dict[str, ua.Variant] = {
            "ActivePowerW": ua.Variant(0.0, ua.VariantType.Double),
            "VoltageV": ua.Variant(0.0, ua.VariantType.Double),
            "EnergyWh": ua.Variant(0.0, ua.VariantType.Double),
            "Closed": ua.Variant(contactor.closed, ua.VariantType.Boolean),
            "CloseCommand": ua.Variant(contactor.closed, ua.VariantType.Boolean),
        }
        if contactor.has_off_timer:
            values["OffTimerS"] = ua.Variant(contactor.off_timer_s, ua.VariantType.UInt32)
        for name, value in values.items():
            node = await bay.add_variable(ua.NodeId(f"{root}.{name}", space), name, value)
            self._nodes[f"{root}.{name}"] = node
            self._places[node.nodeid] = (unit, name)
            if name in ("CloseCommand", "OffTimerS"):
                await node.set_writable()

    async def _before_read(self, event: Any, _dispatcher: Any = None) -> None:
        """Measure what is about to be read."""
        if event.is_external:
            await self._measure(
                {self._places[row.NodeId][0] for row in event.request_params.NodesToRead if row.NodeId in self._places}
            )

    async def tick(self) -> None:
        """Measure all bays, for whoever has subscribed."""
        await self._measure(self._contactors)

    async def _measure(self, units: Iterable[int]) -> None:
        if self._server is None:
            return
        stamp = datetime.fromtimestamp(round(self._now(), 3), UTC)
        for unit in units:
            contactor = self._contactors[unit]
            contactor.run_timer()
            measured: dict[str, ua.Variant] = {
                "ActivePowerW": ua.Variant(float(round(contactor.p_w, 1)), ua.VariantType.Double),
                "VoltageV": ua.Variant(float(round(contactor.volt_ln, 1)), ua.VariantType.Double),
                "EnergyWh": ua.Variant(float(round(contactor.energy_wh)), ua.VariantType.Double),
                "Closed": ua.Variant(contactor.closed, ua.VariantType.Boolean),
                "CloseCommand": ua.Variant(contactor.closed, ua.VariantType.Boolean),
            }
            for name, value in measured.items():
                data = ua.DataValue(value, ua.StatusCode(ua.StatusCodes.Good), stamp, stamp)
                await self._server.write_attribute_value(self._nodes[f"F{unit:02d}.{name}"].nodeid, data)

    async def _after_write(self, event: Any, _dispatcher: Any = None) -> None:
        """Move the contactors that were commanded."""
        if not event.is_external:
            return
        for row, status in zip(event.request_params.NodesToWrite, event.response_params, strict=True):
            place = self._places.get(row.NodeId)
            if place is None or not status.is_good():
                continue
            unit, name = place
            contactor, value = self._contactors[unit], row.Value.Value.Value
            if name == "CloseCommand":
                done = contactor.write(_WRITE_COIL, 0, [int(value)])
            else:
                done = contactor.write(_WRITE_REGISTER, 1, [min(int(value), _LONGEST_OFF_S)])
            self._written(f"load{unit:02d}", done)
