"""Whatever comes in as a frame: an answer or a FrameError, and memory that stays bounded."""

from __future__ import annotations

import resource
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tieline_core.errors import FrameError
from tieline_core.frame import (
    HEADER,
    READINGS_HEADER,
    RECORDS_HEADER,
    Frame,
    decode,
    decode_readings,
    decode_records,
    encode,
)
from tieline_core.frame_readings import _TableMemory
from tieline_core.messages.telemetry import FrameKind

GOLDEN = [path.read_bytes() for path in sorted((Path(__file__).parents[1] / "contract/golden").glob("*.bin"))]
READINGS = [decode(data).body for data in GOLDEN if decode(data).kind is FrameKind.READINGS]
COLUMNS = [zstandard.decompress(body[READINGS_HEADER.size :]) for body in READINGS]
MEGA = 1024 * 1024


def take(data: bytes) -> None:
    """Read a frame as a hub does; FrameError is the only way out that is no answer."""
    try:
        frame = decode(data)
        take_body(frame)
    except FrameError:
        return


def take_body(frame: Frame) -> None:
    if frame.kind is FrameKind.READINGS:
        decode_readings(frame.body).readings()
    elif frame.kind is FrameKind.RECORDS:
        decode_records(frame.body)


@st.composite
def mutated(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    """An original with bytes changed, cut out, doubled or put in."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.integers(0, 3)):
            case 0 if data:
                data[at] = draw(st.integers(0, 255))
            case 1:
                del data[at : at + draw(st.integers(1, 16))]
            case 2:
                data[at:at] = data[at : at + draw(st.integers(1, 16))]
            case _:
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
    return bytes(data)


def mended(data: bytes) -> bytes:
    """The bytes with the lengths and the CRC a header needs to get past the door."""
    if len(data) < HEADER.size:
        return data
    edge_length = min(data[6], len(data) - HEADER.size)
    head = bytearray(data[: HEADER.size])
    head[:4], head[6], head[7] = b"TLF1", edge_length, 0
    head[20:24] = struct.pack("<I", len(data) - HEADER.size - edge_length)
    head[24:28] = bytes(4)
    crc = zlib.crc32(data[HEADER.size :], zlib.crc32(bytes(head)))
    return bytes(head[:24]) + struct.pack("<I", crc) + data[HEADER.size :]


def packed(raw: bytes, n: int, points: int, declared: int | None = None) -> bytes:
    return READINGS_HEADER.pack(n, points, 0, len(raw) if declared is None else declared) + zstandard.compress(raw)


@settings(max_examples=300)
@given(mutated(GOLDEN))
def test_a_mutated_frame_is_read_or_refused(data: bytes) -> None:
    take(data)


@settings(max_examples=300)
@given(mutated(GOLDEN))
def test_a_mutated_frame_with_a_right_crc_is_read_or_refused(data: bytes) -> None:
    take(mended(data))


@settings(max_examples=300, suppress_health_check=[HealthCheck.large_base_example])
@given(
    mutated([zstandard.decompress(body[READINGS_HEADER.size :]) for body in READINGS]), st.integers(1, 20), st.integers(1, 4)
)
def test_mutated_columns_under_sound_zstd_are_read_or_refused(raw: bytes, n: int, points: int) -> None:
    try:
        decode_readings(packed(raw, n, points))
    except FrameError:
        return


@settings(max_examples=200)
@given(st.data())
def test_arbitrary_columns_of_the_right_size_are_read_or_refused(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 12))
    columns = data.draw(st.binary(min_size=25 * n, max_size=25 * n))
    table = b"\x0eharbour/m1/p_w" + data.draw(st.sampled_from([b"\xff\x00", b"\x00\x01", b"\x09\x00", b"\xf7\x00"]))
    try:
        batch = decode_readings(packed(table + columns, n, 1))
    except FrameError:
        return
    assert len(batch) == n


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1), st.binary(max_size=64))
def test_declared_sizes_cost_nothing_before_they_are_believed(n: int, points: int, declared: int, rest: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(FrameError):
        decode_readings(READINGS_HEADER.pack(n, points, 0, declared) + rest)
    with pytest.raises(FrameError):
        decode_records(RECORDS_HEADER.pack(declared) + rest)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MEGA


def bombs() -> list[bytes]:
    """Frames that would fill the memory of a decoder that believes them."""
    zeros = zstandard.ZstdCompressor(19).compress(bytes(512 * MEGA))
    silent = zstandard.ZstdCompressor(19, write_content_size=False).compress(bytes(64 * MEGA))
    most = zstandard.compress(b"[" + b"{}," * 2_600_000 + b"{}]")
    header = READINGS_HEADER.pack
    lies = zeros[:4] + bytes([zeros[4]]) + struct.pack("<Q", 300) + zeros[13:]
    return [
        header(65_536, 4096, 0, 8 * MEGA) + zeros,
        header(11, 1, 0, 300) + zeros,
        header(11, 1, 0, 300) + silent,
        header(11, 1, 0, 300) + lies,
        header(65_536, 4096, 0, 2**32 - 1) + zeros,
        RECORDS_HEADER.pack(512 * MEGA) + zeros,
        RECORDS_HEADER.pack(7_800_004) + most,
    ]


def in_little_memory() -> None:
    """Body of the subprocess: every bomb under a limit the operating system enforces."""
    made = bombs()
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 192 * MEGA, used + 192 * MEGA))
    refused = 0
    for bomb in made:
        for attempt in (decode_readings, decode_records):
            try:
                attempt(bomb)
            except FrameError:
                refused += 1
    print(refused)  # noqa: T201 (the parent reads it)


def test_zip_bombs_are_refused_in_a_process_with_little_memory() -> None:
    code = f"import runpy; runpy.run_path({str(Path(__file__))!r})['in_little_memory']()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "14"), done.stderr


def test_tables_that_never_come_again_do_not_fill_the_memory() -> None:
    """A hostile edge can name new points in every frame; the decoder forgets the oldest of them."""
    memory = _TableMemory(256 * 1024)
    tracemalloc.start()
    for number in range(60):
        names = sorted(f"harbour/m{number:04d}-{k:04d}-{'x' * 30}/p_w" for k in range(256))
        memory.find(b"".join(bytes([len(name)]) + name.encode() + b"\xff\x00" for name in names))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2 * MEGA


def test_the_golden_frames_are_sound() -> None:
    for data in GOLDEN:
        take_body(decode(data))
        assert encode(decode(data)) == data
        assert mended(data) == data
