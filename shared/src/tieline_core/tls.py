"""The way to a broker: trust, password, a socket that leaves nothing behind, and in words why it did not come about."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Final

#: Codes of X509_verify_cert(3): the chain ends at an authority that is not among the trusted ones.
_UNKNOWN_AUTHORITY: Final = frozenset({18, 19, 20, 21})


class TidySocket(ssl.SSLSocket):
    """Closed when the handshake fails; paho leaves such a socket to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):  # not failed, only not over
            raise
        except BaseException:
            self.close()
            raise


def trusting(ca_file: Path | None) -> ssl.SSLContext:
    """Trust in one authority, or without a file in those of the system.

    Raises:
        OSError: The file cannot be used; :func:`unusable` says why.
    """
    context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    context.sslsocket_class = TidySocket
    return context


def password_in(path: Path | None) -> str | None:
    """The password of a file, without the line's end; None where no file is named.

    Raises:
        OSError, UnicodeDecodeError: The file cannot be used; :func:`unusable` says why.
    """
    return None if path is None else path.read_text(encoding="utf-8").strip()


def unusable(error: OSError | UnicodeDecodeError) -> str:
    """Say why a file of certificates or a password cannot be used."""
    if isinstance(error, UnicodeDecodeError):
        return "is no UTF-8 text"
    return "holds no certificate in PEM form" if isinstance(error, ssl.SSLError) else f"cannot be read: {error.strerror}"


def connect_words(error: OSError, *, own_authority: bool) -> str:
    """Say why dialling failed.

    Args:
        error: What the socket or TLS said.
        own_authority: Whether a ``ca_file`` is configured, instead of the authorities of the system.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code not in _UNKNOWN_AUTHORITY:
            return f"its certificate is refused: {error.verify_message}"
        trusted = "the one in ca_file" if own_authority else "one this system trusts; name the authority's in ca_file"
        return f"its certificate is refused ({error.verify_message}): the authority that signed it is not {trusted}"
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", None)  # absent where Python itself raised it
        return f"no TLS comes about ({str(reason or error).replace('_', ' ').lower()}); is this the port for TLS?"
    if isinstance(error, ConnectionResetError):
        return "it hangs up at once; do both sides speak TLS, or neither?"
    if isinstance(error, socket.gaierror):
        return f"no computer of this name is known ({error.strerror})"
    return error.strerror or str(error)
