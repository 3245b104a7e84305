"""Writes the golden frames beside this file: ``python -m tests.contract.golden.make``.

They were made once. The codec must go on to read them, and to write them byte for byte: a change here is a change of the
wire contract, and needs a new magic.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np

from tieline_core.frame import Frame, ReadingBatch, encode, encode_batch, encode_readings, encode_records
from tieline_core.ids import DeviceId, EdgeId, PointId
from tieline_core.messages.telemetry import (
    MAX_EPOCH,
    MAX_SEQ,
    Event,
    FrameKind,
    IssuedForecast,
    Severity,
    Skip,
    SkipReason,
    Stream,
)
from tieline_core.quantities import QUANTITIES, Quality, Reading

FOLDER: Final = Path(__file__).parent
AT: Final = datetime(2016, 12, 7, 17, 30, tzinfo=UTC)
EDGE: Final = EdgeId("harbour")
#: The largest multiple of a resolution that travels as an integer.
LARGEST: Final = 2**53 - 1


def _of(point: str, *values: float | None, quality: Quality = Quality.GOOD) -> list[Reading]:
    return [Reading(PointId(point), value, AT + timedelta(seconds=n), quality) for n, value in enumerate(values)]


#: The table may grow, which changes no frame; this one was made with the quantities up to here.
_LAST_OF_THAT_TIME: Final = "ladder_step"


def _every_quantity() -> list[Reading]:
    readings: list[Reading] = []
    keys = list(QUANTITIES)
    for key in keys[: keys.index(_LAST_OF_THAT_TIME) + 1]:
        quantity = QUANTITIES[key]
        unit = 10.0**quantity.exponent if quantity.exponent >= 0 else 1.0 / 10.0**-quantity.exponent
        readings += _of(f"harbour/bat1/{key}", 0.0, unit, -unit, 123456 * unit)
    return readings


def _many() -> ReadingBatch:
    points = tuple(PointId(f"harbour/m{number:04d}/p_w") for number in range(4096))
    numbers = np.arange(4096, dtype=np.int64)
    return ReadingBatch(
        points,
        numbers.astype(np.int32),
        1_481_131_800_000_000 + numbers * 1000,
        (numbers * 7919 % 100_003) / 10.0,
        (numbers % 3).astype(np.uint8),
    )


def _records() -> list[Event | IssuedForecast]:
    event = Event(
        event_id="e-0000001",
        edge_id=EDGE,
        device_id=DeviceId("tr1"),
        severity=Severity.ALARM,
        code="shed.thermal",
        text="tr1 at 127 % for 8 s",
        at=AT,
        data={"loading_pct": 127.3},
    )
    band = (1000.5, 2000.0)
    forecast = IssuedForecast(
        point=PointId("harbour/site/load_w"),
        model_id="seasonal",
        issued_at=AT,
        start=AT + timedelta(minutes=30),
        step_s=900,
        p10=band,
        p50=band,
        p90=band,
        lo90=band,
        hi90=band,
    )
    return [event, forecast]


def readings() -> dict[str, Sequence[Reading] | ReadingBatch]:
    """What the reading frames hold, by file name."""
    return {
        "one": _of("harbour/tr1/p_w", 401234.5),
        "every-quantity": _every_quantity(),
        "extremes": [
            *_of("harbour/fm1/e_import_wh", float(LARGEST), -float(LARGEST), 0.0, float(LARGEST)),
            *_of("harbour/tr1/p_w", 50_000_000.1, -50_000_000.1, 0.1),
        ],
        "float64": [
            *_of("harbour/bat1/vendor_x", 1.2345678901234567e-12, -1.7976931348623157e308, 5e-324, -0.0),
            *_of("harbour/tr1/p_w", 9.1e15, 0.1),
        ],
        "quality": [
            *_of("harbour/m1/p_w", 1.0, 2.0),
            *_of("harbour/m2/p_w", 3.0, quality=Quality.UNCERTAIN),
            *_of("harbour/m3/p_w", 4.0, quality=Quality.SUBSTITUTED),
            *_of("harbour/m4/p_w", 5.0, None, quality=Quality.STALE),
            *_of("harbour/m5/p_w", None, quality=Quality.BAD),
            *_of("harbour/m6/vendor_x", None, quality=Quality.BAD),
        ],
        "points-4096": _many(),
        "before-1970": [Reading(PointId("harbour/tr1/v_v"), 230.55, datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=UTC))],
    }


def frames() -> dict[str, Frame]:
    """Every golden frame by its file name without ending."""
    made: dict[str, Frame] = {}
    for seq, (name, rows) in enumerate(readings().items(), 42):
        body = encode_batch(rows) if isinstance(rows, ReadingBatch) else encode_readings(list(rows))
        made[f"readings-{name}"] = Frame(EDGE, 3, Stream.MEASURE, seq, FrameKind.READINGS, body)
    skip = Skip(first=7, last=9000, reason=SkipReason.EVICTED, readings=8_994_000)
    made["skip"] = Frame(EDGE, 3, Stream.BULK, 9000, FrameKind.SKIP, skip.to_bytes())
    made["records"] = Frame(EDGE, 3, Stream.ALARM, 1, FrameKind.RECORDS, encode_records(_records()))
    largest = encode_readings(_of("harbour/tr1/p_w", 1.0))
    made["label-extremes"] = Frame(EDGE, MAX_EPOCH, Stream.ALARM, MAX_SEQ, FrameKind.READINGS, largest)
    return made


def main() -> None:
    """Write all files."""
    for name, frame in frames().items():
        (FOLDER / f"{name}.bin").write_bytes(encode(frame))


if __name__ == "__main__":
    main()
