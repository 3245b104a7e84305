"""A blocking loop in a thread, owned by a task: cancelled, it is asked to end and waited for."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Final

from tieline_core.errors import TielineError

_LOG = logging.getLogger(__name__)
_BACKOFF_S: Final = (1.0, 30.0)


async def in_thread(serve: Callable[[threading.Event], None]) -> None:
    """Run ``serve`` in a thread until it returns; a cancellation sets its event and waits for its end."""
    stop = threading.Event()
    work = asyncio.get_running_loop().run_in_executor(None, serve, stop)
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait({work})
        raise


async def for_ever(name: str, serve: Callable[[threading.Event], None], failed: Callable[[str], None]) -> None:
    """Run ``serve`` again and again; whatever is wrong outside, the hub goes on."""
    wait_s = _BACKOFF_S[0]
    while True:
        try:
            await in_thread(serve)
        except Exception as error:  # noqa: BLE001 (whatever is wrong with a stream, the hub goes on)
            if isinstance(error, TielineError):
                _LOG.warning("%s stands still: %s", name, error)
            else:
                _LOG.exception("%s stumbled", name)
            failed(f"{type(error).__name__}: {error}"[:300])
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _BACKOFF_S[1])
        else:
            wait_s = _BACKOFF_S[0]
