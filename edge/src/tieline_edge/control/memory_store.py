"""What control remembers, on the disk before anything is written to a device."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from tieline_core.ids import DeviceId
from tieline_edge.control.memory import ArbiterMemory
from tieline_edge.control.state_file import StateFile

_LOG = logging.getLogger(__name__)
#: The arbiter's memory of powers is stored at least this often; positions and sheddings at once.
STORE_EVERY_S: Final = 60.0
#: What the disk refused is offered again after this time of the clock.
RETRY_S: Final = 2.0
_STORE_WAIT_S: Final = 0.25


class Offload(Protocol):
    """Runs a blocking call beside the loop; :func:`asyncio.to_thread` in production."""

    async def __call__(self, call: Callable[..., None], /, *args: Any) -> None: ...


class StoredState(BaseModel):
    """What survives a restart besides plans and commands."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = 1
    at: datetime | None = Field(default=None, description="instant of the line that never steps")
    utc: datetime | None = Field(default=None, description="time of day at that instant")
    arbiter: ArbiterMemory = ArbiterMemory()
    rules: dict[str, str] = Field(default_factory=dict)


_STATE: Final = TypeAdapter(StoredState)


class MemoryStore:
    """Writes the memory when it must, never so that a sick disk holds up a shedding.

    Args:
        file: Where it is kept.
        offload: Runs the write.
    """

    def __init__(self, file: StateFile, offload: Offload) -> None:
        self._file = file
        self._offload = offload
        self._stored: tuple[object, ...] = ()
        self._stored_at: datetime | None = None
        self._storing: asyncio.Task[None] | None = None
        #: What is to be written next, when the disk has time again; only the newest counts.
        self._next: str | None = None
        self._refused = False

    def read(self) -> StoredState | None:
        """What the previous run stored; None when there is nothing.

        Raises:
            pydantic.ValidationError: When it is no such memory.
        """
        text = self._file.read()
        return None if text is None else _STATE.validate_json(text)

    def set_aside(self) -> str:
        """Move an unreadable memory out of the way; returns the name it is kept under."""
        return self._file.set_aside().name

    async def store(
        self,
        arbiter: ArbiterMemory,
        rules: Callable[[], Mapping[str, str]],
        shed: tuple[DeviceId, ...],
        now: datetime,
        utc: datetime,
        speed: float,
    ) -> None:
        """Store positions, sheddings and limits at once when they have changed, and everything once a minute.

        What the disk has refused is tried again soon: a switching that only this run knows is forgotten with it.

        Args:
            arbiter: The arbiter's memory.
            rules: Gives the rules' memories; asked only when something is stored.
            shed: Loads kept open by the rules.
            now: Present instant of the line that never steps.
            utc: Time of day.
            speed: Speed of the clock.
        """
        urgent = (
            tuple(sorted((device, one.closed, one.ours, one.switched_at) for device, one in arbiter.contacts.items())),
            shed,
            # Without their expiry, which a rule renews each cycle.
            tuple((claim.key, str(claim.limit)) for claim in arbiter.limits),
            # A change of direction must be known after a restart, or the dead time would be lost; so must a plant set free.
            tuple(
                sorted(
                    (device, one.sign, one.zero_since is None, one.at_end, one.power_w is None)
                    for device, one in arbiter.power.items()
                )
            ),
        )
        every_s = (RETRY_S if self._refused else STORE_EVERY_S) * speed
        due = self._stored_at is None or abs(now - self._stored_at) >= timedelta(seconds=every_s)
        if urgent == self._stored and not due:
            return
        self._next = _STATE.dump_json(StoredState(at=now, utc=utc, arbiter=arbiter, rules=dict(rules()))).decode()
        self._stored, self._stored_at = urgent, now
        if self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._write_on(), name="store-control")
        # A sick disk must not hold up a shedding, whether it hangs on this write or on an earlier one: after this long the
        # loop goes on, and what is newest by then is written when the disk answers again.
        await asyncio.wait([self._storing], timeout=_STORE_WAIT_S)

    async def _write_on(self) -> None:
        while (text := self._next) is not None:
            self._next = None
            await self._offload(self._write, text)

    def _write(self, text: str) -> None:
        try:
            self._file.write(text)
        except OSError as error:
            # Shedding with a full disk is better than no shedding; the outbox has its own alarm for the disk.
            if not self._refused:
                _LOG.warning("control memory is not stored, and is tried again: %s", error)
            self._refused = True
            return
        if self._refused:
            _LOG.info("control memory is stored again")
        self._refused = False

    async def close(self) -> None:
        """Wait for the last write."""
        if self._storing is not None:
            await self._storing
