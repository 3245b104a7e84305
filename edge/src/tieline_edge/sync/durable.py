"""The durable connection: uplink and downlink share one MQTT session of its own client id."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
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

    async def serve(self, session: MqttSession, /) -> None:
        """Do one's part of a session; ends with the session, or returns at once when there is nothing to send."""
        ...


def durable_link(endpoint: MqttEndpoint, edge: str) -> MqttLink:
    """The link of the durable lane: its own connection, so that nothing of the live lane can stop it."""
    return MqttLink(endpoint, f"{edge}-durable", inbox=_INBOX)


class DurableLane:
    """Keeps the durable connection up and every conversation on it going.

    Args:
        link: From :func:`durable_link`.
        conversations: Uplink, downlink, reporter.
        background: What goes on whether or not there is a connection, such as :meth:`Downlink.follow`.
    """

    def __init__(
        self,
        link: MqttLink,
        conversations: Sequence[Conversation],
        background: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        self.link = link
        self._conversations = tuple(conversations)
        self._background = tuple(background)

    async def run(self) -> None:
        """Serve until cancelled; losing the hub is nothing special."""

        async def work(part: Callable[[], Awaitable[None]]) -> None:
            await part()

        async with asyncio.TaskGroup() as group:
            for part in self._background:
                group.create_task(work(part), name=f"durable.{getattr(part, '__name__', 'background')}")
            group.create_task(self.link.run(self._serve), name="durable.link")

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
