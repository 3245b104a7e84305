"""What processes cost, read from the kernel."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def cpu_s(pid: int) -> float:
    """CPU seconds of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(int(text) for text in fields[11:15]) / _TICKS


def rss_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


@dataclass(slots=True)
class Track:
    """One process over time: seconds since the start, CPU seconds, resident bytes."""

    pid: int
    at_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    rss: list[int] = field(default_factory=list)


class Watch:
    """Looks at named processes every second, in a thread of its own."""

    def __init__(self, pids: dict[str, int]) -> None:
        self.tracks = {name: Track(pid) for name, pid in pids.items()}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(1.0):
            for track in self.tracks.values():
                try:
                    cpu, rss = cpu_s(track.pid), rss_bytes(track.pid)
                except (OSError, IndexError):
                    continue
                track.at_s.append(time.monotonic())
                track.cpu_s.append(cpu)
                track.rss.append(rss)

    def now(self) -> dict[str, float]:
        """CPU seconds so far by name."""
        return {name: cpu_s(track.pid) for name, track in self.tracks.items()}
