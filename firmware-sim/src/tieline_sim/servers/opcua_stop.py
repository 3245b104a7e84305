"""Stopping an asyncua server for certain."""

from __future__ import annotations

import asyncio
from typing import Final

from asyncua import Server

_PATIENCE_S: Final = 1.0


async def stop_server(server: Server) -> None:
    """Stop it; its clean-up swallows a cancellation while it waits for a connection just lost, so it gets more."""
    stopping = asyncio.ensure_future(server.stop())
    while not (await asyncio.wait([stopping], timeout=_PATIENCE_S))[0]:
        server.bserver.cleanup_task.cancel()
    await stopping
