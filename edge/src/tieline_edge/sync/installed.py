"""What of the hub's is in force: hashes of envelopes, kept for a start without a hub."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tieline_edge.sync.durable_file import read_json, set_aside

_log = logging.getLogger(__name__)
_HASH: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Installed:
    """Hashes of the envelopes in force."""

    plan: str | None = None
    policy: str | None = None
    models: Mapping[str, str] | None = None
    config: str | None = None

    def hashes(self) -> set[str]:
        """All of them."""
        return {name for name in (self.plan, self.policy, self.config, *(self.models or {}).values()) if name is not None}

    def to_json(self) -> bytes:
        """The content of the file."""
        row = {"plan": self.plan, "policy": self.policy, "config": self.config, "models": dict(self.models or {})}
        return json.dumps(row).encode()


def read_installed(path: Path) -> tuple[Installed, str | None]:
    """What was in force before the restart, and what was wrong with the file; nothing when it is missing or unreadable.

    It is only a convenience: the hub names everything again, and every piece is verified again. An unreadable file is kept
    under another name.
    """
    try:
        return _installed(read_json(path)), None
    except (ValueError, TypeError, OSError) as error:
        text = f"{path.name} is unreadable ({error}), kept as {set_aside(path)}; the hub says anew what should run"
        _log.error("%s", text)
        return Installed(models={}), text


def _installed(row: object) -> Installed:
    if row is None:
        return Installed(models={})
    if not isinstance(row, dict):
        raise TypeError(f"an object was expected, not {type(row).__name__}")
    models = row.get("models") or {}
    if not isinstance(models, dict):
        raise TypeError("models: an object was expected")
    names = ("plan", "policy", "config")
    plan, policy, config = (None if row.get(name) is None else _hash(row[name]) for name in names)
    return Installed(plan, policy, {str(point): _hash(sha256) for point, sha256 in models.items()}, config)


def _hash(value: object) -> str:
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise ValueError(f"{value!r:.80} is no content hash")
    return value
