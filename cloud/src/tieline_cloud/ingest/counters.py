"""What ingest counts; plain numbers, made into metrics elsewhere."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from tieline_cloud.store.ports import Verdict

#: Why a message was turned away at the door.
TURNED_AWAY: Final = ("hello_rate", "frame_rate", "byte_rate", "queue", "waits_already")
_LATENCIES: Final = 4096


@dataclass(slots=True)
class DurableCounters:
    """Durable lane since the start; written by the ledger thread, read by anybody."""

    frames: dict[Verdict, int] = field(default_factory=lambda: dict.fromkeys(Verdict, 0))
    readings: int = 0
    refused_bodies: int = 0
    garbage: int = 0
    hellos: int = 0
    epochs_granted: int = 0
    commits: int = 0
    commit_seconds: float = 0.0
    commit_failures: int = 0
    acknowledgements: int = 0
    pending: int = 0
    pending_bytes: int = 0
    blocked: int = 0
    garbage_kept: int = 0
    events_withheld: int = 0
    epochs_refused: int = 0
    hellos_from_memory: int = 0
    skips_refused: int = 0
    retained: int = 0
    turned_away: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TURNED_AWAY, 0))
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=_LATENCIES))
    connects: int = 0
    newest_measured_at: datetime | None = None

    def settled(self, latencies_s: Iterable[float]) -> None:
        """Frames are committed: how long each took from its arrival [s]."""
        self.latencies_s.extend(latencies_s)

    def latency_s(self, share: float) -> float | None:
        """Time from arrival to commit that this share of the last frames stayed below; None before the first."""
        newest = sorted(self.latencies_s.copy())
        return newest[min(len(newest) - 1, int(share * len(newest)))] if newest else None

    def age_s(self, now: datetime) -> float | None:
        """Age of the newest committed reading; None before the first."""
        return None if self.newest_measured_at is None else (now - self.newest_measured_at).total_seconds()


@dataclass(slots=True)
class LiveCounters:
    """Live lane since the start; written and read in the event loop."""

    births: int = 0
    deaths: int = 0
    data: int = 0
    stale_deaths: int = 0
    duplicates: int = 0
    rebirths_requested: int = 0
    garbage: int = 0
    not_admitted: int = 0
    dropped: int = 0
    rival_hosts: int = 0
    not_finite: int = 0
    texts_ignored: int = 0
    names_refused: int = 0
    third_party_rows: int = 0
    third_party_repeated: int = 0
    third_party_dropped: int = 0
    connects: int = 0
