"""Whom an edge believes: the hub keys of its configuration."""

from __future__ import annotations

from collections.abc import Sequence

from tieline_core.errors import BadInputError
from tieline_core.signing import key_id


def trusted_keys(public_keys: Sequence[str], source: str = "configuration") -> dict[str, bytes]:
    """Public keys of the configuration by key id; ``source`` is the file they stand in, for messages.

    Raises:
        BadInputError: One of them is no 32-byte key in hexadecimal.
    """
    keys = {}
    for number, text in enumerate(public_keys):
        try:
            raw = bytes.fromhex(text)
        except ValueError as error:
            raise BadInputError(source, f"hub.public_keys[{number}]", text, "expected hexadecimal digits") from error
        if len(raw) != 32:
            raise BadInputError(source, f"hub.public_keys[{number}]", text, f"{len(raw)} bytes, expected 32")
        keys[key_id(raw)] = raw
    return keys
