"""The durable lane's rim: its own connection, its own client id, manual acknowledgement, one ledger thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from tieline_cloud.ingest.connection import HubConnection, Inbound, Wiring
from tieline_cloud.ingest.counters import DurableCounters
from tieline_cloud.ingest.ledger_thread import LedgerThread
from tieline_cloud.ingest.outlet import Notices
from tieline_cloud.ingest.settings import IngestSettings
from tieline_cloud.store.ports import Ledger
from tieline_core import topics
from tieline_core.clock import Clock

#: Topic and properties of a message besides its payload.
_PACKET_HEAD: Final = 4096
#: Never a shared subscription: it would break the order of an edge's frames.
SUBSCRIPTIONS: Final = ((topics.hello("+"), 1), (topics.frame("+", "+"), 1))


class DurableLane:
    """Consumes hellos and frames of all edges while :meth:`run` runs.

    Args:
        settings: Broker, pace and limits.
        ledger: Where frames are committed.
        clock: For stamps in records.
        notices: Called in the ledger thread.
        lost: Called in the event loop when the connection to the broker is gone.
    """

    def __init__(
        self,
        settings: IngestSettings,
        ledger: Ledger,
        clock: Clock,
        notices: Notices,
        lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._lost = lost
        wiring = Wiring(
            SUBSCRIPTIONS,
            self._offer,
            on_up=self._count_up,
            on_down=self._count_down,
            manual_ack=True,
            packet_bytes=settings.packet_bytes + _PACKET_HEAD,
        )
        self._connection = HubConnection(settings.broker, f"{settings.client_prefix}-durable", wiring)
        self._thread = LedgerThread(settings, ledger, clock, self._connection, notices)
        self.connected = False

    def _offer(self, message: Inbound) -> None:
        self._thread.offer(message)

    @property
    def counters(self) -> DurableCounters:
        """What happened since the start."""
        return self._thread.counters

    @property
    def problem(self) -> str | None:
        """Why there is no connection, in words; None while there is one, or none was tried."""
        return self._connection.problem

    def _count_up(self, _session: int) -> None:
        self.connected = True
        self.counters.connects += 1

    def _count_down(self) -> None:
        self.connected = False
        self._lost()

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            PermanentError: The ledger cannot go on.
        """
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "ledger") as pool:
            writing = loop.run_in_executor(pool, self._thread.run)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._connection.run(), name="durable connection")
                    await asyncio.shield(writing)
            finally:
                self._thread.stop()
                await asyncio.wait({writing})
