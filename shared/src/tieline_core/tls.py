"""TLS towards a broker: a socket that leaves nothing behind, and why a connection did not come about, in words."""

from __future__ import annotations

import socket
import ssl
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
