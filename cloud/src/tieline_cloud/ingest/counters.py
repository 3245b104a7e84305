"""What ingest counts; plain numbers, made into metrics elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from tieline_cloud.store.ports import Verdict


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
    blocked: int = 0
    connects: int = 0
    newest_measured_at: datetime | None = None

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
