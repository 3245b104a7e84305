"""Why a connection did not come about, in words."""

from __future__ import annotations

import errno
import os
import socket
import ssl

import pytest

from tieline_core.tls import connect_words


def unknown_authority(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, message
    return error


@pytest.mark.parametrize(
    ("error", "own", "words"),
    [
        (unknown_authority(19, "self-signed certificate in certificate chain"), False, "name the authority's in ca_file"),
        (unknown_authority(20, "unable to get local issuer certificate"), True, "is not the one in ca_file"),
        (unknown_authority(10, "certificate has expired"), True, "its certificate is refused: certificate has expired"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), False, "is this the port for TLS?"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), False, "do both sides speak TLS, or neither?"),
        (socket.gaierror(-2, "Name or service not known"), False, "no computer of this name is known"),
        (ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED)), False, "Connection refused"),
        (TimeoutError("timed out"), False, "timed out"),
    ],
)
def test_the_reason_says_what_to_put_right(error: OSError, own: bool, words: str) -> None:
    assert words in connect_words(error, own_authority=own)
    assert "Errno" not in connect_words(error, own_authority=own)
