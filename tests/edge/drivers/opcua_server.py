"""Real asyncua servers for the tests of the OPC-UA side: bays that can be changed, secured, switched off and counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tieline_core.clock import SystemClock
from tieline_edge.drivers.opcua.x509_facts import new_key, self_signed
from tieline_edge.settings import DeviceSettings

SOURCE_TIME = datetime(2016, 12, 7, 15, 29, 59, tzinfo=UTC)
SERVER_URI = "urn:test:bay"
VALUES: dict[str, float | bool] = {
    "ActivePowerW": 412000.04,
    "ReactivePowerVar": 88000.0,
    "CurrentA": 611.25,
    "VoltageV": 398.7,
    "LoadingPct": 66.91,
    "OilTempC": 58.2,
    "BreakerClosed": True,
}


@dataclass(frozen=True)
class Secret:
    """A server's key and certificate."""

    key: bytes
    certificate: bytes


def server_secret(uri: str = SERVER_URI, valid: timedelta = timedelta(days=365)) -> Secret:
    """A self-signed one for an application."""
    key = new_key()
    loaded: Any = load_pem_private_key(key, None)
    return Secret(key, self_signed(loaded, uri, "bay", SystemClock().now(), valid))


class Bay:
    """A running server with its nodes by name."""

    def __init__(self, server: Any, nodes: dict[str, Any], url: str) -> None:  # asyncua is untyped
        self.server, self.nodes, self.url = server, nodes, url
        #: Names of the nodes clients have written to, in order.
        self.written: list[str] = []

    async def set(self, name: str, value: float | bool | None, status: int = 0) -> None:
        from asyncua import ua

        variant = None if value is None else ua.Variant(value)
        data = ua.DataValue(variant, ua.StatusCode(status), SourceTimestamp=SOURCE_TIME.replace(tzinfo=None))
        await self.server.write_attribute_value(self.nodes[name].nodeid, data)

    async def add(self, root: str, values: Mapping[str, Any], *, writable: bool = False) -> None:
        """Add an object with variables; numbers may come as asyncua variants, to have a type of their own."""
        from asyncua import ua

        path = [f"2:{root}"]
        try:
            folder = await self.server.nodes.objects.get_child(path)
        except ua.uaerrors.BadNoMatch:
            folder = await self.server.nodes.objects.add_folder(2, root)
        for name, value in values.items():
            full = f"{root}.{name}"
            node = await folder.add_variable(ua.NodeId(full, 2), name, value)
            self.nodes[full] = node
            if writable:
                await node.set_writable()

    async def value(self, name: str) -> Any:
        """What a node holds."""
        return await self.nodes[name].read_value()

    def settings(self, root: str = "TR1", catalog: str = "transformer-bay-opcua", **more: Any) -> DeviceSettings:
        place = {"url": self.url, "root": root, "timeout_s": 2.0, "insecure": True, **more.pop("opcua", {})}
        if "security_policy" in place or "username" in place or "security_mode" in place:
            del place["insecure"]
        return DeviceSettings.model_validate({"id": "tr1", "catalog": catalog, "opcua": place, **more})

    async def stop(self) -> None:
        """Stop it; asyncua's clean-up swallows a cancellation while it waits for a connection that was just lost."""
        stopping = asyncio.ensure_future(self.server.stop())
        while not (await asyncio.wait([stopping], timeout=1.0))[0]:
            self.server.bserver.cleanup_task.cancel()
        await stopping


@dataclass
class Users:
    """Who may log in; asyncua asks it."""

    passwords: dict[str, str] = field(default_factory=dict)

    def get_user(self, _server: Any, username: str | None = None, password: str | None = None, certificate: Any = None) -> Any:
        from asyncua.crypto.permission_rules import User, UserRole

        if not self.passwords or (username is not None and self.passwords.get(username) == password):
            return User(role=UserRole.User)
        return None


async def serve(
    port: int,
    secret: Secret | None = None,
    users: Users | None = None,
    uri: str = SERVER_URI,
    policies: list[Any] | None = None,
) -> Bay:
    """Start a server with two bays, TR1 and TR2; with a secret it offers all secured policies and nothing else."""
    from asyncua import Server, ua
    from asyncua.common.callback import CallbackType

    server = Server(user_manager=users)
    await server.init()
    url = f"opc.tcp://127.0.0.1:{port}/tieline"
    server.set_endpoint(url)
    await server.set_application_uri(uri)
    if secret is None:
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    else:
        await server.load_certificate(secret.certificate, "der")
        await server.load_private_key(secret.key, format="pem")
        everything = [
            kind for kind in ua.SecurityPolicyType if "128Rsa15" not in kind.name and not kind.name.startswith("Basic256_")
        ]
        server.set_security_policy(policies or [kind for kind in everything if kind is not ua.SecurityPolicyType.NoSecurity])
    await server.register_namespace("urn:test")
    bay = Bay(server, {}, url)
    for root in ("TR1", "TR2"):
        await bay.add(root, VALUES)
    bay.nodes.update({name: bay.nodes[f"TR1.{name}"] for name in VALUES})
    names = {node.nodeid: name for name, node in bay.nodes.items()}

    async def note(event: Any, _dispatcher: Any = None) -> None:
        if event.is_external:
            names.update({node.nodeid: name for name, node in bay.nodes.items()})
            bay.written.extend(names[row.NodeId] for row in event.request_params.NodesToWrite)

    server.subscribe_server_callback(CallbackType.PreWrite, note)
    await server.start()
    return bay


@asynccontextmanager
async def serving(port: int, **options: Any) -> AsyncIterator[Bay]:
    """The same, stopped at the end."""
    bay = await serve(port, **options)
    try:
        yield bay
    finally:
        await bay.stop()
