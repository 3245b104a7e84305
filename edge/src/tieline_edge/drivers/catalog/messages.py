"""MQTT parts of a catalogue entry: where a value stands in a device's messages, what says that it is there, how it is ordered.

Topics and payloads are templates: ``{serial}`` is the instance's name, a text that is nothing but ``{off_timer_s}`` (or another
variable) becomes that number. Nothing in them is evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Final, get_args

from pydantic import Field, JsonValue, field_validator, model_validator

from tieline_edge.drivers.catalog.form import Form, Variable

#: A topic with the device's name in it and no wildcard: nobody else's messages may arrive there.
Topic = Annotated[str, Field(max_length=200, pattern=r"^[^#+{}]*\{serial\}[^#+{}]*$")]
_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_KNOWN: Final = frozenset({"serial", *get_args(Variable)})


class MessageForm(Form):
    """How a meter speaks that waits for a receipt: topics and keys of its JSON messages."""

    topic: Topic = Field(description="where readings arrive, with {serial}")
    receipt_topic: Topic = Field(description="where the receipt is published")
    id_key: str = "id"
    time_key: str = "ts"
    report_s: float = Field(gt=0, description="period of the device's own reports")


class MessageSource(Form):
    """One place where a value stands: a topic, and a key in its payload.

    ``key`` is dotted (``ENERGY.Power``) or, with a leading slash, a JSON pointer (RFC 6901); empty means that the payload is
    the value. ``texts`` translates words (``ON``, ``true``) into numbers; a word it does not have is an error.
    """

    topic: Topic
    key: str = Field(default="", max_length=120)
    scale: float = Field(default=1.0, gt=0, description="to the quantity's unit: 1000 for kW or kWh")
    texts: dict[str, float] | None = Field(default=None, description="words and their numbers")


class Availability(Form):
    """The topic, usually retained and set by the device's last will, that says whether it is there."""

    topic: Topic
    key: str = Field(default="", max_length=120)
    online: str = Field(min_length=1, max_length=40)
    offline: str = Field(min_length=1, max_length=40)


class Publication(Form):
    """A message for a device."""

    topic: Topic
    payload: JsonValue = Field(description="a text is sent as it is, everything else as JSON")

    @field_validator("payload")
    @classmethod
    def _known_placeholders(cls, payload: JsonValue) -> JsonValue:
        for text in _texts(payload):
            for name in _PLACEHOLDER.findall(text):
                if name not in _KNOWN:
                    raise ValueError(f"{{{name}}} is no placeholder; there are: {', '.join(sorted(_KNOWN))}")
        return payload


class Confirmation(Form):
    """What a device says once it has done it; nothing else counts as done."""

    topic: Topic
    key: str = Field(default="", max_length=120)
    texts: dict[str, float] | None = None
    value: float | Variable
    tolerance: float = Field(default=0.5, ge=0)
    within_s: float = Field(default=5.0, gt=0, le=60, description="wall seconds the device may take")


class Order(Publication):
    """One message of an order and how the device confirms it."""

    confirm: Confirmation | None = None


class ReportForm(Form):
    """How a device without receipts reports: how often, how it says that it is there, and what makes it report at once."""

    report_s: float = Field(gt=0, description="period of the device's own reports")
    silent_periods: float = Field(default=3.0, ge=1, description="after so many periods without a message it is offline")
    availability: Availability | None = None
    ask: tuple[Publication, ...] = Field(default=(), description="published after a (re)connect and once a period of polling")

    @model_validator(mode="after")
    def _asks_with_constants(self) -> ReportForm:
        for question in self.ask:
            if any(name != "serial" for text in _texts(question.payload) for name in _PLACEHOLDER.findall(text)):
                raise ValueError("a question has no variables but {serial}")
        return self


def _texts(payload: JsonValue) -> Iterator[str]:
    if isinstance(payload, str):
        yield payload
    elif isinstance(payload, list):
        for item in payload:
            yield from _texts(item)
    elif isinstance(payload, dict):
        for item in payload.values():
            yield from _texts(item)
