"""OPC-UA parts of a catalogue entry: nodes that are written, and nodes that are watched for the console."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tieline_edge.drivers.catalog.form import Form, Variable


class NodeWrite(Form):
    """One node of a write; its data type is asked of the server, not assumed.

    ``node`` is a node id, ``{root}`` stands for the instance's root. ``value`` is a constant or a variable, see
    :class:`~tieline_edge.drivers.catalog.entry.Write`; ``low`` and ``high`` bound what may be written.
    """

    node: str = Field(min_length=3, max_length=200)
    value: float | Variable
    sign: Literal[1, -1] = 1
    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> NodeWrite:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"node {self.node}: low {self.low:g} is above high {self.high:g}")
        return self
