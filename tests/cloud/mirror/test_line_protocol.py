"""Line protocol by columns: what it says, for every quality, and that it reads back."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from tieline_cloud.mirror.line_protocol import bodies, encode_body, encode_lines
from tieline_core.frame import ReadingBatch
from tieline_core.ids import PointId
from tieline_core.quantities import Quality, Reading

AT = datetime(2016, 12, 1, 12, 0, 0, 250, tzinfo=UTC)
POINT = PointId("harbour/bat-1/p_w")


def lines(*readings: Reading) -> list[str]:
    return [line.decode() for line in encode_lines(ReadingBatch.of(readings), "tieline")]


def test_a_reading_is_one_line_with_tags_field_and_microseconds() -> None:
    assert lines(Reading(POINT, -1000.5, AT)) == ["tieline,edge=harbour,device=bat-1 p_w=-1000.5 1480593600000250"]


def test_a_quality_other_than_good_travels_beside_the_number_and_alone_without_one() -> None:
    rows = [
        Reading(POINT, 1.0, AT),
        Reading(POINT, 2.0, AT, Quality.SUBSTITUTED),
        Reading(POINT, None, AT, Quality.BAD),
        Reading(POINT, 4.0, AT, Quality.STALE),
    ]
    fields = [line.split(" ")[1] for line in lines(*rows)]
    assert fields == ["p_w=1", "p_w=2,p_w_quality=2i", "p_w_quality=4i", "p_w=4,p_w_quality=3i"]


def test_bodies_hold_at_most_so_many_lines_and_every_line_once() -> None:
    batch = ReadingBatch.of([Reading(POINT, float(n), AT) for n in range(25)])
    parts = [body for _, body in bodies(batch, "tieline", 10)]
    assert [part.count(b"\n") for part in parts] == [10, 10, 5]
    assert b"".join(parts) == encode_body(batch, "tieline")


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=64), min_size=1, max_size=50))
def test_every_finite_number_reads_back_exactly(values: list[float]) -> None:
    batch = ReadingBatch.of([Reading(POINT, value, AT) for value in values])
    texts = [line.split(b" ")[1].removeprefix(b"p_w=") for line in encode_lines(batch, "tieline")]
    assert [float(text) for text in texts] == values
