"""Blocking work in a thread of its own, owned by a task: cancelled, it is asked to end and waited for.

The event loop's own pool is left to short work: a target or a cluster that hangs must not take its threads.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

from tieline_core.errors import TielineError

_LOG = logging.getLogger(__name__)
_BACKOFF_S: Final = (1.0, 30.0)
T = TypeVar("T")


async def in_thread(executor: Executor, call: Callable[[], T], stop: threading.Event) -> T:
    """Run ``call`` in the executor; a cancellation sets ``stop``, which the call has to heed, and waits for its end."""
    work = asyncio.get_running_loop().run_in_executor(executor, call)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait({work})
        if not work.cancelled():
            work.exception()  # what it says at its end is of no more interest
        raise


async def for_ever(name: str, serve: Callable[[threading.Event], None], failed: Callable[[str], None]) -> None:
    """Run ``serve`` again and again in a thread of its own; whatever is wrong outside, the hub goes on."""
    wait_s = _BACKOFF_S[0]
    with ThreadPoolExecutor(1, thread_name_prefix=name) as executor:
        while True:
            stop = threading.Event()
            try:
                await in_thread(executor, partial(serve, stop), stop)
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
