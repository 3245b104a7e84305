"""The durable connection: uplink and downlink share one MQTT session of its own client id."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from tieline_edge.settings import MqttEndpoint
from tieline_edge.sync.mqtt_session import Message, MqttSession
from tieline_edge.sync.transport import MqttLink

#: More than the hub can have outstanding towards one edge.
_INBOX: Final = 10_000


class Conversation(Protocol):
    """One side of what is said over the durable connection."""

    def topics(self) -> Sequence[str]:
        """Topics to subscribe to."""
        ...

    async def take(self, message: Message) -> None:
        """Handle a message of one of them."""
        ...

    async def serve(self, session: MqttSession) -> None:
        """Live as long as the session."""
        ...


def durable_link(endpoint: MqttEndpoint, edge: str) -> MqttLink:
    """The link of the durable lane: its own connection, so that nothing of the live lane can stop it."""
    return MqttLink(endpoint, f"{edge}-durable", inbox=_INBOX)


class DurableLane:
    """Keeps the durable connection up and every conversation on it going."""

    def __init__(self, link: MqttLink, conversations: Sequence[Conversation]) -> None:
        self.link = link
        self._conversations = tuple(conversations)

    async def run(self) -> None:
        """Serve until cancelled; losing the hub is nothing special."""
        await self.link.run(self._serve)

    async def _serve(self, session: MqttSession) -> None:
        await session.subscribe(*(topic for side in self._conversations for topic in side.topics()))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._dispatch(session), name="durable.dispatch")
            for side in self._conversations:
                group.create_task(side.serve(session), name=f"durable.{type(side).__name__.lower()}")

    async def _dispatch(self, session: MqttSession) -> None:
        sides = {topic: side for side in self._conversations for topic in side.topics()}
        while True:
            message = await session.receive()
            side = sides.get(message.topic)
            if side is not None:
                await side.take(message)
