"""OPC-UA parts of a catalogue entry: nodes that are written, and nodes that are watched for the console."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tieline_edge.drivers.catalog.form import Form, Span, Variable


class NodeWrite(Form):
    """One node of a write; its data type is asked of the server, not assumed.

    ``node`` is a node id, ``{root}`` stands for the instance's root. ``value`` is a constant or a variable, see
    :class:`~tieline_edge.drivers.catalog.entry.Write`.
    """

    node: str = Field(min_length=3, max_length=200)
    value: float | Variable
    sign: Literal[1, -1] = 1
    writable: Span | None = Field(default=None, description="what the device takes; beyond it nothing is written")
