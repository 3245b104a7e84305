"""One process at a time works with the state of an edge: the agent, or somebody at a stopped edge."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tieline_core.errors import TransientError

_FILE: Final = "state.lock"
_MAX_BYTES: Final = 200


class StateHeldError(TransientError):
    """Another process works with this state folder.

    Attributes:
        holder: Who, in its own words.
    """

    def __init__(self, folder: Path, holder: str) -> None:
        self.holder = holder
        super().__init__(f"{folder} is in use by {holder or 'another process'}")


class StateFolderError(TransientError):
    """The state folder cannot be made or written; a disk or a permission may be put right at any moment."""


@contextmanager
def hold_state(folder: Path, purpose: str) -> Iterator[None]:
    """Be the only one who works with a state folder while the context is open; a killed process lets go by itself.

    Args:
        folder: Made when it is missing.
        purpose: What for, told to whoever comes second, e.g. ``the running agent``.

    Raises:
        StateHeldError: Somebody else does.
        StateFolderError: There is no folder to work with.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, ours = _open(folder / _FILE)
    except OSError as error:
        raise StateFolderError(f"state_dir = '{folder}': nothing can be kept there: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, _MAX_BYTES, 0).decode("utf-8", "replace").strip()
            raise StateHeldError(folder, holder) from error
        if ours:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{purpose} (process {os.getpid()})\n".encode()[:_MAX_BYTES], 0)
        yield
    finally:
        os.close(descriptor)


def _open(path: Path) -> tuple[int, bool]:
    """The file, and whether it may be written: another user's can still be locked."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), True
    except PermissionError:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC), False
