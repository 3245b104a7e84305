"""Unpacking of bodies from outside, bounded: a bomb costs its limit and an error, never the memory."""

from __future__ import annotations

import zlib
from typing import Final

from tieline_core.errors import BadInputError

ENCODINGS: Final = ("identity", "gzip", "zstd")


def unpack(body: bytes, encoding: str, limit: int, source: str) -> bytes:
    """The body without its content encoding.

    Raises:
        BadInputError: Unknown encoding, damaged, cut short, followed by something else, or longer than ``limit`` unpacked.
    """
    name = encoding.strip().lower() or "identity"
    if name == "identity":
        plain = body
        if len(plain) > limit:
            raise _too_long(source, limit)
        return plain
    if name == "gzip":
        return _gunzip(body, limit, source)
    if name == "zstd":
        return _unzstd(body, limit, source)
    raise BadInputError(source, "content-encoding", encoding, f"known are {', '.join(ENCODINGS)}")


def _too_long(source: str, limit: int) -> BadInputError:
    return BadInputError(source, "body", f"more than {limit} bytes", f"at most {limit} bytes are unpacked; send less at once")


def _damaged(source: str, encoding: str, reason: object) -> BadInputError:
    return BadInputError(source, "body", encoding, f"not a whole {encoding} stream: {reason}")


def _gunzip(body: bytes, limit: int, source: str) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(body, limit + 1)
    except zlib.error as error:
        raise _damaged(source, "gzip", error) from error
    if len(plain) > limit:
        raise _too_long(source, limit)
    if not unpacker.eof or unpacker.unused_data:
        raise _damaged(source, "gzip", "it is cut short" if not unpacker.eof else "something follows its end")
    return plain


def _unzstd(body: bytes, limit: int, source: str) -> bytes:
    import pyarrow as pa

    try:
        # Arrow's reader says when a stream is cut short; the streaming reader of zstandard ends silently.
        with pa.input_stream(pa.BufferReader(body), compression="zstd") as stream:
            plain: bytes = stream.read(limit + 1)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(source, "zstd", error) from error
    if len(plain) > limit:
        raise _too_long(source, limit)
    if not plain:
        raise _damaged(source, "zstd", "there is nothing in it")
    return plain
