"""Content-addressed files: what an edge pulls by SHA-256, written once and never changed."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import Final

from tieline_core.errors import PermanentError

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
MAX_ARTIFACT_BYTES: Final = 64 * 1024 * 1024


class ArtifactTooLargeError(PermanentError):
    """More bytes than an edge would take."""


class ArtifactStore:
    """A folder of files named by the SHA-256 of their content, two levels deep."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256

    def put(self, content: bytes) -> str:
        """Keep the content; returns its hash. It is on the disk when this returns.

        Raises:
            ArtifactTooLargeError: Above 64 MiB.
        """
        if len(content) > MAX_ARTIFACT_BYTES:
            raise ArtifactTooLargeError(f"{len(content)} bytes, an artifact has at most {MAX_ARTIFACT_BYTES}")
        sha256 = hashlib.sha256(content).hexdigest()
        path = self._path(sha256)
        if path.exists():
            return sha256
        path.parent.mkdir(exist_ok=True)
        replace_file(path, content)
        return sha256

    def get(self, sha256: str) -> bytes | None:
        """The content, or None when there is none or the disk no longer holds what the name says."""
        if not _SHA256.fullmatch(sha256):
            return None
        try:
            content = self._path(sha256).read_bytes()
        except FileNotFoundError:
            return None
        return content if hashlib.sha256(content).hexdigest() == sha256 else None


def sync_folder(folder: Path) -> None:
    """Bring a rename in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file so that at every moment either the old or the new one is there."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
