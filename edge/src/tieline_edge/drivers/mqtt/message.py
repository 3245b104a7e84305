"""One JSON message of a meter, checked. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tieline_core.errors import BadInputError
from tieline_core.quantities import Reading
from tieline_core.timegrid import EARLIEST, LATEST
from tieline_edge.drivers.catalog.messages import MessageForm
from tieline_edge.drivers.mqtt.values import document_of
from tieline_edge.drivers.points import PointTable, good_reading

MAX_BYTES: Final = 4096
_MAX_ID_CHARS: Final = 128


@dataclass(frozen=True, slots=True)
class MeterMessage:
    """A checked message.

    Attributes:
        id: Identity that the receipt repeats.
        at: Instant of measurement, as the meter says.
        values: The JSON object.
    """

    id: str
    at: datetime
    values: Mapping[str, object]


def parse_message(payload: bytes, form: MessageForm, source: str) -> MeterMessage:
    """Check size, JSON, identity and time.

    Raises:
        BadInputError: Naming topic, key, value and reason.
    """
    found = document_of(payload, source, MAX_BYTES)
    if not isinstance(found, dict):
        raise BadInputError(source, "", payload[:80], "a JSON object is expected")
    identity, stamp = found.get(form.id_key), found.get(form.time_key)
    if not isinstance(identity, str) or not 0 < len(identity) <= _MAX_ID_CHARS:
        raise BadInputError(source, form.id_key, identity, f"a text of 1 to {_MAX_ID_CHARS} characters is expected")
    try:
        at = datetime.fromisoformat(stamp) if isinstance(stamp, str) else None
    except ValueError:
        at = None
    if at is None or at.tzinfo is None or not EARLIEST <= at <= LATEST:
        reason = f"an RFC 3339 time with zone from {EARLIEST.year} to {LATEST.year - 1} is expected"
        raise BadInputError(source, form.time_key, stamp, reason)
    return MeterMessage(identity, at, found)


def readings_of(message: MeterMessage, points: PointTable, source: str) -> list[Reading]:
    """The message's numbers as readings; a key that is absent or null gives none.

    Raises:
        BadInputError: When a value is no finite number, or none of the points is there.
    """
    readings = []
    for row in points:
        key = row.point.field or ""
        value = message.values.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadInputError(source, key, value, "a finite number is expected")
        try:
            readings.append(good_reading(row, float(value), message.at))
        except (OverflowError, ValueError) as error:
            raise BadInputError(source, key, str(value)[:40], "a finite number is expected") from error
    if not readings:
        raise BadInputError(source, "", sorted(message.values), "none of the expected values is there")
    return readings
