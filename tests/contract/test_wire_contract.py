"""The page a vendor implements from says what the codec does."""

from __future__ import annotations

import re
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

import zstandard

from tieline_cloud.ingest.settings import BrokerAddress, EdgeRates, IngestSettings
from tieline_core import topics
from tieline_core.frame import DEFAULT_LIMITS, HEADER, MAGIC, READINGS_HEADER, Frame, decode_readings, encode, encode_readings
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.explanation import ExplainReply
from tieline_core.messages.reconciliation import MAX_DAYS, MAX_REPLY_BYTES, BackfillReply, DigestReply, RefusedReply
from tieline_core.messages.telemetry import MAX_EPOCH, MAX_SEQ, FrameKind, SkipReason, Stream
from tieline_core.quantities import QUANTITIES, Quality, Reading

PAGE = (Path(__file__).parents[2] / "shared/docs/wire-contract.md").read_text(encoding="utf-8")
AT = datetime(2016, 12, 7, 17, 30, tzinfo=UTC)
EXAMPLE = [
    Reading(PointId("harbour/tr1/p_w"), 401234.5, AT),
    Reading(PointId("harbour/tr1/p_w"), 401230.0, AT + timedelta(seconds=1), Quality.UNCERTAIN),
    Reading(PointId("harbour/tr1/oil_temp_degc"), None, AT, Quality.BAD),
]


def rows(heading: str) -> list[list[str]]:
    """The table rows of the first table below a heading."""
    section = PAGE.split(heading, 1)[1]
    table = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert table is not None
    return [[cell.strip().strip("`") for cell in line.strip().strip("|").split("|")] for line in table[0].splitlines()[2:]]


def test_the_quantities_of_the_page_are_those_of_the_product() -> None:
    expected = [[q.key, q.unit, f"1e{q.exponent}"] for q in QUANTITIES.values()]
    assert rows("### Quantities and their resolution") == expected


def test_the_header_has_the_offsets_of_the_page() -> None:
    sizes = {1: "B", 4: "I", 8: "Q"}
    fields = rows("## Frame\n")
    offset = 0
    for row in fields:
        assert int(row[0]) == offset, row
        offset += int(row[1])
    assert offset == HEADER.size
    layout = "<4s" + "".join(sizes[int(row[1])] for row in fields[1:])
    data = encode(Frame(EdgeId("harbour"), 3, Stream.MEASURE, 42, FrameKind.READINGS, b"xyz"))
    assert struct.unpack_from(layout, data)[:8] == (MAGIC, 1, 1, 7, 0, 3, 42, 3)


def test_the_limits_of_the_page_are_those_of_the_decoder() -> None:
    said = r"Limits: frame ([\d,]+) bytes, ([\d,]+) readings, ([\d,]+) points, ([\d,]+) bytes uncompressed, ([\d,]+) records"
    limits = re.search(said, PAGE)
    assert limits is not None
    numbers = [int(text.replace(",", "")) for text in limits.groups()]
    assert numbers == [
        DEFAULT_LIMITS.frame_bytes,
        DEFAULT_LIMITS.readings,
        DEFAULT_LIMITS.points,
        DEFAULT_LIMITS.raw_bytes,
        DEFAULT_LIMITS.records,
    ]


def test_the_topics_of_the_page_are_those_of_the_product() -> None:
    made = [
        topics.hello("<edge>"),
        topics.answer("<edge>"),
        topics.frame("<edge>", "<stream>"),
        topics.ack("<edge>"),
        topics.reported("<edge>"),
        topics.desired("<edge>"),
        topics.command("<edge>"),
        topics.request("<edge>"),
        topics.reply("<edge>"),
    ]
    assert [row[0] for row in rows("## Topics")] == made


def test_the_replies_of_the_page_are_those_of_the_product() -> None:
    common = {"version", "request_id", "edge_id", "at", "reply"}
    kinds = (DigestReply, BackfillReply, ExplainReply, RefusedReply)
    made = {kind.model_fields["reply"].default: set(kind.model_fields) - common for kind in kinds}
    named = {row[0]: set(re.findall(r"`(\w+)`", "`" + row[2] + "`")) - {"hour"} for row in rows("## Reconciliation")}
    named["digests"] -= {"frames", "readings", "digest"}
    assert named == made
    assert f"at most {MAX_DAYS} days" in PAGE
    assert f"at most {MAX_REPLY_BYTES // 1024} KiB" in PAGE
    assert all(f"`{reason}`" in PAGE for reason in SkipReason)


def columns_of_the_page() -> bytes:
    example = PAGE.split("as hexadecimal:", 1)[1].split("```")[1]
    return bytes.fromhex("".join(example.split()))


def test_the_worked_example_is_what_the_codec_writes() -> None:
    body = encode_readings(EXAMPLE)
    assert zstandard.ZstdDecompressor().decompress(body[READINGS_HEADER.size :]).hex() == columns_of_the_page().hex()


def test_a_frame_built_by_hand_from_the_page_is_understood() -> None:
    raw = columns_of_the_page()
    base_us = int(AT.timestamp()) * 1_000_000
    body = struct.pack("<IHqI", 3, 2, base_us, len(raw)) + zstandard.ZstdCompressor().compress(raw)
    key = lambda reading: (reading.point, reading.measured_at)  # noqa: E731 (a sort key used twice)
    assert decode_readings(body).readings() == sorted(EXAMPLE, key=key)


def test_the_header_of_readings_has_the_offsets_of_the_page() -> None:
    fields = rows("### Body of readings")
    assert [int(row[0]) for row in fields] == [0, 4, 6, 14]
    assert sum(int(row[1]) for row in fields) == READINGS_HEADER.size


def test_the_largest_labels_of_the_page_are_those_of_the_product() -> None:
    found = re.search(r"Epochs end at ([\d,]+), numbers at ([\d,]+)\.", PAGE)
    assert found is not None
    assert [int(text.replace(",", "")) for text in found.groups()] == [MAX_EPOCH, MAX_SEQ]


def test_what_the_page_says_a_hub_takes_is_what_it_takes() -> None:
    rates, settings = EdgeRates(), IngestSettings(BrokerAddress("127.0.0.1", 1))
    said = (
        f"By default {rates.frames.per_s:,.0f} frames/s (bursts of {rates.frames.burst:,.0f}), "
        f"{rates.bytes.per_s / 1e6:.0f} MB/s, "
        f"one hello a second (bursts of {rates.hellos.burst:.0f}), a new epoch every {1 / rates.epochs.per_s:.0f} s "
        f"(bursts of {rates.epochs.burst:.0f}), and {settings.max_pending_per_edge} frames that wait at one time."
    )
    assert said in PAGE
    assert rates.hellos.per_s == 1.0
