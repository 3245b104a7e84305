"""Identifiers as types with one canonical form: lower case, digits, hyphen and underscore, at most 48 characters a part.

``harbour`` is an edge, ``bat1`` a device of it, ``harbour/bat1/p_w`` a point. A point names edge, device and quantity,
so that it means the same in a file, on the wire and on a screen.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Self

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

_PART = r"[a-z0-9](?:[a-z0-9_-]{0,46}[a-z0-9])?"


class _Id(str):
    """A validated string; construction is the only way in, so a value of this type is always canonical."""

    __slots__ = ()
    pattern: ClassVar[re.Pattern[str]]
    example: ClassVar[str]

    def __new__(cls, text: str) -> Self:
        if not cls.pattern.fullmatch(text):
            raise ValueError(f"{text!r} is no {cls.__name__}: expected a form like {cls.example!r} (a-z, 0-9, '-', '_')")
        return super().__new__(cls, text)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: type[Any], _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(
            cls, core_schema.str_schema(max_length=160), serialization=core_schema.to_string_ser_schema()
        )


class EdgeId(_Id):
    """One edge agent, and with it one site."""

    __slots__ = ()
    pattern = re.compile(_PART)
    example = "harbour"


class DeviceId(_Id):
    """One device behind an edge; unique within its edge."""

    __slots__ = ()
    pattern = re.compile(_PART)
    example = "bat1"


class PointId(_Id):
    """One measured or derived quantity of one device: ``edge/device/quantity``."""

    __slots__ = ()
    pattern = re.compile(rf"{_PART}/{_PART}/{_PART}")
    example = "harbour/bat1/p_w"

    @classmethod
    def of(cls, edge: str, device: str, quantity: str) -> Self:
        """Join the three parts; raises ValueError when one of them is not canonical."""
        return cls(f"{edge}/{device}/{quantity}")

    @property
    def edge(self) -> EdgeId:
        """The edge part."""
        return EdgeId(self.split("/")[0])

    @property
    def device(self) -> DeviceId:
        """The device part."""
        return DeviceId(self.split("/")[1])

    @property
    def quantity(self) -> str:
        """The quantity part, a key of :data:`tieline_core.quantities.QUANTITIES` when it is one of ours."""
        return self.split("/")[2]
