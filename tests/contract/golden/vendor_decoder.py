"""A decoder written from ``shared/docs/wire-contract.md`` alone: no codec of the product, no numpy, no speed.

What a device vendor's engineer would write to see whether the page says enough.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import zstandard


class WireError(Exception):
    """The bytes are not what the page says."""


@dataclass
class Frame:
    """Fields of the header, and the body taken apart."""

    kind: int
    stream: int
    edge: str
    epoch: int
    seq: int
    readings: list[tuple[str, int, int, float | None]]
    """Point, microseconds, quality, number."""
    json: Any = None


def decode(data: bytes) -> Frame:
    """Read one frame."""
    if len(data) > 1_048_576 or len(data) < 28 or data[:4] != b"TLF1":
        raise WireError("no frame")
    kind, stream, edge_length, reserved = data[4], data[5], data[6], data[7]
    epoch, seq = int.from_bytes(data[8:12], "little"), int.from_bytes(data[12:20], "little")
    body_length, crc = int.from_bytes(data[20:24], "little"), int.from_bytes(data[24:28], "little")
    if reserved != 0 or kind not in (1, 2, 3) or stream not in (0, 1, 2) or len(data) != 28 + edge_length + body_length:
        raise WireError("header")
    if zlib.crc32(data[:24] + bytes(4) + data[28:]) != crc:
        raise WireError("CRC-32")
    edge, body = data[28 : 28 + edge_length].decode("ascii"), data[28 + edge_length :]
    frame = Frame(kind, stream, edge, epoch, seq, [])
    if kind == 1:
        frame.readings = decode_readings(body)
    elif kind == 2:
        frame.json = json.loads(unpack(body[4:], int.from_bytes(body[:4], "little")))
    else:
        frame.json = json.loads(body)
    return frame


def unpack(packed: bytes, declared: int) -> bytes:
    """One zstd frame of a declared size."""
    if declared > 8_388_608 or zstandard.frame_content_size(packed) != declared:
        raise WireError("declared size")
    return zstandard.ZstdDecompressor().decompress(packed, max_output_size=declared)


def decode_readings(body: bytes) -> list[tuple[str, int, int, float | None]]:
    """The four columns behind the point table."""
    n, points, base_us, declared = struct.unpack("<IHqI", body[:18])
    raw = unpack(body[18:], declared)
    table: list[tuple[str, int, int]] = []
    at = 0
    for _ in range(points):
        length = raw[at]
        name = raw[at + 1 : at + 1 + length].decode("ascii")
        exponent, mode = struct.unpack("<bB", raw[at + 1 + length : at + 3 + length])
        table.append((name, exponent, mode))
        at += 3 + length
    if len(raw) != at + 25 * n:
        raise WireError("columns")
    index = sums(unshuffled(raw[at : at + 8 * n], n))
    time = sums(unshuffled(raw[at + 8 * n : at + 16 * n], n))
    flags = raw[at + 16 * n : at + 17 * n]
    column = unshuffled(raw[at + 17 * n :], n)
    rows: list[tuple[str, int, int, float | None]] = []
    before, multiple = -1, 0
    for k in range(n):
        name, exponent, mode = table[index[k]]
        if mode == 1:
            number = struct.unpack("<d", struct.pack("<q", column[k]))[0]
        else:
            multiple = column[k] + (multiple if index[k] == before else 0)
            number = multiple * 10**exponent if exponent >= 0 else multiple / 10**-exponent
        before = index[k]
        rows.append((name, base_us + time[k], flags[k] & 127, None if flags[k] & 128 else float(number)))
    return rows


def unshuffled(planes: bytes, n: int) -> list[int]:
    """Signed 64-bit integers whose lowest bytes stand first, then all second bytes, and so on."""
    return [int.from_bytes(planes[k::n], "little", signed=True) for k in range(n)]


def sums(steps: list[int]) -> list[int]:
    """What the differences were made of."""
    total, out = 0, []
    for step in steps:
        total += step
        out.append(total)
    return out
