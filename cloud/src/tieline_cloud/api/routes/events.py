"""``/v1/events``: what happened, as a list and as a stream of server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import APIRouter, Header
from fastapi.responses import StreamingResponse

from tieline_cloud.api.ports import HubServices
from tieline_cloud.api.problems import statuses
from tieline_cloud.api.query import EdgeParameter, From, Limit, Services, To, edge_filter
from tieline_core.messages.telemetry import Event

router = APIRouter(tags=["events"])
_COMMENT_S: Final = 10.0


@router.get("/events", summary="Events, newest first", responses=statuses(404, 422))
async def list_events(
    hub: Services, edge: EdgeParameter = None, start: From = None, end: To = None, limit: Limit = 200
) -> list[Event]:
    """Of the edges and of the hub."""
    only = edge_filter(hub, edge)
    stored = await asyncio.to_thread(hub.query.events, start, only, limit)
    own = [event for event in hub.events.kept(limit) if only is None or event.edge_id == only]
    chosen = {
        event.event_id: event
        for event in (*stored, *own)
        if (start is None or event.at >= start) and (end is None or event.at < end)
    }
    return sorted(chosen.values(), key=lambda event: (event.at, event.event_id), reverse=True)[:limit]


@router.get(
    "/events/stream",
    summary="Events as they happen (server-sent events)",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "one message an event; id = event id"},
        **statuses(422),
    },
)
async def stream_events(
    hub: Services,
    last_event_id: Annotated[str | None, Header(max_length=64, description="go on after this event")] = None,
) -> StreamingResponse:
    """With ``Last-Event-ID``, events that came meanwhile are sent first, as far as the hub remembers them."""
    return StreamingResponse(
        _messages(hub, last_event_id), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


async def _messages(hub: HubServices, after: str | None) -> AsyncIterator[bytes]:
    async with hub.events.follow() as queue:
        yield b"retry: 2000\n\n"
        for event in hub.events.after(after):
            yield _message(event)
        while True:
            try:
                event = await asyncio.wait_for(queue.get(), _COMMENT_S)
            except TimeoutError:
                yield b": still here\n\n"
                continue
            yield _message(event)


def _message(event: Event) -> bytes:
    return b"id: " + event.event_id.encode() + b"\nevent: event\ndata: " + event.to_bytes() + b"\n\n"
