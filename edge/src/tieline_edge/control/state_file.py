"""One small file that is replaced as a whole: either the old text or the new one, never half of either."""

from __future__ import annotations

import os
from pathlib import Path

#: Refused unread beyond this; the largest state is a few plans of a few hundred devices.
MAX_BYTES = 32 * 1024 * 1024


class StateFile:
    """Durable text at a path.

    Args:
        path: Where; its folder is made when it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def read(self) -> str | None:
        """The stored text; None when there is none or it cannot be text of ours."""
        try:
            if self.path.stat().st_size > MAX_BYTES:
                return None
            return self.path.read_text(encoding="utf-8")
        except (FileNotFoundError, UnicodeDecodeError):
            return None

    def write(self, text: str) -> None:
        """Replace the text; on return it has reached the disk.

        Raises:
            OSError: When the disk refused; the old text is still there.
        """
        fresh = self.path.with_name(self.path.name + ".new")
        with fresh.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def set_aside(self) -> Path:
        """Move an unreadable state out of the way, keep it for inspection, and say where it is."""
        aside = self.path.with_name(self.path.name + ".unreadable")
        if self.path.exists():
            self.path.replace(aside)
        return aside
