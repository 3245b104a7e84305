"""Artifacts by content hash: pulled over HTTP once, checked, kept on disk for the next start without a hub."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tieline_core.errors import TransientError
from tieline_core.topics import artifact_path
from tieline_edge.broker_access import tls_context
from tieline_edge.sync.durable_file import write_durably
from tieline_edge.sync.sinks import OfferRefusedError

_CHUNK: Final = 64 * 1024


class Artifacts:
    """Pulls and keeps.

    Args:
        folder: Where they are kept, one file a hash.
        base: Base address of the hub, ``http://host:port``.
        timeout_s: Wall time for one pull, connect to last byte.
        ca_file: The authority to trust for an https address, instead of the system's.
    """

    def __init__(self, folder: Path, base: str, timeout_s: float = 30.0, ca_file: Path | None = None) -> None:
        self._folder = folder
        self._base = urlsplit(base)
        self._timeout_s = timeout_s
        self._ca_file = ca_file

    async def get(self, sha256: str, max_bytes: int) -> bytes:
        """The content of a hash, from disk or from the hub.

        Raises:
            TransientError: The hub cannot be reached or does not have it (yet).
            OfferRefusedError: What came is too large or has another hash.
        """
        kept = await asyncio.to_thread(self.kept, sha256)
        if kept is not None:
            return kept
        data = await asyncio.to_thread(self._pull, sha256, max_bytes)
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise OfferRefusedError("hash", f"pulled {sha256[:16]}…, got content with hash {found[:16]}…")
        await asyncio.to_thread(write_durably, self._folder / sha256, data)
        return data

    def kept(self, sha256: str) -> bytes | None:
        """The content on disk, None when it is not there or damaged."""
        try:
            data = (self._folder / sha256).read_bytes()
        except FileNotFoundError:
            return None
        return data if hashlib.sha256(data).hexdigest() == sha256 else None

    def keep_only(self, names: Iterable[str]) -> None:
        """Delete everything that is not named."""
        wanted = set(names)
        for path in self._folder.glob("*") if self._folder.exists() else ():
            if path.name not in wanted:
                path.unlink()

    def _pull(self, sha256: str, max_bytes: int) -> bytes:
        deadline_s = time.monotonic() + self._timeout_s
        connection = self._connection()
        try:
            connection.request("GET", self._base.path.rstrip("/") + artifact_path(sha256))
            with connection.getresponse() as response:
                return self._read(response, sha256, max_bytes, deadline_s)
        except (OSError, http.client.HTTPException) as error:
            raise TransientError(f"artifact {sha256[:16]}…: {error!r}") from error
        finally:
            connection.close()

    def _read(self, response: http.client.HTTPResponse, sha256: str, max_bytes: int, deadline_s: float) -> bytes:
        if response.status != http.client.OK:
            raise TransientError(f"artifact {sha256[:16]}…: the hub answered {response.status} {response.reason}")
        data = bytearray()
        while chunk := response.read(_CHUNK):
            data += chunk
            if len(data) > max_bytes:
                raise OfferRefusedError("size", f"artifact {sha256[:16]}… has more than {max_bytes} bytes")
            if time.monotonic() > deadline_s:
                raise TransientError(f"artifact {sha256[:16]}… did not arrive within {self._timeout_s:g} s")
        return bytes(data)

    def _connection(self) -> http.client.HTTPConnection:
        host = self._base.hostname or "localhost"
        timeout_s = min(10.0, self._timeout_s)
        if self._base.scheme == "https":
            context = tls_context(self._ca_file, "hub.http_ca_file")
            return http.client.HTTPSConnection(host, self._base.port, timeout=timeout_s, context=context)
        return http.client.HTTPConnection(host, self._base.port, timeout=timeout_s)
