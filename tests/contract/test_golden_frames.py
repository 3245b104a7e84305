"""Golden frames: what was once on the wire is read and written the same for ever, by us and by whoever reads the page."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.contract.golden import make, vendor_decoder
from tieline_core.frame import Frame, ReadingBatch, decode, decode_readings, decode_records, encode
from tieline_core.ids import PointId
from tieline_core.messages.telemetry import FrameKind, Skip
from tieline_core.quantities import QUANTITIES, round_to
from tieline_core.timegrid import to_us

FRAMES = make.frames()
READINGS = {f"readings-{name}": rows for name, rows in make.readings().items()}
Row = tuple[str, int, int, float | None]


def golden(name: str) -> bytes:
    return (make.FOLDER / f"{name}.bin").read_bytes()


def expected(name: str) -> list[Row]:
    """What was put in, at its declared resolution, in the order of the wire."""
    rows = READINGS[name]
    readings = rows.readings() if isinstance(rows, ReadingBatch) else rows
    out: list[Row] = []
    for reading in readings:
        value = reading.value
        quantity = QUANTITIES.get(reading.point.quantity)
        if value is not None and quantity is not None:
            value = round_to(value, quantity.exponent)
        out.append((str(reading.point), to_us(reading.measured_at), int(reading.quality), value))
    return sorted(out, key=lambda row: row[:2])


def test_every_kind_and_corner_has_a_golden_frame_and_no_file_is_left_over() -> None:
    assert {path.stem for path in make.FOLDER.glob("*.bin")} == set(FRAMES)
    assert {frame.kind for frame in FRAMES.values()} == set(FrameKind)


@pytest.mark.parametrize("name", sorted(FRAMES))
def test_a_golden_frame_is_written_byte_for_byte(name: str) -> None:
    assert encode(FRAMES[name]) == golden(name)


@pytest.mark.parametrize("name", sorted(FRAMES))
def test_a_golden_frame_is_read_as_it_was_meant(name: str) -> None:
    frame = decode(golden(name))
    assert frame == FRAMES[name]
    if frame.kind is FrameKind.RECORDS:
        assert len(decode_records(frame.body)) == 2
    elif frame.kind is FrameKind.SKIP:
        assert Skip.from_bytes(frame.body, "skip").last == frame.seq


@pytest.mark.parametrize("name", sorted(READINGS))
def test_the_readings_of_a_golden_frame_are_those_that_were_put_in(name: str) -> None:
    batch = decode_readings(decode(golden(name)).body)
    got = [
        (str(batch.points[i]), int(t), int(q), None if np.isnan(v) else float(v))
        for i, t, q, v in zip(batch.point_index, batch.at_us, batch.quality, batch.values, strict=True)
    ]
    assert got == expected(name)


@pytest.mark.parametrize("name", sorted(READINGS))
def test_a_decoder_written_from_the_page_reads_the_same(name: str) -> None:
    frame = vendor_decoder.decode(golden(name))
    assert frame.readings == expected(name)


@pytest.mark.parametrize("name", sorted(FRAMES))
def test_a_decoder_written_from_the_page_reads_the_same_label(name: str) -> None:
    frame, meant = vendor_decoder.decode(golden(name)), FRAMES[name]
    label = (frame.kind, frame.stream, frame.edge, frame.epoch, frame.seq)
    assert label == (meant.kind, meant.stream.number, meant.edge, meant.epoch, meant.seq)
    if meant.kind is not FrameKind.READINGS:
        assert frame.json == json.loads(meant.body) if meant.kind is FrameKind.SKIP else len(frame.json) == 2


def test_minus_zero_and_the_smallest_number_survive() -> None:
    batch = decode_readings(decode(golden("readings-float64")).body)
    rows = batch.values[batch.point_index == batch.points.index(PointId("harbour/bat1/vendor_x"))]
    assert rows[2] == 5e-324
    assert np.signbit(rows[3])


def test_relabelling_changes_the_label_only() -> None:
    frame: Frame = decode(golden("readings-one"))
    assert frame.relabelled(9, 1).body == frame.body
