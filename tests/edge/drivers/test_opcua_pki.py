"""The edge's own certificate, the trust list, and the reasons why a server is not believed; no wire."""

from __future__ import annotations

import io
import stat
from argparse import ArgumentParser
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from tests.edge.drivers.field import EDGE
from tieline_core.clock import ManualClock, SystemClock
from tieline_core.errors import BadInputError
from tieline_edge.drivers.opcua.command import add_certificate_arguments, run_certificate
from tieline_edge.drivers.opcua.pki import CertificateRefusedError, Pki
from tieline_edge.drivers.opcua.x509_facts import application_uris, host_names, is_authority, new_key, self_signed, thumbprint

URI = "urn:test:bay"
URL = "opc.tcp://bay:4840"
NOW = SystemClock().now()


@pytest.fixture(scope="module")
def key() -> Any:
    return load_pem_private_key(new_key(), None)


def certificate(key: Any, uri: str = URI, days: int = 365) -> bytes:
    return self_signed(key, uri, "bay", NOW, timedelta(days=days))


def issued(key: Any, authority_key: Any, *, host: str = "bay") -> tuple[bytes, bytes]:
    """An authority and a server certificate it has issued."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "plant authority")])

    def begin(subject: str) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)]))
            .issuer_name(name)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(days=1))
            .not_valid_after(NOW + timedelta(days=100))
        )

    authority = (
        begin("plant authority")
        .public_key(authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, SHA256())
    )
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(URI), x509.DNSName(host)])
    leaf = begin("bay").public_key(key.public_key()).add_extension(names, critical=False).sign(authority_key, SHA256())
    return authority.public_bytes(Encoding.DER), leaf.public_bytes(Encoding.DER)


def trusting(tmp_path: Path, *certificates: bytes) -> Pki:
    (tmp_path / "trusted").mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(certificates):
        (tmp_path / "trusted" / f"{number}.der").write_bytes(one)
    return Pki(tmp_path, EDGE)


def test_the_first_start_makes_a_certificate_that_names_the_edge_and_a_key_nobody_else_reads(tmp_path: Path) -> None:
    identity = Pki(tmp_path / "pki", EDGE).identity()
    made = x509.load_der_x509_certificate(identity.certificate)
    assert application_uris(made) == [identity.uri] == ["urn:tieline:edge:harbour"]
    assert not is_authority(made)
    assert host_names(made)
    assert made.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    assert stat.S_IMODE((tmp_path / "pki/own/key.pem").stat().st_mode) == 0o600
    assert Pki(tmp_path / "pki", EDGE).identity() == identity, "the next start finds it again"
    renewed = Pki(tmp_path / "pki", EDGE).identity(renew=True)
    assert (renewed.key, renewed.uri) == (identity.key, identity.uri)
    assert renewed.certificate != identity.certificate


def test_a_certificate_of_another_key_is_no_identity(tmp_path: Path, key: Any) -> None:
    pki = Pki(tmp_path, EDGE)
    pki.identity()
    (tmp_path / "own/cert.der").write_bytes(certificate(key))
    with pytest.raises(BadInputError, match="does not belong to"):
        pki.identity()
    (tmp_path / "own/key.pem").write_text("no key", encoding="utf-8")
    with pytest.raises(BadInputError, match="no private key in PEM"):
        pki.identity()


@pytest.mark.parametrize(
    ("uri", "days_later", "reason"),
    [
        (URI, 366, "has expired on"),
        (URI, -2, "is the gateway's clock right"),
        ("urn:other", 0, "is for urn:test:bay, but the server calls itself urn:other"),
        (None, 0, "calls itself None"),
    ],
)
def test_a_trusted_certificate_still_has_to_be_right(
    tmp_path: Path, key: Any, uri: str | None, days_later: int, reason: str
) -> None:
    der = certificate(key)
    trusting(tmp_path, der).check(der, URI, URL, "bay")
    pki = Pki(tmp_path, EDGE, ManualClock(NOW + timedelta(days=days_later)))
    with pytest.raises(CertificateRefusedError, match=reason):
        pki.check(der, uri, URL, "bay")


def test_a_weak_or_foreign_key_is_refused(tmp_path: Path) -> None:
    weak = certificate(rsa.generate_private_key(65537, 1024))  # noqa: S505 - weak on purpose
    curve: Any = ec.generate_private_key(ec.SECP256R1())
    for der in (weak, self_signed(curve, URI, "bay", NOW)):
        with pytest.raises(CertificateRefusedError, match="no RSA key of 2048 to 4096 bits"):
            trusting(tmp_path, der).check(der, URI, URL, "bay")


@pytest.mark.parametrize("der", [b"", b"\x30\x82", b"0" * 3000])
def test_what_is_no_certificate_is_refused(tmp_path: Path, der: bytes) -> None:
    with pytest.raises(CertificateRefusedError, match="cannot be read"):
        trusting(tmp_path).check(der, URI, URL, "bay")


def test_an_authority_lets_in_whom_it_has_named_for_that_host_until_it_revokes(tmp_path: Path, key: Any) -> None:
    authority_key = load_pem_private_key(new_key(), None)
    authority, leaf = issued(key, authority_key)
    pki = trusting(tmp_path, authority)
    assert pki.check(leaf + authority, URI, URL, "bay").public_bytes(Encoding.DER) == leaf
    with pytest.raises(CertificateRefusedError, match="for bay, not for other"):
        pki.check(leaf, URI, URL, "other")
    serial = x509.load_der_x509_certificate(leaf).serial_number
    signer: Any = authority_key
    revoked = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(x509.load_der_x509_certificate(authority).subject)
        .last_update(NOW)
        .next_update(NOW + timedelta(days=1))
        .add_revoked_certificate(x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW).build())
        .sign(signer, SHA256())
    )
    (tmp_path / "crl").mkdir()
    (tmp_path / "crl/plant.crl").write_bytes(revoked.public_bytes(Encoding.DER))
    with pytest.raises(CertificateRefusedError, match="revoked by its authority"):
        pki.check(leaf, URI, URL, "bay")
    (tmp_path / "crl/plant.crl").write_bytes(b"torn")
    with pytest.raises(CertificateRefusedError, match="is no revocation list"):
        pki.check(leaf, URI, URL, "bay")


def test_a_trusted_server_is_no_authority_over_others(tmp_path: Path, key: Any) -> None:
    server = certificate(key)
    _, leaf = issued(key, key)
    with pytest.raises(CertificateRefusedError, match="is not trusted"):
        trusting(tmp_path, server).check(leaf, URI, URL, "bay")


def test_a_server_that_shows_a_new_certificate_each_time_does_not_fill_the_disk(tmp_path: Path, key: Any) -> None:
    pki = trusting(tmp_path)
    for number in range(70):
        with pytest.raises(CertificateRefusedError, match="is not trusted"):
            pki.check(certificate(key, f"urn:{number}"), f"urn:{number}", URL, "bay")
    assert len(list((tmp_path / "rejected").iterdir())) == 64


def test_the_command_makes_shows_and_trusts(tmp_path: Path, key: Any) -> None:
    config = tmp_path / "site.yaml"
    site = {
        "edge_id": "harbour", "state_dir": str(tmp_path / "state"), "site": {"name": "Harbour", "rated_va": 630000},
        "hub": {"mqtt": {"host": "127.0.0.1", "insecure": True}, "http": "http://127.0.0.1:1"},
        "devices": [{"id": "tr1", "catalog": "transformer-bay-opcua", "opcua": {"url": URL}}],
    }  # fmt: skip
    config.write_text(yaml.safe_dump(site), encoding="utf-8")
    der = certificate(key)
    print_ = thumbprint(x509.load_der_x509_certificate(der))
    with pytest.raises(CertificateRefusedError):
        Pki(tmp_path / "state/pki", EDGE).check(der, URI, URL, "bay")
    parser = ArgumentParser()
    add_certificate_arguments(parser)
    out = io.StringIO()
    assert run_certificate(parser.parse_args([str(config), "--trust", print_]), out) == 0
    assert "ApplicationUri  urn:tieline:edge:harbour" in out.getvalue()
    assert "trusted: 1" in out.getvalue()
    assert "rejected: none" in out.getvalue()
    assert print_ in out.getvalue()
    with pytest.raises(BadInputError, match="was not rejected; there are: none"):
        run_certificate(parser.parse_args([str(config), "--trust", "AB12"]), out)
