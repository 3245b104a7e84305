"""The STATE of this host application: birth, death and will, and what to do when somebody else speaks under our name."""

from __future__ import annotations

import logging
from datetime import datetime
from enum import Enum
from typing import Final, Protocol

from tieline_cloud.ingest.connection import Will
from tieline_cloud.ingest.counters import LiveCounters
from tieline_core import topics
from tieline_core.clock import Clock
from tieline_core.errors import TransientError
from tieline_core.sparkplug.session import HostState
from tieline_core.timegrid import to_us

#: The last stamp said under each STATE topic.
STATE_DOCUMENTS: Final = "host_state"
_log = logging.getLogger(__name__)
#: A host whose clock is right stamps no further ahead than this.
_PLAUSIBLE_MS: Final = 60_000
_LATEST_MS: Final = 7_258_118_400_000  # the year 2200


class Remedy(Enum):
    """What a STATE on our own topic calls for."""

    NONE = "nothing"
    REPEAT = "say again that we are online"
    RENEW = "connect anew with a later stamp"


class Memory(Protocol):
    """Where the last stamp is kept; any :class:`tieline_cloud.store.ports.Store` is one."""

    def put_document(self, kind: str, key: str, body: bytes, at: datetime) -> None:
        """Keep a document."""
        ...

    def documents(self, kind: str) -> dict[str, bytes]:
        """All documents of a kind."""
        ...


class OwnState:
    """Stamps that never run backwards, one for each connection.

    Edges take no STATE older than the newest they have seen. A clock that was set back must therefore not silence us:
    stamps go on from the latest one seen, and from the last one of an earlier life, should the broker have lost it.
    """

    def __init__(self, host_id: str, clock: Clock, counters: LiveCounters, memory: Memory | None = None) -> None:
        self.topic = topics.host_state(host_id)
        self._memory = memory
        self._clock = clock
        self._counters = counters
        self._connected_ms = 0
        kept = b"" if memory is None else memory.documents(STATE_DOCUMENTS).get(self.topic, b"")
        self._latest_ms = min(int(kept), _LATEST_MS) if kept.isdigit() else 0

    def now_ms(self) -> int:
        """Milliseconds since 1970, UTC."""
        return max(0, to_us(self._clock.now()) // 1000)

    def _next_ms(self) -> int:
        self._latest_ms = max(self.now_ms(), self._latest_ms + 1)
        if self._memory is not None:
            try:
                self._memory.put_document(STATE_DOCUMENTS, self.topic, str(self._latest_ms).encode(), self._clock.now())
            except TransientError as error:
                _log.warning("%s: the stamp %d is not kept: %s", self.topic, self._latest_ms, error)
        return self._latest_ms

    def _word(self, *, online: bool, ms: int) -> Will:
        return Will(self.topic, HostState(online=online, timestamp_ms=ms).to_bytes(), retain=True)

    def will(self) -> Will:
        """For a new CONNECT; its stamp is that of the connection."""
        self._connected_ms = self._next_ms()
        return self._word(online=False, ms=self._connected_ms)

    def birth(self) -> Will:
        """After the subscriptions are granted; the standard wants the stamp of this connection's will."""
        return self._word(online=True, ms=self._connected_ms)

    def farewell(self) -> Will:
        """Before a clean goodbye."""
        return self._word(online=False, ms=self._next_ms())

    def heard(self, body: bytes) -> Remedy:
        """Judge a STATE that came on our own topic.

        Raises:
            SparkplugError: It is none.
        """
        state = HostState.from_bytes(body)
        if state.timestamp_ms <= self._connected_ms:
            # The will of our own earlier connection may arrive after we came back.
            return Remedy.NONE if state.online else Remedy.REPEAT
        if state.online:
            self._counters.rival_hosts += 1
            _log.error("%s: another host application says it is online under our id", self.topic)
            if state.timestamp_ms <= self.now_ms() + _PLAUSIBLE_MS:
                return Remedy.NONE  # two hosts that outbid each other would help nobody
        if state.timestamp_ms > _LATEST_MS:
            return Remedy.REPEAT
        _log.error("%s: a STATE stamped later than our own connection: was the clock set back?", self.topic)
        self._latest_ms = max(self._latest_ms, state.timestamp_ms)
        return Remedy.RENEW
