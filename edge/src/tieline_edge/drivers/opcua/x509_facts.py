"""What a certificate says of itself, and how the edge's own is made."""

from __future__ import annotations

import socket
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.x509 import Certificate, SubjectAlternativeName

#: Basic256Sha256 asks for RSA keys of 2048 to 4096 bits (OPC 10000-7).
MIN_KEY_BITS: Final = 2048
MAX_KEY_BITS: Final = 4096
_VALID: Final = timedelta(days=5 * 365)


def thumbprint(certificate: Certificate) -> str:
    """SHA-1 of the DER in upper-case hex: the name OPC-UA gives a certificate (OPC 10000-4, 7.2), not a proof of anything."""
    from cryptography.hazmat.primitives.hashes import SHA1

    return certificate.fingerprint(SHA1()).hex().upper()  # noqa: S303 - the standard's name for a certificate


def _alternative_names(certificate: Certificate) -> SubjectAlternativeName | None:
    from cryptography import x509

    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return None


def application_uris(certificate: Certificate) -> list[str]:
    """ApplicationUris in subjectAltName."""
    from cryptography import x509

    names = _alternative_names(certificate)
    return [] if names is None else names.get_values_for_type(x509.UniformResourceIdentifier)


def host_names(certificate: Certificate) -> list[str]:
    """Host names and addresses in subjectAltName."""
    from cryptography import x509

    names = _alternative_names(certificate)
    if names is None:
        return []
    return [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]


def is_authority(certificate: Certificate) -> bool:
    """True when it may issue certificates."""
    from cryptography import x509

    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def new_key() -> bytes:
    """A fresh RSA key, PEM (PKCS #8)."""
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = rsa.generate_private_key(65537, MIN_KEY_BITS)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def self_signed(key: RSAPrivateKey, uri: str, name: str, now: datetime, valid: timedelta = _VALID) -> bytes:
    """An application instance certificate for a client, DER: the fields OPC 10000-6, table 37, asks for.

    Args:
        key: The application's key.
        uri: ApplicationUri.
        name: Common name.
        now: Wall time; valid from a day earlier, for servers whose clock is behind.
        valid: For how long.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tieline"), x509.NameAttribute(NameOID.COMMON_NAME, name[:64])]
    )
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=True,
        key_encipherment=True,
        data_encipherment=True,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    names = [x509.UniformResourceIdentifier(uri), x509.DNSName(socket.gethostname())]
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + valid)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(own, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own), critical=False)
        .sign(key, SHA256())
        .public_bytes(Encoding.DER)
    )
