"""Takes deliveries into the ledger: who may, how many at once, each once under its key."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from tieline_cloud.doors.deliveries import read_delivery
from tieline_cloud.doors.unpack import unpack
from tieline_cloud.settings import SourceSettings
from tieline_cloud.store.ports import Ingested
from tieline_cloud.token_file import read_secret
from tieline_core.clock import Clock
from tieline_core.errors import BadInputError, PermanentError, TransientError
from tieline_core.frame import ReadingBatch
from tieline_core.ids import EdgeId

#: Largest body as sent, and after unpacking.
MAX_BODY_BYTES: Final = 4 * 1024 * 1024
MAX_PLAIN_BYTES: Final = 16 * 1024 * 1024
_KEY: Final = re.compile(r"[\x21-\x7e]{1,200}")
_AT_ONCE: Final = 2
_WAITING: Final = 8
#: Places one source may hold: the slow bodies of one are not in the way of another.
_OF_ONE: Final = 5
#: A commit that took longer than this is a ledger that cannot follow: new deliveries are sent away for as long as it took.
_SLOW_S: Final = 5.0
_MOST_AWAY_S: Final = 30.0


class OnceLedger(Protocol):
    """What the doors ask of the ledger."""

    def ingest_once(self, batch: ReadingBatch, source: str, key: str, sha256: str, at: datetime) -> tuple[Ingested, int]:
        """Store a delivery and its key in one transaction."""
        ...


class NotAdmittedError(PermanentError):
    """No such source, or another token: which of the two is not told."""


class KeyConflictError(PermanentError):
    """The key was used before for something else."""


class BusyError(TransientError):
    """Too much is waiting for the ledger.

    Attributes:
        retry_after_s: When to come again.
    """

    def __init__(self, retry_after_s: int) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(f"the ledger cannot take more at the moment; send the same delivery again in {retry_after_s} s")


@dataclass(frozen=True, slots=True)
class Delivery:
    """One body under its key, as it came.

    Attributes:
        source: The head-end system, admitted.
        key: Idempotency key.
        media_type: Content type.
        encoding: Content encoding, empty for none.
        body: As sent.
    """

    source: EdgeId
    key: str
    media_type: str
    encoding: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """What is told of a delivery that is in the ledger; the same for a repeat of it."""

    source: EdgeId
    key: str
    readings: int
    sha256: str
    repeated: bool


@dataclass(slots=True)
class IntakeCounters:
    """Since the start."""

    deliveries: int = 0
    repeated: int = 0
    readings: int = 0
    refused: int = 0
    conflicts: int = 0
    turned_away: int = 0


class Intake:
    """The desk behind ``POST /v1/ingest/{source}``. Methods are called on the event loop.

    Args:
        sources: Head-end systems by name; their token files are read here, once.
        ledger: Stores deliveries.
        clock: Gives the stamp of arrival.
        is_edge: True when an edge of that name is known; a source may not take an edge's name.

    Raises:
        BadInputError: When a token file cannot be used.
    """

    def __init__(
        self,
        sources: Mapping[EdgeId, SourceSettings],
        ledger: OnceLedger,
        clock: Clock,
        is_edge: Callable[[EdgeId], bool] = lambda _name: False,
    ) -> None:
        self.counters = IntakeCounters()
        self._tokens = {
            name: hashlib.sha256(read_secret(source.token_file, f"sources.{name}.token_file").encode()).digest()
            for name, source in sources.items()
        }
        self._ledger = ledger
        self._clock = clock
        self._is_edge = is_edge
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._inside: Counter[EdgeId] = Counter()
        self._closed_until_s = float("-inf")

    def admit(self, source: str, authorization: str | None) -> EdgeId:
        """The source, when its token came with the request.

        Raises:
            NotAdmittedError: Unknown source or wrong token, in equal time.
            KeyConflictError: An edge has this name.
        """
        scheme, _, token = (authorization or "").partition(" ")
        given = hashlib.sha256(token.strip().encode()).digest()
        expected = next((digest for name, digest in self._tokens.items() if name == source), bytes(32))
        if not hmac.compare_digest(given, expected) or scheme.lower() != "bearer":
            raise NotAdmittedError("this source and token are not in the hub's settings (sources: NAME: token_file)")
        name = EdgeId(source)
        if self._is_edge(name):
            raise KeyConflictError(f"{name} is an edge; a head-end system needs a name of its own")
        return name

    @asynccontextmanager
    async def place(self, source: EdgeId) -> AsyncIterator[None]:
        """A place at the desk, held while a body is read and stored; it bounds the memory of all bodies together.

        Raises:
            BusyError: Too many are here, of all or of this source, or the ledger was slow a moment ago.
        """
        left_s = self._closed_until_s - time.monotonic()
        if left_s > 0 or self._inside.total() >= _AT_ONCE + _WAITING or self._inside[source] >= _OF_ONE:
            self.counters.turned_away += 1
            raise BusyError(max(1, round(left_s) if left_s > 0 else 2))
        self._inside[source] += 1
        try:
            yield
        finally:
            self._inside[source] -= 1

    async def take(self, delivery: Delivery) -> Receipt:
        """Store a delivery; when this returns it is on the disk.

        Raises:
            BadInputError: Key or body cannot be used.
            DeliveryRefusedError: Rows cannot be taken; nothing was stored.
            KeyConflictError: The key was used for other content.
            TransientError: The ledger did not take it; the same delivery may be sent again.
        """
        if not _KEY.fullmatch(delivery.key):
            raise BadInputError(
                "delivery", "idempotency-key", delivery.key, "expected 1 to 200 printable characters without spaces"
            )
        try:
            async with self._slots:
                outcome, count, sha256 = await asyncio.to_thread(self._store, delivery)
        except PermanentError:
            self.counters.refused += 1
            raise
        if outcome is Ingested.CONFLICT:
            self.counters.conflicts += 1
            raise KeyConflictError(f"the key {delivery.key!r} of {delivery.source} was used before for other content")
        self.counters.deliveries += 1
        self.counters.repeated += outcome is Ingested.REPEATED
        self.counters.readings += count if outcome is Ingested.STORED else 0
        return Receipt(delivery.source, delivery.key, count, sha256, outcome is Ingested.REPEATED)

    def _store(self, delivery: Delivery) -> tuple[Ingested, int, str]:
        source = f"delivery of {delivery.source}"
        plain = unpack(delivery.body, delivery.encoding, MAX_PLAIN_BYTES, source)
        batch = read_delivery(plain, delivery.media_type, source, (delivery.source,))
        sha256 = hashlib.sha256(plain).hexdigest()
        began_s = time.monotonic()
        try:
            outcome, _ = self._ledger.ingest_once(batch, f"http/{delivery.source}", delivery.key, sha256, self._clock.now())
        finally:
            took_s = time.monotonic() - began_s
            if took_s > _SLOW_S:
                self._closed_until_s = time.monotonic() + min(took_s, _MOST_AWAY_S)
        return outcome, len(batch), sha256
