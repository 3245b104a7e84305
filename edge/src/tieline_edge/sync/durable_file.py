"""Small facts that must survive power loss: written beside, synced, renamed."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_log = logging.getLogger(__name__)
_MAX_BYTES: Final = 1024 * 1024
#: In a file of counters: every one of them is at least this.
_FLOOR: Final = "floor"


def write_durably(path: Path, data: bytes) -> None:
    """Replace a file atomically; on return the new content is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.new")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_json(path: Path) -> object:
    """The content of a small JSON file; None when there is no file.

    Raises:
        ValueError: It is too long, no JSON, or nested beyond reason.
        OSError: The disk refuses.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    if len(data) > _MAX_BYTES:
        raise ValueError(f"longer than {_MAX_BYTES} bytes")
    try:
        found: object = json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return found


def set_aside(path: Path) -> str:
    """Keep an unreadable file under another name, and say which; a disk that refuses leaves it where it is."""
    aside = path.with_name(f"{path.name}.unreadable")
    try:
        path.replace(aside)
    except OSError:
        return path.name
    return aside.name


class Counters:
    """Named numbers that only grow, one JSON file.

    A file that is there but unreadable is kept under another name, and every number goes on above ``floor``: guessing a
    lower one would let old messages be replayed.

    Args:
        path: The file.
        floor: A number above everything that can have been used; for counters of envelopes, which are at least the
            milliseconds since 1970 at which they were signed, that is a moment after now.

    Attributes:
        damage: What was wrong with the file, for an alarm; None = nothing.
    """

    def __init__(self, path: Path, floor: int = 0) -> None:
        self._path = path
        self.damage: str | None = None
        try:
            self._numbers = _numbers(read_json(path))
        except (ValueError, OSError) as error:
            self._numbers = {_FLOOR: floor}
            self.damage = f"{path.name} is no file of counters ({error}); nothing numbered up to {floor} is obeyed any more"
            _log.error("%s", self.damage)
            self._start_anew()

    def _start_anew(self) -> None:
        """Without a moment at which the file is missing: then the next start would count from 0."""
        try:
            shutil.copyfile(self._path, self._path.with_name(f"{self._path.name}.unreadable"))
            self._write(self._numbers)
        except OSError as error:
            _log.error("%s is still unreadable: %s", self._path, error)

    def _write(self, numbers: Mapping[str, int]) -> None:
        write_durably(self._path, json.dumps(numbers).encode())

    def last(self, name: str) -> int:
        """The number stored last, 0 when there is none."""
        return max(self._numbers.get(name, 0), self._numbers.get(_FLOOR, 0))

    def advance(self, name: str, number: int) -> bool:
        """Store a number durably when it is above the last one; False when it is not."""
        if number <= self.last(name):
            return False
        numbers = {**self._numbers, name: number}
        self._write(numbers)
        self._numbers = numbers
        return True


def _numbers(found: object) -> dict[str, int]:
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ValueError(f"an object was expected, not {type(found).__name__}")
    for name, number in found.items():
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 2**63:
            raise ValueError(f"{name!r:.40} is {number!r:.40}, a whole number was expected")
    return found
