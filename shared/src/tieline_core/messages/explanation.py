"""The hub asks an edge why a device does what it does; the edge answers in words from its own trace."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import AwareDatetime, Field

from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.base import Message

#: Longest explanation that is sent; what is longer is cut and says so.
MAX_TEXT: Final = 12_000


class ExplainRequest(Message):
    """Hub to edge: why does this device do what it does, or did at an instant?"""

    version: Literal[1] = 1
    ask: Literal["why"] = "why"
    request_id: str = Field(min_length=8, max_length=64)
    edge_id: EdgeId
    device_id: DeviceId
    at: AwareDatetime | None = Field(default=None, description="null = when the request arrives")
    replay: bool = Field(default=False, description="ask the arbiter again with what was kept, and compare")


class ExplainReply(Message):
    """Edge to hub: the explanation."""

    version: Literal[1] = 1
    reply: Literal["why"] = "why"
    request_id: str = Field(min_length=8, max_length=64)
    edge_id: EdgeId
    at: AwareDatetime
    device_id: DeviceId
    text: str = Field(max_length=MAX_TEXT)
