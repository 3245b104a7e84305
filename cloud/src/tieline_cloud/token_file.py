"""Secrets the hub is given as files: one line, readable by its owner only, long enough not to be guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tieline_core.errors import BadInputError

MIN_CHARS: Final = 32
MAX_CHARS: Final = 4096


def read_secret(path: Path, key: str, min_chars: int = MIN_CHARS) -> str:
    """The secret in a file, without the line end.

    Args:
        path: The file.
        key: Key of the settings that names it, for the error.
        min_chars: Least length; a password somebody else chose may be shorter than a token of ours.

    Raises:
        BadInputError: When it is missing, readable by others, too short, or no single line of printable ASCII.
    """
    try:
        mode = path.stat().st_mode & 0o777
        with path.open("rb") as file:
            data = file.read(MAX_CHARS + 2)
    except OSError as error:
        raise BadInputError(str(path), key, path.name, f"cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise BadInputError(str(path), key, oct(mode), "others may read this secret; run chmod 600 on it")
    text = data.decode("ascii", "replace").rstrip("\r\n")
    if not min_chars <= len(text) <= MAX_CHARS or not text.isascii() or not text.isprintable() or " " in text:
        reason = f"a secret is one line of {min_chars} to {MAX_CHARS} printable characters without spaces"
        raise BadInputError(str(path), key, f"{len(text)} characters", reason)
    return text
