"""The codec of the durable lane: one frame is one MQTT payload, byte layout in ``shared/docs/wire-contract.md``.

A frame names edge, epoch, stream and sequence number, and carries readings as columns (:mod:`tieline_core.frame_readings`),
event and forecast records, or a skip. Sizes are declared and checked before anything is decompressed.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Final

import zstandard
from pydantic import FailFast, TypeAdapter, ValidationError

from tieline_core.errors import FrameError
from tieline_core.frame_readings import (
    DEFAULT_LIMITS,
    LEVEL,
    READINGS_HEADER,
    Limits,
    ReadingBatch,
    decode_readings,
    decompress,
    encode_batch,
    encode_readings,
    exponent_of,
)
from tieline_core.ids import EdgeId
from tieline_core.messages.telemetry import MAX_EPOCH, MAX_SEQ, FrameKind, Record, Stream

__all__ = [
    "DEFAULT_LIMITS",
    "HEADER",
    "MAGIC",
    "READINGS_HEADER",
    "RECORDS_HEADER",
    "Frame",
    "Limits",
    "ReadingBatch",
    "decode",
    "decode_readings",
    "decode_records",
    "encode",
    "encode_batch",
    "encode_readings",
    "encode_records",
    "exponent_of",
]

MAGIC: Final = b"TLF1"
#: magic, kind, stream, length of the edge id, reserved, epoch, seq, body length, CRC-32.
HEADER: Final = struct.Struct("<4sBBBBIQII")
#: size of the JSON before zstd.
RECORDS_HEADER: Final = struct.Struct("<I")


@dataclass(frozen=True)
class Frame:
    """One unit of the durable lane."""

    edge: EdgeId
    epoch: int
    stream: Stream
    seq: int
    kind: FrameKind
    body: bytes

    @cached_property
    def sha256(self) -> str:
        """Hex hash of kind and body: the same content keeps it when it is sent again in another epoch."""
        return hashlib.sha256(bytes([self.kind]) + self.body).hexdigest()

    def relabelled(self, epoch: int, seq: int) -> Frame:
        """The same content under another epoch and sequence number."""
        return replace(self, epoch=epoch, seq=seq)


def encode(frame: Frame) -> bytes:
    """The bytes of a frame as they go over the wire."""
    edge = frame.edge.encode()
    bare = HEADER.pack(MAGIC, frame.kind, frame.stream.number, len(edge), 0, frame.epoch, frame.seq, len(frame.body), 0)
    crc = zlib.crc32(frame.body, zlib.crc32(edge, zlib.crc32(bare)))
    return bare[:-4] + struct.pack("<I", crc) + edge + frame.body


def decode(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Frame:
    """Read the outer frame; the body stays as it is.

    Raises:
        FrameError: Too long, too short, wrong magic, wrong lengths, wrong CRC, unknown kind or stream, bad edge id.
    """
    if len(data) > limits.frame_bytes:
        raise FrameError(f"{len(data)} bytes, at most {limits.frame_bytes} are read")
    if len(data) < HEADER.size:
        raise FrameError(f"{len(data)} bytes are shorter than a header ({HEADER.size})")
    magic, kind, stream, edge_len, reserved, epoch, seq, body_len, crc = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise FrameError(f"starts with {magic!r}, expected {MAGIC!r}")
    if reserved:
        raise FrameError(f"reserved byte is {reserved}, expected 0")
    if len(data) != HEADER.size + edge_len + body_len:
        raise FrameError(f"{len(data)} bytes, the header says {HEADER.size + edge_len + body_len}")
    edge, body = data[HEADER.size : HEADER.size + edge_len], data[HEADER.size + edge_len :]
    if zlib.crc32(body, zlib.crc32(edge, zlib.crc32(data[: HEADER.size - 4] + bytes(4)))) != crc:
        raise FrameError("the CRC-32 does not match")
    if not 1 <= epoch <= MAX_EPOCH or not 1 <= seq <= MAX_SEQ:
        raise FrameError(f"epoch {epoch} and seq {seq} start at 1 and end at {MAX_EPOCH} and {MAX_SEQ}")
    try:
        return Frame(EdgeId(edge.decode("ascii")), epoch, list(Stream)[stream], seq, FrameKind(kind), body)
    except (ValueError, IndexError) as error:
        raise FrameError(f"header names something unknown: {error}") from error


#: Stops at the first wrong record: a million wrong ones would take a million error texts.
_RECORDS: Final[TypeAdapter[list[Record]]] = TypeAdapter(Annotated[list[Record], FailFast()])


def encode_records(records: Sequence[Record]) -> bytes:
    """Body of a RECORDS frame: a JSON array of events and issued forecasts under zstd."""
    raw = _RECORDS.dump_json(list(records))
    return RECORDS_HEADER.pack(len(raw)) + zstandard.ZstdCompressor(LEVEL).compress(raw)


def decode_records(body: bytes, limits: Limits = DEFAULT_LIMITS) -> list[Record]:
    """Read the body of a RECORDS frame.

    Raises:
        FrameError: When it is no such body or a record breaks its schema.
    """
    if len(body) < RECORDS_HEADER.size:
        raise FrameError("the body is shorter than its header")
    raw = decompress(body[RECORDS_HEADER.size :], RECORDS_HEADER.unpack_from(body)[0], limits)
    try:
        records = _RECORDS.validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise FrameError(f"record {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    if len(records) > limits.records:
        raise FrameError(f"{len(records)} records, at most {limits.records} are read")
    return records
