"""One session with an OPC-UA server: secured, judged by the trust list, without a task of its own, thrown away after a failure.

asyncua's ``Client.connect`` starts a supervisor that reads each second and reconnects the same client, which can hang
(opcua-asyncio issue 1660). Here its public steps are taken one by one, each under a hard time limit; whoever polls is the
watchdog, and the secure channel is renewed by the call that finds it due.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

from tieline_edge.drivers.capabilities import DevicePermanentError, DeviceTransientError
from tieline_edge.drivers.opcua.pki import CertificateRefusedError, Pki, first_certificate
from tieline_edge.settings import OpcUaEndpoint

if TYPE_CHECKING:
    from asyncua import Client, ua
    from cryptography.x509 import Certificate

_T = TypeVar("_T")

#: Opening takes a handful of answers; together they may take so many time-outs.
_OPENING: Final = 3.0
#: Share of the channel's lifetime after which it is renewed (OPC 10000-4, 5.5.2).
_RENEW_AT: Final = 0.75
#: Name of a policy in a configuration -> asyncua's class; None and the withdrawn SHA-1 policies are not among them.
_POLICIES: Final = {
    "Basic256Sha256": "SecurityPolicyBasic256Sha256",
    "Aes128_Sha256_RsaOaep": "SecurityPolicyAes128Sha256RsaOaep",
    "Aes256_Sha256_RsaPss": "SecurityPolicyAes256Sha256RsaPss",
}
#: What a server answers when it does not believe the edge, and what then helps.
_REFUSALS: Final = {
    "BadSecurityChecksFailed": "the server refuses this edge's certificate: put {own} into its trust list",
    "BadCertificateUntrusted": "the server does not trust this edge's certificate: put {own} into its trust list",
    "BadCertificateTimeInvalid": "the server finds this edge's certificate expired or not valid yet: compare the clocks",
    "BadCertificateUriInvalid": "the server finds another ApplicationUri in this edge's certificate than the edge's own",
    "BadIdentityTokenRejected": "the server wants a user: give username and password_file",
    "BadIdentityTokenInvalid": "the server does not accept user name and password",
    "BadUserAccessDenied": "the server refuses the user or its password",
    "BadUserSignatureInvalid": "the server refuses the user",
    "BadSecurityPolicyRejected": "the server refuses the security policy",
    "BadSecurityModeRejected": "the server refuses the security mode",
}


class OpcUaSession:
    """An activated session; made by :func:`open_session`.

    Args:
        client: asyncua's client, connected.
        endpoint: Where it is connected to.
        certificate: The server's, as judged; None without security.
    """

    def __init__(self, client: Client, endpoint: OpcUaEndpoint, certificate: Certificate | None) -> None:
        self._client, self._endpoint = client, endpoint
        self._renew_at_s = time.monotonic() + _RENEW_AT * client.secure_channel_timeout / 1e3
        self._broken = False
        self.certificate = certificate

    @property
    def client(self) -> Client:
        """asyncua's client, for what is not wrapped here."""
        return self._client

    async def read(self, nodes: Sequence[ua.NodeId], attribute: int | None = None) -> list[ua.DataValue]:
        """Read an attribute (the value unless told otherwise) of all nodes in one call.

        Raises:
            DeviceTransientError: No answer in time, or a refusal of the whole call.
        """
        from asyncua import ua

        wanted = ua.AttributeIds.Value if attribute is None else ua.AttributeIds(attribute)
        answers: list[ua.DataValue] = await self.ask(
            lambda: self._client.uaclient.read_attributes(list(nodes), wanted), "a read"
        )
        if len(answers) != len(nodes):
            raise DeviceTransientError(f"{self._endpoint.url}: {len(answers)} answers to {len(nodes)} nodes")
        return answers

    async def write(self, node: ua.NodeId, value: ua.Variant) -> ua.StatusCode:
        """Write one value and return the server's judgement of it.

        Raises:
            DeviceTransientError: No answer: it may or may not have arrived.
        """
        from asyncua import ua

        # Only the value: many servers refuse a write that brings a status or a time stamp (BadWriteNotSupported).
        data = ua.DataValue(value, None, None, None)
        judged: list[ua.StatusCode] = await self.ask(lambda: self._client.uaclient.write_attributes([node], [data]), "a write")
        return judged[0]

    async def ask(self, request: Callable[[], Awaitable[_T]], what: str) -> _T:
        """Send a request under the time limit; after a failure the session is of no use any more.

        Raises:
            DeviceTransientError: No answer in time, or a refusal of the whole request.
        """
        from asyncua import ua

        if self._broken:
            raise DeviceTransientError(f"{self._endpoint.url}: the session was given up after an earlier failure")
        try:
            async with asyncio.timeout(self._endpoint.timeout_s):
                if time.monotonic() >= self._renew_at_s:
                    await self._client.open_secure_channel(renew=True)
                    self._renew_at_s = time.monotonic() + _RENEW_AT * self._client.secure_channel_timeout / 1e3
                return await request()
        except (TimeoutError, OSError, ua.UaError) as error:
            self._broken = True
            reason = str(error) or "time-out"
            raise DeviceTransientError(f"{self._endpoint.url}: no answer to {what} ({reason})") from error
        except asyncio.CancelledError:
            # An answer that comes after all must meet no other request.
            self._broken = True
            raise

    async def close(self) -> None:
        """Say goodbye where the other side still listens, and let go of the socket in any case."""
        from asyncua import ua

        if not self._broken:
            with suppress(TimeoutError, OSError, ua.UaError):
                async with asyncio.timeout(self._endpoint.timeout_s):
                    await self._client.close_session()
                    await self._client.close_secure_channel()
        drop(self._client)


def drop(client: Client) -> None:
    """Close a client's socket without waiting for anything that is still to be sent."""
    protocol = client.uaclient.protocol
    transport = None if protocol is None else protocol.transport
    client.disconnect_socket()
    if transport is not None:
        transport.abort()


async def open_session(endpoint: OpcUaEndpoint, pki: Pki | None) -> OpcUaSession:
    """Connect, secure, judge the server and activate a session.

    Args:
        endpoint: Server, security, user, time-out.
        pki: Own certificate and trust list; needed unless the endpoint is declared insecure.

    Raises:
        DeviceTransientError: The server does not answer (now).
        DevicePermanentError: Certificate, policy or user do not fit; somebody has to do something.
    """
    from asyncua import Client, ua

    # Its own account of every failure would stand beside ours.
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)
    password = _password(endpoint)
    client = Client(endpoint.url, timeout=endpoint.timeout_s)
    client.name = client.description = "Tieline edge"
    client.product_uri = "urn:tieline:edge"
    try:
        async with asyncio.timeout(_OPENING * endpoint.timeout_s):
            certificate = None
            if not endpoint.insecure:
                certificate = await _secure(client, endpoint, pki)
            await client.connect_socket()
            await client.send_hello()
            await client.open_secure_channel()
            await client.create_session()
            _check_password_stays_secret(client, endpoint)
            await client.activate_session(endpoint.username, password)
    except CertificateRefusedError as error:
        drop(client)
        raise DevicePermanentError(str(error)) from error
    except ua.UaStatusCodeError as error:
        drop(client)
        name = ua.status_codes.get_name_and_doc(error.code)[0]
        if name in _REFUSALS:
            own = "the edge's certificate" if pki is None else str(pki.folder / "own" / "cert.der")
            raise DevicePermanentError(f"{endpoint.url}: {_REFUSALS[name].format(own=own)} ({name})") from error
        raise DeviceTransientError(f"{endpoint.url}: no session ({name})") from error
    except (TimeoutError, OSError, ua.UaError) as error:
        drop(client)
        reason = str(error) or type(error).__name__
        raise DeviceTransientError(f"{endpoint.url}: no session ({reason}); is the server on and the address right?") from error
    except BaseException:
        drop(client)
        raise
    return OpcUaSession(client, endpoint, certificate)


async def _secure(client: Client, endpoint: OpcUaEndpoint, pki: Pki | None) -> Certificate:
    """Ask what the server offers, judge its certificate, and set up the client for the configured policy."""
    from asyncua import Client, ua
    from asyncua.crypto import security_policies
    from asyncua.crypto.uacrypto import CertProperties

    if pki is None:
        raise DevicePermanentError(f"{endpoint.url}: there is no folder for the edge's own certificate")
    policy = getattr(security_policies, _POLICIES[endpoint.security_policy])
    mode = ua.MessageSecurityMode[endpoint.security_mode]
    offers = await Client(endpoint.url, timeout=endpoint.timeout_s).connect_and_get_server_endpoints()
    offer = next((one for one in offers if (one.SecurityPolicyUri, one.SecurityMode) == (policy.URI, mode)), None)
    if offer is None:
        have = sorted({f"{(one.SecurityPolicyUri or '').rpartition('#')[2]}/{one.SecurityMode.name}" for one in offers})
        wanted = f"{endpoint.security_policy}/{endpoint.security_mode}"
        raise DevicePermanentError(f"{endpoint.url}: offers no {wanted}; it has {', '.join(have) or 'nothing'}")
    host = urlsplit(endpoint.url).hostname or ""
    certificate = pki.check(offer.ServerCertificate or b"", offer.Server.ApplicationUri, endpoint.url, host)
    identity = await asyncio.to_thread(pki.identity)
    client.application_uri = identity.uri
    await client.set_security(
        policy,
        CertProperties(identity.certificate, "der"),
        CertProperties(identity.key, "pem"),
        server_certificate=CertProperties(first_certificate(offer.ServerCertificate), "der"),
        mode=mode,
    )
    return certificate


def _password(endpoint: OpcUaEndpoint) -> str | None:
    if endpoint.password_file is None:
        return None
    try:
        return endpoint.password_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DevicePermanentError(f"{endpoint.url}: password_file {endpoint.password_file} cannot be read: {error}") from error


def _check_password_stays_secret(client: Client, endpoint: OpcUaEndpoint) -> None:
    """A password leaves encrypted, by the channel or by itself: a signed channel alone does not hide it."""
    from asyncua import ua
    from asyncua.crypto.security_policies import SecurityPolicyNone

    if endpoint.username is None or (endpoint.security_mode == "SignAndEncrypt" and not endpoint.insecure):
        return
    if client.server_policy(ua.UserTokenType.UserName).SecurityPolicyUri in ("", None, SecurityPolicyNone.URI):
        raise DevicePermanentError(
            f"{endpoint.url}: the server wants the password in plain text over a channel that is not encrypted; "
            "use security_mode: SignAndEncrypt"
        )
