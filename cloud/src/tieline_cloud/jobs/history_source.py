"""The bytes of a text file, unpacked as they are read, in bounded memory; bombs are refused by ratio."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tieline_core.errors import BadInputError

BLOCK_BYTES: Final = 8 * 1024 * 1024
#: Packed time series reach 10 to 40; more than this is a file made to fill a disk.
MAX_RATIO: Final = 300
_RATIO_FROM_BYTES: Final = 64 * 1024 * 1024
MAX_PLAIN_BYTES: Final = 1 << 40
_HEAD_BYTES: Final = 64 * 1024
PACKED: Final = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}
_ODD_BEGINNINGS: Final = {
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"PK\x03\x04": "a zip archive or a spreadsheet",
    b"PAR1": "parquet",
}


class PlainFile:
    """Unpacked bytes of a file.

    Args:
        path: The file; ``.gz``, ``.zst`` or ``.zstd`` says that it is packed.

    Attributes:
        offset: Unpacked bytes given so far.

    Raises:
        BadInputError: When it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self.path = path
        self.offset = 0
        try:
            self._size = max(1, path.stat().st_size)
            self._file = path.open("rb")
        except OSError as error:
            raise BadInputError(str(path), "", path.name, f"cannot be read: {error.strerror}") from error
        packing = PACKED.get(path.suffix.lower())
        self._stream: Any = pa.input_stream(pa.PythonFile(self._file, "r"), compression=packing)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stream.close()
        self._file.close()

    @property
    def share(self) -> float:
        """Share of the packed file read, 0..1."""
        return min(1.0, self._file.tell() / self._size)

    def read(self, size: int | None = None) -> bytes:
        """The next bytes, a block of them when no size is named; empty at the end.

        Raises:
            BadInputError: Damaged, cut short, or unpacking to an unreasonable size.
        """
        import pyarrow as pa

        try:
            block: bytes = self._stream.read(size or BLOCK_BYTES)
        except (pa.ArrowException, OSError, EOFError) as error:
            raise BadInputError(
                str(self.path), f"byte {self.offset}", self.path.name, f"damaged or cut short: {error}"
            ) from error
        if self.offset == 0:
            self._check_beginning(block)
        self.offset += len(block)
        packed = self._file.tell()
        if self.offset > MAX_PLAIN_BYTES or (self.offset > _RATIO_FROM_BYTES and self.offset > MAX_RATIO * packed):
            text = f"{packed} bytes unpack to more than {self.offset}; at most {MAX_RATIO} times the size is unpacked"
            raise BadInputError(str(self.path), f"byte {self.offset}", self.path.name, text)
        return block

    def _check_beginning(self, block: bytes) -> None:
        for start, what in _ODD_BEGINNINGS.items():
            if block.startswith(start):
                raise BadInputError(str(self.path), "byte 0", self.path.name, f"this is {what}; expected csv text in UTF-8")


class LineBlocks:
    """Whole lines of a file in blocks, and the hash of exactly what was given.

    Args:
        file: Where from.
    """

    MAX_LINE_BYTES: Final = 1024 * 1024

    def __init__(self, file: PlainFile, name: str) -> None:
        self._file = file
        self._name = name
        self._rest = b""
        self._hash = hashlib.sha256()
        self.offset = 0

    @property
    def share(self) -> float:
        """Share of the file read."""
        return self._file.share

    def digest(self) -> str:
        """Hash of everything given so far."""
        return self._hash.hexdigest()

    def take_line(self) -> bytes:
        """One line with its end; for the header."""
        while (end := self._rest.find(b"\n")) < 0:
            self._check(self._rest)
            block = self._file.read(min(_HEAD_BYTES, BLOCK_BYTES))
            if not block:
                end = len(self._rest) - 1
                break
            self._rest += block
        line, self._rest = self._rest[: end + 1], self._rest[end + 1 :]
        return self._given(line)

    def take(self) -> bytes:
        """Whole lines, about one block; empty at the end."""
        while True:
            block = self._file.read()
            if not block:
                lines, self._rest = self._rest, b""
                return self._given(lines)
            end = block.rfind(b"\n")
            if end >= 0:
                lines, self._rest = self._rest + block[: end + 1], block[end + 1 :]
                return self._given(lines)
            self._rest += block
            self._check(self._rest)

    def skip(self, offset: int) -> bool:
        """Pass over what an earlier run has read; false when the file ends before."""
        while self.offset < offset:
            if not self._rest:
                self._rest = self._file.read(min(BLOCK_BYTES, offset - self.offset))
                if not self._rest:
                    return False
            part, self._rest = self._rest[: offset - self.offset], self._rest[offset - self.offset :]
            self._given(part)
        return True

    def _given(self, lines: bytes) -> bytes:
        self._hash.update(lines)
        self.offset += len(lines)
        return lines

    def _check(self, rest: bytes) -> None:
        if len(rest) > self.MAX_LINE_BYTES:
            text = f"a line is longer than {self.MAX_LINE_BYTES} bytes"
            raise BadInputError(self._name, f"byte {self.offset}", rest[:40], text)
