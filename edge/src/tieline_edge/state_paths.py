"""Where an edge keeps what must survive a restart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class StatePaths:
    """Where an edge keeps what must survive a restart."""

    outbox: Path
    control: Path
    plans: Path
    commands: Path
    trace: Path
    history: Path
    models: Path
    artifacts: Path
    pki: Path
    tags: Path
    token: Path
    dry_run: Path
    checkout: Path
    site: Path

    @classmethod
    def below(cls, folder: Path) -> StatePaths:
        """The files of one edge below its state folder."""
        return cls(
            folder / "outbox.sqlite",
            folder / "control.json",
            folder / "plans.json",
            folder / "commands.json",
            folder / "trace.sqlite",
            folder / "history.sqlite",
            folder / "models",
            folder / "artifacts",
            folder / "pki",
            folder / "tags.json",
            folder / "local.token",
            folder / "dry-run",
            folder / "checkout",
            folder / "site.json",
        )
