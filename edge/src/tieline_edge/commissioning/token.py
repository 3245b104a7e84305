"""The key to the orders a running edge takes on loopback: a file only the user it runs as may read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

from tieline_core.errors import BadInputError

_BYTES: Final = 32
_MAX_CHARS: Final = 200


def new_token(path: Path) -> str:
    """A fresh token in a file of mode 0600, replacing an earlier one.

    Raises:
        OSError: When the disk refuses.
    """
    token = secrets.token_urlsafe(_BYTES)
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(token + "\n")
    fresh.replace(path)
    return token


def read_token(path: Path) -> str:
    """The token of a running edge.

    Raises:
        BadInputError: It cannot be read by this user, or there is none.
    """
    try:
        with path.open("rb") as file:
            return file.read(_MAX_CHARS).decode("ascii", "replace").strip()
    except PermissionError as error:
        reason = "only the user the edge runs as may give it orders; become that user (e.g. with sudo -u)"
        raise BadInputError(str(path), "", path.name, reason) from error
    except OSError as error:
        raise BadInputError(str(path), "", path.name, f"cannot be read: {error.strerror}; has this edge run yet?") from error
