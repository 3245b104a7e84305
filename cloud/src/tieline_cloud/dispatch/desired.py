"""What each edge should run: kept, signed, published retained, and confirmed by the edge's own report.

A change is on the disk before it is published. One loop publishes whatever is due and tries again while the broker is
away. On every hello the state is signed anew with the hello's nonce: an old retained message cannot be replayed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from pydantic import AwareDatetime

from tieline_cloud.dispatch.documents import DocumentStore
from tieline_cloud.dispatch.keys import Sealer
from tieline_cloud.dispatch.publisher import Publisher
from tieline_core import topics
from tieline_core.clock import Clock
from tieline_core.errors import TransientError
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.base import Message
from tieline_core.messages.desired import Desired, Reported
from tieline_core.signing import EnvelopeType

_LOG = logging.getLogger(__name__)
KIND: Final = "desired"
_VALID_DAYS: Final = 30
#: Clocks of hub and edge may differ by this much.
CLOCK_SLACK: Final = timedelta(minutes=5)
_RETRY_S: Final = 1.0


class DesiredRecord(Message):
    """Desired state of one edge and how far it has come."""

    desired: Desired
    nonce: str | None = None
    counter: int = 0
    published_at: AwareDatetime | None = None
    confirmed_at: AwareDatetime | None = None


def is_confirmed(desired: Desired, reported: Reported) -> bool:
    """True when the edge says it runs everything the desired state names."""
    return (
        (desired.plan is None or desired.plan == reported.plan_sha256)
        and (desired.policy is None or desired.policy == reported.policy_sha256)
        and (desired.config is None or desired.config == reported.config_sha256)
        and all(reported.models.get(point) == sha256 for point, sha256 in desired.models.items())
    )


class DesiredStates:
    """The desired states of all edges. Methods are called on the event loop."""

    def __init__(self, documents: DocumentStore, sealer: Sealer, publisher: Publisher, clock: Clock) -> None:
        self._documents = documents
        self._sealer = sealer
        self._publisher = publisher
        self._clock = clock
        self._records = {
            record.desired.edge_id: record
            for record in (DesiredRecord.from_bytes(body, "hub memory") for body in documents.newest(KIND, 100_000))
        }
        self._due: set[EdgeId] = set(self._records)
        #: Records that are newer here than on the disk.
        self._unkept: set[EdgeId] = set()
        self._wake = asyncio.Event()
        self._listeners: list[Callable[[DesiredRecord], None]] = []

    def on_confirmed(self, callback: Callable[[DesiredRecord], None]) -> None:
        """Call back when an edge newly confirms its desired state."""
        self._listeners.append(callback)

    def of(self, edge: EdgeId) -> DesiredRecord | None:
        """The record of an edge, or None when nothing was ever desired of it."""
        return self._records.get(edge)

    def all(self) -> list[DesiredRecord]:
        """All records, by edge."""
        return [self._records[edge] for edge in sorted(self._records)]

    def set_plan(self, edge: EdgeId, sha256: str) -> DesiredRecord:
        """Make a plan envelope the desired one."""
        return self._change(edge, {"plan": sha256})

    def set_policy(self, edge: EdgeId, sha256: str) -> DesiredRecord:
        """Make a policy envelope the desired one."""
        return self._change(edge, {"policy": sha256})

    def set_config(self, edge: EdgeId, sha256: str) -> DesiredRecord:
        """Make a configuration envelope the desired one."""
        return self._change(edge, {"config": sha256})

    def set_model(self, edge: EdgeId, point: PointId, sha256: str) -> DesiredRecord:
        """Make a model envelope the desired one for its point."""
        before = self._records.get(edge)
        return self._change(edge, {"models": {**(before.desired.models if before else {}), point: sha256}})

    def greet(self, edge: EdgeId, nonce: str) -> None:
        """An edge said hello: remember its nonce and publish what it should run, if anything is known.

        Nobody waits for it: on a full disk it is kept and published as soon as that goes.
        """
        before = self._records.get(edge, DesiredRecord(desired=Desired(edge_id=edge)))
        self._records[edge] = before.model_copy(update={"nonce": nonce})
        self._unkept.add(edge)
        self._due.add(edge)
        self._wake.set()

    def hear(self, reported: Reported) -> None:
        """An edge says what it runs.

        Raises:
            TransientError: The disk refuses; the edge's next report says it again.
        """
        record = self._records.get(reported.edge_id)
        if record is None:
            return
        confirmed = is_confirmed(record.desired, reported)
        if confirmed == (record.confirmed_at is not None):
            return
        record = record.model_copy(update={"confirmed_at": reported.at if confirmed else None})
        self._store(record)
        self._records[reported.edge_id] = record
        if confirmed:
            for callback in self._listeners:
                callback(record)

    async def run(self) -> None:
        """Publish what is due, for ever."""
        while True:
            if not self._due:
                self._wake.clear()
                await self._wake.wait()
            for edge in sorted(self._due):
                self._due.discard(edge)
                try:
                    await self._publish(edge)
                except TransientError as error:
                    _LOG.warning("Desired state of %s is not published yet: %s", edge, error)
                    self._due.add(edge)
                    await asyncio.sleep(_RETRY_S)

    def _change(self, edge: EdgeId, update: dict[str, object]) -> DesiredRecord:
        before = self._records.get(edge, DesiredRecord(desired=Desired(edge_id=edge)))
        desired = before.desired.model_copy(update=update)
        return self._keep(before.model_copy(update={"desired": desired, "published_at": None, "confirmed_at": None}))

    def _keep(self, record: DesiredRecord) -> DesiredRecord:
        edge = record.desired.edge_id
        self._store(record)
        self._records[edge] = record
        self._unkept.discard(edge)
        self._due.add(edge)
        self._wake.set()
        return record

    def _store(self, record: DesiredRecord) -> None:
        self._documents.put(KIND, record.desired.edge_id, record.to_bytes(), self._clock.now())

    async def _publish(self, edge: EdgeId) -> None:
        record, now = self._records[edge], self._clock.now()
        if edge in self._unkept:
            self._store(record)
            self._unkept.discard(edge)
        envelope, counter = self._sealer.seal(
            EnvelopeType.DESIRED,
            edge,
            record.desired.to_bytes(),
            now=now,
            valid=(now - CLOCK_SLACK, now + timedelta(days=_VALID_DAYS)),
            nonce=record.nonce,
        )
        await self._publisher.publish(topics.desired(edge), envelope, retain=True)
        if self._records[edge] == record:
            self._records[edge] = record.model_copy(update={"counter": counter, "published_at": now})
            self._store(self._records[edge])
