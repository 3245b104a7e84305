"""``WS /v1/live``: what is true now, pushed."""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import APIRouter, WebSocket

from tieline_cloud.api.ports import HubServices

router = APIRouter()


def same_origin(origin: str | None, host: str | None) -> bool:
    """True for a page of this hub, and for a caller that is no browser (it sends no Origin)."""
    if origin is None:
        return True
    try:
        return host is not None and urlsplit(origin).netloc == host
    except ValueError:
        return False


@router.websocket("/live")
async def live(socket: WebSocket) -> None:
    """Subscribe with ``{"subscribe": ["grid/<id>", "events", "edges", "readings"]}``; see the README for the frames."""
    hub: HubServices = socket.app.state.services
    if not same_origin(socket.headers.get("origin"), socket.headers.get("host")):
        await socket.close(code=1008, reason="cross-origin")
        return
    await socket.accept()
    await hub.live.serve(socket)
