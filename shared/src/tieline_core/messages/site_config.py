"""A whole site configuration on its way to an edge, as the person who published it wrote it."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import AwareDatetime, Field

from tieline_core.ids import EdgeId
from tieline_core.messages.base import Message

#: Most characters of a configuration: some two thousand devices.
MAX_CHARS: Final = 200_000


class SiteConfiguration(Message):
    """The YAML text of a site file; the edge checks it like a file of its own before anything changes."""

    version: Literal[1] = 1
    config_id: str = Field(min_length=8, max_length=64)
    edge_id: EdgeId
    issued_by: str = Field(min_length=1, max_length=64)
    issued_at: AwareDatetime
    text: str = Field(min_length=1, max_length=MAX_CHARS, description="the site file, comments included")
