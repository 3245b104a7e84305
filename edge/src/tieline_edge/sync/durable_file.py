"""Small facts that must survive power loss: written beside, synced, renamed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

from tieline_core.errors import BadInputError

_MAX_BYTES: Final = 1024 * 1024


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


class Counters:
    """Named numbers that only grow, one JSON file.

    Raises:
        BadInputError: The file is there but unreadable; guessing would let old messages be replayed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers: dict[str, int] = {}
        if not path.exists():
            return
        try:
            numbers = json.loads(path.read_bytes()[:_MAX_BYTES])
            self._numbers = {str(name): int(number) for name, number in numbers.items()}
        except (ValueError, AttributeError, TypeError) as error:
            raise BadInputError(str(path), "", path.read_bytes()[:40], f"not a file of counters: {error}") from error

    def last(self, name: str) -> int:
        """The number stored last, 0 when there is none."""
        return self._numbers.get(name, 0)

    def advance(self, name: str, number: int) -> bool:
        """Store a number durably when it is above the last one; False when it is not."""
        if number <= self.last(name):
            return False
        numbers = {**self._numbers, name: number}
        write_durably(self._path, json.dumps(numbers).encode())
        self._numbers = numbers
        return True
