"""What a broker asks for before it lets the edge in: TLS, a user, a password. Read anew at each connection."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from tieline_core.errors import TransientError
from tieline_core.tls import password_in, trusting, unusable
from tieline_edge.settings import MqttEndpoint

if TYPE_CHECKING:
    from paho.mqtt.client import Client


class AccessFileError(TransientError):
    """A file that the way to a broker or hub needs cannot be used; somebody may put it right at any moment."""

    def __init__(self, key: str, path: Path | None, reason: str) -> None:
        super().__init__(f"{key} = {str(path)!r}: {reason}")


def prepare(client: Client, endpoint: MqttEndpoint) -> None:
    """Give a client that is not connected yet what its broker asks for.

    Raises:
        AccessFileError: A file that is named cannot be used.
    """
    if not endpoint.insecure:
        client.tls_set_context(tls_context(endpoint.ca_file))
    if endpoint.username is not None:
        client.username_pw_set(endpoint.username, _password(endpoint.password_file))


def tls_context(ca_file: Path | None, key: str = "ca_file") -> ssl.SSLContext:
    """Trust in one authority, or without a file in those of the system.

    Raises:
        AccessFileError: The file cannot be used.
    """
    try:
        return trusting(ca_file)
    except OSError as error:
        raise AccessFileError(key, ca_file, unusable(error)) from error


def _password(path: Path | None) -> str | None:
    try:
        return password_in(path)
    except (OSError, UnicodeDecodeError) as error:
        raise AccessFileError("password_file", path, unusable(error)) from error
