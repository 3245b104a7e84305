"""OPC-UA parts of a catalogue entry: nodes that are written, and nodes that are subscribed to for people to look at."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from tieline_edge.drivers.catalog.form import Form, Span, Variable

#: What no rule, limit or schedule reads: only these may come by subscription (decision 12).
VIEW_ONLY: Final = frozenset({"q_var", "s_va", "e_import_wh", "e_export_wh", "temp_degc"})


class Subscribe(Form):
    """A point that comes by subscription: seen as it changes, decided on by nobody."""

    sampling_s: float = Field(default=1.0, ge=0.05, le=3600, description="how often the server looks at the node")
    deadband: float = Field(default=0.0, ge=0, description="smaller changes are not told, in the node's own unit")


class NodeWrite(Form):
    """One node of a write; its data type is asked of the server, not assumed.

    ``node`` is a node id, ``{root}`` stands for the instance's root. ``value`` is a constant or a variable, see
    :class:`~tieline_edge.drivers.catalog.entry.Write`.
    """

    node: str = Field(min_length=3, max_length=200)
    value: float | Variable
    sign: Literal[1, -1] = 1
    writable: Span | None = Field(default=None, description="what the device takes; beyond it nothing is written")
