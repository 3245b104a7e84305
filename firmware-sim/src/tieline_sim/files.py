"""Files that are either the old or the new one, never half of it."""

from __future__ import annotations

import os
from pathlib import Path


def replace_file(path: Path, text: str, *, durable: bool = False) -> None:
    """Write ``text`` beside ``path`` and rename it over.

    Args:
        path: Target.
        text: Whole new content.
        durable: Also sync to disk before the rename (a killed process needs no sync, a power cut does).
    """
    spare = path.with_name(path.name + ".new")
    with spare.open("w", encoding="utf-8") as handle:
        handle.write(text)
        if durable:
            handle.flush()
            os.fsync(handle.fileno())
    spare.replace(path)


def append_record(descriptor: int, line: str) -> None:
    """Append one line by a single system call: after a SIGKILL it is there whole or not at all."""
    os.write(descriptor, line.encode("utf-8") + b"\n")


def open_log(path: Path) -> int:
    """Open a file for :func:`append_record`; a torn last line of an earlier life is closed first."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        os.write(descriptor, b"\n")
    return descriptor
