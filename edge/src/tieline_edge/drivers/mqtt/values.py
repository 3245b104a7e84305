"""From a payload to a number: bounded JSON, a dotted key or a JSON pointer, words and their numbers. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Final

from tieline_core.errors import BadInputError

#: Largest message of a device that is looked at; the largest of the known ones (Tasmota, Zigbee2MQTT) have about 2 kB.
MAX_BYTES: Final = 16 * 1024
_MAX_WORD_CHARS: Final = 64
#: Quantities that may be told as true and false.
_TWO_STATES: Final = frozenset({"closed", "breaker_closed"})
_MISSING: Final = object()


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def document_of(payload: bytes, source: str, max_bytes: int = MAX_BYTES) -> object:
    """The payload as JSON; a bare word that is no JSON is itself.

    Raises:
        BadInputError: When it is too large, no text, or looks like JSON and is none.
    """
    if len(payload) > max_bytes:
        raise BadInputError(source, "", f"{len(payload)} bytes", f"at most {max_bytes} bytes are read")
    try:
        text = payload.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise BadInputError(source, "", payload[:80], "UTF-8 text is expected") from error
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        if text and len(text) <= _MAX_WORD_CHARS and text[0] not in '{["':
            return text
        raise BadInputError(source, "", payload[:80], f"no JSON: {error}") from error


def value_at(document: object, key: str) -> object | None:
    """The value under a dotted key or a JSON pointer (RFC 6901); None when it is not there or null, all of it for no key."""
    if not key:
        return document
    if key.startswith("/"):
        parts = [part.replace("~1", "/").replace("~0", "~") for part in key[1:].split("/")]
    else:
        parts = key.split(".")
    found = document
    for part in parts:
        if isinstance(found, Mapping):
            found = found.get(part, _MISSING)
        elif isinstance(found, list) and part.isdecimal() and int(part) < len(found):
            found = found[int(part)]
        else:
            return None
        if found is _MISSING:
            return None
    return found


def word_of(value: object) -> str:
    """A value as the word it is compared by: ``true`` and ``false`` for JSON's, whole numbers without a point."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)[:_MAX_WORD_CHARS]


def number_of(
    value: object, texts: Mapping[str, float] | None, source: str, key: str, quantity: str = "", scale: float = 1.0
) -> float:
    """A value as a number.

    Args:
        value: What stands in the message.
        texts: Words and their numbers; None when numbers are expected.
        source: Topic, for the message.
        key: Key, for the message.
        quantity: What is measured; two-state quantities may be true or false.
        scale: Factor to the quantity's unit.

    Raises:
        BadInputError: When it is no finite number, or a word that is not in the table.
    """
    if texts is not None:
        if not isinstance(value, str | bool | int | float) or word_of(value) not in texts:
            raise BadInputError(source, key, word_of(value), f"one of {', '.join(texts)} is expected")
        return texts[word_of(value)]
    if isinstance(value, bool) and quantity in _TWO_STATES:
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadInputError(source, key, word_of(value), "a finite number is expected")
    try:
        number = float(value) * scale
    except OverflowError as error:
        raise BadInputError(source, key, word_of(value), "a finite number is expected") from error
    if not math.isfinite(number):
        raise BadInputError(source, key, word_of(value), "a finite number is expected")
    return number
