"""The hub's signing key: a file only its owner may read, and the one signer whose counters survive a restart."""

from __future__ import annotations

import os
import threading
from datetime import datetime
from pathlib import Path
from typing import Final

from tieline_cloud.dispatch.artifacts import sync_folder
from tieline_cloud.dispatch.documents import DocumentStore
from tieline_core.errors import BadInputError
from tieline_core.ids import EdgeId
from tieline_core.signing import EnvelopeType, Signer

KEY_FILE: Final = "hub.key"
PUBLIC_FILE: Final = "hub.pub"
_COUNTER: Final = "envelope"


def write_new_key(folder: Path) -> tuple[Path, str]:
    """Make a key pair: ``hub.key`` (raw, 0600) and ``hub.pub`` (hex, for the edges' ``hub.public_keys``).

    Returns:
        Path of the private key and the public key in hex.

    Raises:
        BadInputError: When there is a key already; an old key is never overwritten.
    """
    path = folder / KEY_FILE
    private = Signer.new_private()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        there = isinstance(error, FileExistsError) and path.exists()
        reason = "there is a key already; move it away first" if there else f"cannot be made: {error.strerror}"
        raise BadInputError(str(path), "", None, reason) from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(private)
        file.flush()
        os.fsync(file.fileno())
    public = Signer(private).public.hex()
    (folder / PUBLIC_FILE).write_text(public + "\n", encoding="ascii")
    sync_folder(folder)
    return path, public


def read_key(path: Path) -> bytes:
    """The raw private key.

    Raises:
        BadInputError: When it is missing, readable by others or not 32 bytes.
    """
    try:
        mode = path.stat().st_mode & 0o777
        key = path.read_bytes()
    except OSError as error:
        make = f"; make one with 'tieline-cloud keygen {path.parent}'" if isinstance(error, FileNotFoundError) else ""
        raise BadInputError(str(path), "", path.name, f"{error.strerror}{make}") from error
    if mode & 0o077:
        raise BadInputError(str(path), "mode", oct(mode), "others may read the signing key; run chmod 600 on it")
    if len(key) != 32:
        raise BadInputError(str(path), "", f"{len(key)} bytes", "an Ed25519 key has 32 raw bytes")
    return key


class Sealer:
    """Signs envelopes; the counter is on the disk before the envelope leaves this object."""

    def __init__(self, private: bytes, documents: DocumentStore) -> None:
        self._documents = documents
        self._signer = Signer(private, documents.counter(_COUNTER))
        self._lock = threading.Lock()
        self.public = self._signer.public

    def seal(
        self,
        kind: EnvelopeType,
        edge: EdgeId,
        payload: bytes,
        *,
        now: datetime,
        valid: tuple[datetime, datetime],
        nonce: str | None = None,
    ) -> tuple[bytes, int]:
        """Sign; returns the envelope and its counter."""
        with self._lock:
            envelope = self._signer.seal(kind, edge, payload, now=now, valid=valid, nonce=nonce)
            counter = self._signer.last_counter
            self._documents.raise_counter(_COUNTER, counter)
        return envelope, counter
