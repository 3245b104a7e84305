"""The signed list of vital devices: customers that no rule, policy or configuration may ever shed."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import AwareDatetime, Field

from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.base import Message

#: A list has at most this many bytes with its signature; refused unread beyond it.
MAX_LIST_BYTES: Final = 256 * 1024


class VitalList(Message):
    """Vital devices of one edge. It stays in force until a newer signed one takes its place; nothing unsigned shortens it."""

    version: Literal[1] = 1
    edge_id: EdgeId
    issued_by: str = Field(min_length=1, max_length=64)
    issued_at: AwareDatetime
    devices: tuple[DeviceId, ...] = Field(max_length=2000)
