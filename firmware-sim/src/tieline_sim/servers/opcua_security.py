"""Sign and encrypt for the simulated OPC-UA servers: a self-signed certificate, and which clients are let in.

Key, certificate and the judgement of clients are asyncua's own; names after OPC 10000-6, 6.2.2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from asyncua import Server, ua
from asyncua.common.utils import ServiceError
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.validator import CertificateValidator, CertificateValidatorOptions
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

#: What is offered; there is no way in without security.
POLICIES: Final = (
    ua.SecurityPolicyType.Basic256Sha256_Sign,
    ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
    ua.SecurityPolicyType.Aes128Sha256RsaOaep_Sign,
    ua.SecurityPolicyType.Aes128Sha256RsaOaep_SignAndEncrypt,
    ua.SecurityPolicyType.Aes256Sha256RsaPss_Sign,
    ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt,
)


class Security:
    """Security of one server.

    Args:
        folder: Holds ``key.pem`` and ``cert.der``, made when they are missing, and ``clients``: certificates that are let in.
        uri: ApplicationUri of the server.
    """

    def __init__(self, folder: Path, uri: str) -> None:
        self.uri = uri
        self.certificate = folder / "cert.der"
        self.clients = folder / "clients"
        self._key = folder / "key.pem"

    async def prepare(self) -> None:
        """Make key and certificate."""
        self.clients.mkdir(parents=True, exist_ok=True)
        usage = [ExtendedKeyUsageOID.SERVER_AUTH]
        await setup_self_signed_certificate(self._key, self.certificate, self.uri, "localhost", usage, {})

    async def apply(self, server: Server) -> None:
        """Secure a server that is not started yet: every policy, and only clients whose certificate is in ``clients``."""
        await self.prepare()
        await server.set_application_uri(self.uri)
        await server.load_certificate(str(self.certificate))
        await server.load_private_key(str(self._key))
        server.set_security_policy(list(POLICIES))
        options = CertificateValidatorOptions.EXT_VALIDATION | CertificateValidatorOptions.PEER_CLIENT
        validator = CertificateValidator(options)

        async def judge(certificate: Any, application: Any) -> None:
            # Read anew each time: a certificate that was put into the folder counts from the next client on.
            if certificate.public_bytes(Encoding.DER) not in [path.read_bytes() for path in self.clients.glob("*.der")]:
                raise ServiceError(ua.StatusCodes.BadCertificateUntrusted)
            await validator(certificate, application)

        server.set_certificate_validator(judge)
