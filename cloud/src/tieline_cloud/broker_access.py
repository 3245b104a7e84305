"""What a broker asks for before it lets the hub in: TLS, a user, a password. Read anew at each connection."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Protocol

from paho.mqtt.client import Client

from tieline_core.errors import BadInputError
from tieline_core.tls import password_in, trusting, unusable


class Access(Protocol):
    """The part of a broker's address this needs."""

    @property
    def insecure(self) -> bool: ...
    @property
    def username(self) -> str | None: ...
    @property
    def password_file(self) -> Path | None: ...
    @property
    def ca_file(self) -> Path | None: ...


def prepare(client: Client, access: Access) -> None:
    """Give a client that is not connected yet what its broker asks for.

    Raises:
        BadInputError: A file that is named cannot be used.
    """
    if not access.insecure:
        client.tls_set_context(_tls_context(access.ca_file))
    if access.username is not None:
        client.username_pw_set(access.username, _password(access.password_file))


def check_files(access: Access) -> None:
    """Read the files that a connection will need.

    Raises:
        BadInputError: One of them cannot be used.
    """
    _tls_context(access.ca_file)
    _password(access.password_file)


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return trusting(ca_file)
    except OSError as error:
        raise _refused("mqtt.ca_file", ca_file, error) from error


def _password(path: Path | None) -> str | None:
    try:
        return password_in(path)
    except (OSError, UnicodeDecodeError) as error:
        raise _refused("mqtt.password_file", path, error) from error


def _refused(key: str, path: Path | None, error: OSError | UnicodeDecodeError) -> BadInputError:
    named = path or Path()
    return BadInputError(str(named), key, named.name, unusable(error))
