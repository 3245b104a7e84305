"""The edge's own word on how it stands: retained, on every change that matters and once a minute."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

from tieline_core import topics
from tieline_core.clock import Clock
from tieline_core.errors import TransientError
from tieline_core.ids import PointId
from tieline_core.messages.desired import Autonomy, OutboxRoom, Reported, StreamBacklog
from tieline_core.messages.telemetry import Stream
from tieline_edge.control.autonomy import with_outbox
from tieline_edge.outbox.store import Outbox
from tieline_edge.sync.downlink import Downlink
from tieline_edge.sync.mqtt_session import Message, MqttSession
from tieline_edge.sync.sinks import RunningState

_LOOK_S: Final = 0.5
_EVERY: Final = timedelta(minutes=1)
#: A minute of a fast simulated clock is no reason to publish more often than this in wall time.
_FLOOR_S: Final = 2.0


class Reporter:
    """Publishes :class:`tieline_core.messages.desired.Reported` over the durable connection.

    Args:
        outbox: For the backlog.
        downlink: For what is in force and what was refused.
        clock: For the instant and the minute.
        running: The agent's own state, asked twice a second.
        software: Name and version.
        boot_id: The same as in the hello.
        autonomy: Hours of safe autonomy, the outbox left out; asked only for what is published.
    """

    def __init__(
        self,
        outbox: Outbox,
        downlink: Downlink,
        clock: Clock,
        running: Callable[[], RunningState],
        software: str,
        boot_id: str,
        autonomy: Callable[[], Autonomy | None] = lambda: None,
    ) -> None:
        self._outbox = outbox
        self._downlink = downlink
        self._clock = clock
        self._running = running
        self._software = software
        self._boot_id = boot_id
        self._autonomy = autonomy

    def topics(self) -> Sequence[str]:
        """It listens to nothing."""
        return ()

    async def take(self, _message: Message) -> None:
        """It listens to nothing."""

    async def report(self) -> Reported:
        """How the edge stands now, backlog included."""
        room, known = await self._room(), self._autonomy()
        # Not part of what is compared: hours grow less by themselves, and that is no news.
        autonomy = None if known is None else with_outbox(known, None if room is None else room.room_h)
        update = {"backlog": await self._backlog(), "outbox": room, "autonomy": autonomy}
        return self._standing().model_copy(update=update)

    async def _backlog(self) -> dict[Stream, StreamBacklog]:
        try:
            return await self._outbox.backlog()
        except TransientError:
            return {}  # the room says that the disk refuses; everything else is still worth saying

    async def _room(self) -> OutboxRoom | None:
        try:
            return await self._outbox.room()
        except TransientError:
            return None

    def _news(self) -> tuple[object, ...]:
        """What makes a report worth publishing before its minute: compared twice a second, and made a report of only then."""
        downlink, installed = self._downlink, self._downlink.installed
        hashes = (installed.plan, installed.policy, dict(installed.models or {}))
        return self._running(), hashes, downlink.monitor_only, downlink.desired_counter, tuple(downlink.refusals)

    def _standing(self) -> Reported:
        running, installed = self._running(), self._downlink.installed
        return Reported(
            edge_id=self._outbox.edge,
            at=self._clock.now(),
            software=self._software,
            boot_id=self._boot_id,
            monitor_only=running.monitor_only or self._downlink.monitor_only,
            dry_run=running.dry_run,
            tagged=running.tagged,
            ladder=running.ladder,
            ladder_reason=running.ladder_reason[:200],
            plan_id=running.plan_id,
            plan_sha256=installed.plan,
            policy_sha256=installed.policy,
            config_sha256=running.config_sha256,
            models={PointId(point): sha256 for point, sha256 in (installed.models or {}).items()},
            desired_counter=self._downlink.desired_counter,
            devices_offline=running.devices_offline,
            shed=running.shed,
            commands=running.commands,
            refusals=tuple(self._downlink.refusals),
        )

    async def serve(self, session: MqttSession) -> None:
        """Publish at once, then on change and once a minute.

        Raises:
            LinkLostError: The connection is gone.
        """
        last: tuple[object, ...] | None = None
        last_at, last_s = self._clock.now(), float("-inf")
        while True:
            self._downlink.changed.clear()
            news, now = self._news(), self._clock.now()
            minute = now - last_at >= _EVERY and time.monotonic() - last_s >= _FLOOR_S
            if news != last or minute:
                whole = await self.report()
                await session.publish(topics.reported(self._outbox.edge), whole.to_bytes(), retain=True)
                last, last_at, last_s = news, now, time.monotonic()
            session.ensure_alive()
            try:
                async with asyncio.timeout(_LOOK_S):
                    await self._downlink.changed.wait()
            except TimeoutError:
                continue
