"""``tieline-edge opcua-certificate``: make, show and renew the edge's own certificate; let servers in."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from tieline_edge.drivers.opcua.pki import Pki
from tieline_edge.drivers.opcua.x509_facts import application_uris, thumbprint

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


def add_certificate_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``tieline-edge opcua-certificate``."""
    parser.description = (
        "Show the certificate by which OPC-UA servers know this edge (made when there is none), and the servers it trusts. "
        "Give the certificate's file to each server; compare a server's thumbprint with what it shows before you trust it."
    )
    parser.add_argument("config", type=Path, metavar="CONFIG", help="YAML file of the site")
    parser.add_argument("--renew", action="store_true", help="make a new certificate for the same key")
    parser.add_argument("--trust", metavar="THUMBPRINT", help="let in a server whose certificate was rejected")


def run_certificate(args: argparse.Namespace, out: TextIO | None = None) -> int:
    """Carry out ``tieline-edge opcua-certificate``.

    Raises:
        tieline_core.errors.BadInputError: When the configuration or a certificate cannot be used.
    """
    from cryptography import x509

    from tieline_edge.config_file import load_settings
    from tieline_edge.state_paths import StatePaths

    out = out or sys.stdout
    settings = load_settings(args.config)
    pki = Pki(StatePaths.below(settings.state_dir).pki, settings.edge_id)
    if args.trust is not None:
        pki.trust(args.trust)
    own = x509.load_der_x509_certificate(pki.identity(renew=args.renew).certificate)
    out.write(f"own certificate   {pki.folder / 'own' / 'cert.der'}\n{_facts(own)}")
    for title, held in (("trusted", pki.trusted()), ("rejected", pki.rejected())):
        out.write(f"{title}: {len(held) or 'none'}, in {pki.folder / title}\n")
        for certificate in held.values():
            out.write(f"  {certificate.subject.rfc4514_string()[:100]}\n{_facts(certificate)}")
    return 0


def _facts(certificate: Certificate) -> str:
    uris = ", ".join(application_uris(certificate)) or "none"
    return (
        f"  thumbprint      {thumbprint(certificate)}\n  ApplicationUri  {uris}\n"
        f"  valid           {certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}\n"
    )
