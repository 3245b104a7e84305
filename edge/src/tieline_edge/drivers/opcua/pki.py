"""The edge's own OPC-UA certificate and its list of trusted servers (OPC 10000-4, 6.1; OPC 10000-6, 6.2.2).

A folder of four: ``own`` holds ``key.pem`` and ``cert.der``, ``trusted`` the servers (or the authorities that issue for them)
an engineer has let in, ``rejected`` the servers that asked and were not, ``crl`` revocation lists of trusted authorities.
Certificates are judged by wall time: a simulated clock has no say in them. The lists are read at every connection, so moving a
file is enough.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tieline_core.clock import Clock, SystemClock
from tieline_core.errors import BadInputError, PermanentError
from tieline_core.ids import EdgeId
from tieline_edge.drivers.opcua.x509_facts import (
    MAX_KEY_BITS,
    MIN_KEY_BITS,
    application_uris,
    host_names,
    is_authority,
    new_key,
    self_signed,
    thumbprint,
)

if TYPE_CHECKING:
    from cryptography.x509 import Certificate, CertificateRevocationList

#: Warned so long before a certificate ends.
_WARNING: Final = timedelta(days=30)
#: A server that shows a new certificate each time must not fill the disk.
_MAX_REJECTED: Final = 64
_MAX_FILE_BYTES: Final = 64 * 1024
_SUFFIXES: Final = (".der", ".cer", ".crt", ".pem")


class CertificateRefusedError(PermanentError):
    """A server certificate that must not be believed; the text says why, and what to do where something can be done."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The edge as OPC-UA servers know it.

    Attributes:
        uri: ApplicationUri, also in the certificate's subjectAltName.
        certificate: DER.
        key: Private key, PEM (PKCS #8), not encrypted; its file is readable by its owner only.
    """

    uri: str
    certificate: bytes
    key: bytes


class Pki:
    """Own certificate and trust list of one edge.

    Args:
        folder: Where they are kept.
        edge: Names the edge in its certificate.
        wall: Wall time that certificates are judged by.
    """

    def __init__(self, folder: Path, edge: EdgeId, wall: Clock | None = None) -> None:
        self.folder, self._edge, self._wall = folder, edge, wall or SystemClock()
        self._making = threading.Lock()
        #: Thumbprint -> when to warn again.
        self._warned: dict[str, datetime] = {}

    @property
    def uri(self) -> str:
        """The edge's ApplicationUri."""
        return f"urn:tieline:edge:{self._edge}"

    def identity(self, *, renew: bool = False) -> Identity:
        """Own certificate and key, made when they are not there yet.

        Args:
            renew: Make a new certificate for the same key, although there is one.

        Raises:
            BadInputError: When the files cannot be used.
        """
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

        key_file, certificate_file = self.folder / "own" / "key.pem", self.folder / "own" / "cert.der"
        with self._making:
            if not key_file.exists():
                _keep(key_file, new_key(), secret=True)
            try:
                key = serialization.load_pem_private_key(key_file.read_bytes(), None)
            except (OSError, ValueError, TypeError) as error:
                raise BadInputError(str(key_file), "", None, f"no private key in PEM without password: {error}") from error
            if not isinstance(key, RSAPrivateKey):
                raise BadInputError(str(key_file), "", type(key).__name__, "an RSA key is expected")
            if renew or not certificate_file.exists():
                _keep(certificate_file, self_signed(key, self.uri, str(self._edge), self._wall.now()))
            try:
                der = certificate_file.read_bytes()
                certificate = x509.load_der_x509_certificate(der)
            except (OSError, ValueError) as error:
                raise BadInputError(str(certificate_file), "", None, f"no certificate in DER: {error}") from error
        if certificate.public_key() != key.public_key():
            raise BadInputError(str(certificate_file), "", thumbprint(certificate), f"does not belong to {key_file}")
        uris = application_uris(certificate)
        if not uris:
            raise BadInputError(str(certificate_file), "subjectAltName", None, "an ApplicationUri is missing")
        return Identity(uris[0], der, key_file.read_bytes())

    def check(self, der: bytes, server_uri: str | None, url: str, host: str) -> Certificate:
        """Judge a server's certificate; one that is not trusted is kept in ``rejected``.

        Args:
            der: As the server sent it; a chain behind it is ignored.
            server_uri: ApplicationUri the server claims.
            url: For the message.
            host: Host it was reached by; must stand in a certificate that an authority issued.

        Raises:
            CertificateRefusedError: Expired, not valid yet, too weak, of another application, revoked or not trusted.
        """
        from cryptography import x509

        try:
            certificate = x509.load_der_x509_certificate(first_certificate(der))
        except ValueError as error:
            raise CertificateRefusedError(f"{url}: the server's certificate cannot be read: {error}") from error
        reason = self._flaw(certificate, server_uri) or self._distrust(certificate, host)
        if reason is not None:
            print_ = thumbprint(certificate)
            raise CertificateRefusedError(
                f"{url}: certificate {certificate.subject.rfc4514_string()[:120]} ({print_}) {reason}"
            )
        return certificate

    def warnings(self, server: Certificate | None) -> Iterator[str]:
        """Words about the edge's own and a server's certificate, when they end within 30 days; each once a day."""
        from cryptography import x509

        own = x509.load_der_x509_certificate(self.identity().certificate)
        advice = "renew it: tieline-edge opcua-certificate CONFIG --renew, then trust it at the servers"
        for certificate, whose, what_to_do in ((own, "the edge's own", advice), (server, "the server's", "renew it there")):
            if certificate is None:
                continue
            now, end = self._wall.now(), certificate.not_valid_after_utc
            print_ = thumbprint(certificate)
            if end - now > _WARNING or now < self._warned.get(print_, now):
                continue
            self._warned[print_] = now + timedelta(days=1)
            days = max(0, (end - now).days)
            yield f"{whose} OPC-UA certificate {print_} ends in {days} days, on {end:%Y-%m-%d}; {what_to_do}"

    def rejected(self) -> dict[str, Certificate]:
        """Certificates that wait for a decision, by thumbprint."""
        return {thumbprint(certificate): certificate for certificate in _certificates(self.folder / "rejected")}

    def trusted(self) -> dict[str, Certificate]:
        """Trusted servers and authorities, by thumbprint."""
        return {thumbprint(certificate): certificate for certificate in _certificates(self.folder / "trusted")}

    def trust(self, print_: str) -> None:
        """Move a rejected certificate to the trusted ones.

        Raises:
            BadInputError: When none of that thumbprint was rejected.
        """
        wanted = print_.replace(":", "").replace(" ", "").upper()
        source = self.folder / "rejected" / f"{wanted}.der"
        if wanted not in self.rejected() or not source.exists():
            have = ", ".join(sorted(self.rejected())) or "none"
            raise BadInputError(str(self.folder / "rejected"), "thumbprint", print_, f"was not rejected; there are: {have}")
        (self.folder / "trusted").mkdir(parents=True, exist_ok=True)
        source.replace(self.folder / "trusted" / source.name)

    def _flaw(self, certificate: Certificate, server_uri: str | None) -> str | None:
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

        now = self._wall.now()
        if certificate.not_valid_after_utc < now:
            return f"has expired on {certificate.not_valid_after_utc:%Y-%m-%d}; the server needs a new one"
        if certificate.not_valid_before_utc > now:
            start = certificate.not_valid_before_utc
            return f"is valid from {start:%Y-%m-%d} on only; is the gateway's clock right ({now:%Y-%m-%d})?"
        key = certificate.public_key()
        if not isinstance(key, RSAPublicKey) or not MIN_KEY_BITS <= key.key_size <= MAX_KEY_BITS:
            return f"has no RSA key of {MIN_KEY_BITS} to {MAX_KEY_BITS} bits, as its policy asks for"
        uris = application_uris(certificate)
        if server_uri is None or server_uri not in uris:
            return f"is for {', '.join(uris) or 'no application'}, but the server calls itself {server_uri}"
        return None

    def _distrust(self, certificate: Certificate, host: str) -> str | None:
        trusted = self.trusted()
        if thumbprint(certificate) in trusted:
            return None
        for authority in trusted.values():
            if not is_authority(authority) or not _issued(certificate, authority):
                continue
            if not authority.not_valid_before_utc <= self._wall.now() <= authority.not_valid_after_utc:
                return "was issued by a trusted authority whose own certificate is not valid now"
            if _revoked(certificate, authority, self.folder / "crl"):
                return "was revoked by its authority"
            if host not in host_names(certificate):
                names = ", ".join(host_names(certificate)) or "no host"
                return f"was issued by a trusted authority, but for {names}, not for {host}"
            return None
        return self._reject(certificate)

    def _reject(self, certificate: Certificate) -> str:
        from cryptography.hazmat.primitives.serialization import Encoding

        folder = self.folder / "rejected"
        target = folder / f"{thumbprint(certificate)}.der"
        held = sorted(folder.glob("*.der"), key=lambda path: path.stat().st_mtime) if folder.exists() else []
        if target not in held:
            for oldest in held[: max(0, len(held) + 1 - _MAX_REJECTED)]:
                oldest.unlink(missing_ok=True)
            _keep(target, certificate.public_bytes(Encoding.DER))
        return (
            f"is not trusted; it was put into {target}. Compare the thumbprint with what the server itself shows, then move "
            f"the file to {self.folder / 'trusted'} (or: tieline-edge opcua-certificate CONFIG --trust {target.stem})"
        )


def first_certificate(der: bytes) -> bytes:
    """The leading certificate of a DER chain: its outer SEQUENCE has a two-byte length, as any real certificate's."""
    return der[: int.from_bytes(der[2:4], "big") + 4] if der[:2] == b"\x30\x82" else der


def _certificates(folder: Path) -> Iterator[Certificate]:
    """All certificates of a folder; a file that is none is passed over, because it is trusted by nobody."""
    from cryptography import x509

    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.suffix.lower() not in _SUFFIXES or path.stat().st_size > _MAX_FILE_BYTES:
            continue
        data = path.read_bytes()
        try:
            yield x509.load_pem_x509_certificate(data) if b"-----BEGIN" in data else x509.load_der_x509_certificate(data)
        except ValueError:
            continue


def _issued(certificate: Certificate, authority: Certificate) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _revoked(certificate: Certificate, authority: Certificate, folder: Path) -> bool:
    """True when a list signed by the authority names the certificate."""
    for revocations in _revocation_lists(folder):
        if revocations.issuer != authority.subject or not revocations.is_signature_valid(authority.public_key()):  # type: ignore[arg-type]  # an RSA key: _issued has verified with it
            continue
        if revocations.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
            return True
    return False


def _revocation_lists(folder: Path) -> Iterator[CertificateRevocationList]:
    from cryptography import x509

    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        data = path.read_bytes()
        try:
            yield x509.load_pem_x509_crl(data) if b"-----BEGIN" in data else x509.load_der_x509_crl(data)
        except ValueError as error:
            # Nobody knows whom it would have named: believing its authority would fail open.
            raise CertificateRefusedError(f"{path} is no revocation list: {error}") from error


def _keep(path: Path, data: bytes, *, secret: bool = False) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if secret else 0o644)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
