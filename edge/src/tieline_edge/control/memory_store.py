"""What control remembers, on the disk before anything is written to a device."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from tieline_core.ids import DeviceId
from tieline_edge.control.memory import ArbiterMemory
from tieline_edge.control.state_file import StateFile
from tieline_edge.control.state_writer import RETRY_S, Offload, StateWriter

#: The arbiter's memory of powers is stored at least this often; positions and sheddings at once.
STORE_EVERY_S: Final = 60.0
_STORE_WAIT_S: Final = 0.25


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
        self._text = ""
        self._disk = StateWriter(file, lambda: self._text, offload)
        self._stored: tuple[object, ...] = ()
        self._stored_at: datetime | None = None

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
            tuple(
                sorted((device, one.closed, one.ours, one.closing, one.switched_at) for device, one in arbiter.contacts.items())
            ),
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
        every_s = (RETRY_S if self._disk.refused else STORE_EVERY_S) * speed
        due = self._stored_at is None or abs(now - self._stored_at) >= timedelta(seconds=every_s)
        changed = urgent != self._stored or due
        if changed:
            self._text = _STATE.dump_json(StoredState(at=now, utc=utc, arbiter=arbiter, rules=dict(rules()))).decode()
            self._stored, self._stored_at = urgent, now
            self._disk.touch()
        if (write := self._disk.push(now, speed)) is not None and changed:
            # A sick disk must not hold up a shedding, whether it hangs on this write or on an earlier one: after this long
            # the loop goes on, and what is newest by then is written when the disk answers again.
            await asyncio.wait([write], timeout=_STORE_WAIT_S)

    async def close(self) -> None:
        """Wait for the last write."""
        await self._disk.close()
