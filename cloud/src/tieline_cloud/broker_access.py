"""What a broker asks for before it lets the hub in: TLS, a user, a password. Read anew at each connection."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Protocol

from paho.mqtt.client import Client

from tieline_core.errors import BadInputError
from tieline_core.tls import TidySocket


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
    named = "" if ca_file is None else str(ca_file)
    try:
        context = ssl.create_default_context(cafile=named or None)
    except ssl.SSLError as error:
        raise BadInputError(named, "mqtt.ca_file", Path(named).name, "holds no certificate in PEM form") from error
    except OSError as error:
        raise BadInputError(named, "mqtt.ca_file", Path(named).name, f"cannot be read: {error.strerror}") from error
    context.sslsocket_class = TidySocket
    return context


def _password(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise BadInputError(str(path), "mqtt.password_file", path.name, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInputError(str(path), "mqtt.password_file", path.name, "is no UTF-8 text") from error
