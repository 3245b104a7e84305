"""What a damaged outbox still holds: every frame whose hash is right, and how many are missing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tieline_core.errors import TielineError
from tieline_core.frame import Frame, decode_readings, decode_records
from tieline_core.ids import EdgeId
from tieline_core.messages.telemetry import Event, FrameKind, Skip, Stream
from tieline_core.timegrid import EARLIEST, LATEST, to_us
from tieline_edge.outbox.frame_table import NewFrame
from tieline_edge.outbox.sqlite_pages import Cell, PageFile, Value

_FRAME_COLUMNS: Final = 12
_STREAM_COLUMNS: Final = 4
_META_COLUMNS: Final = 2
_MAX_READINGS: Final = 65_536
_SENSIBLE_US: Final = range(to_us(EARLIEST), to_us(LATEST) + 1)


@dataclass(frozen=True, slots=True)
class SavedFrame:
    """A frame that could be read; its body is fetched when it is needed."""

    rowid: int
    stream: Stream
    epoch: int
    seq: int
    kind: FrameKind
    sha256: str
    readings: int
    first_us: int
    created_us: int
    acked: bool
    cell: Cell
    skipped: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Lost:
    """What is missing of one stream and the hub never acknowledged.

    Attributes:
        frames: Sequence numbers that were given and are not here.
        readings: About how many readings were in them, from the mean of those that are here.
    """

    frames: int
    readings: int


@dataclass(slots=True)
class _Labels:
    """What the file says of itself, as far as it can be read."""

    edge: str | None = None
    epoch: int | None = None
    streams: dict[Stream, tuple[int, int]] = field(default_factory=dict)


class Salvage:
    """A damaged file, read page by page; use as a context manager.

    Args:
        path: The file, with its log beside it.
        edge: Whose frames are wanted.

    Attributes:
        frames: What could be read, oldest first; each content once.
        lost: What is missing, by stream.
        foreign: Id of the edge it belongs to when that is another one: then nothing is taken.
    """

    def __init__(self, path: Path, edge: EdgeId) -> None:
        self._pages = PageFile(path)
        self._edge = edge
        labels = self._labels()
        self.foreign = labels.edge if labels.edge not in (None, str(edge)) else None
        self.frames: list[SavedFrame] = [] if self.foreign else self._read(check=labels.edge is None)
        self.lost = self._lost(labels)

    def __enter__(self) -> Salvage:
        return self

    def __exit__(self, *_: object) -> None:
        self._pages.close()

    def _labels(self) -> _Labels:
        labels = _Labels()
        for row in self._pages.rows(_META_COLUMNS):
            match row.values:
                case ("edge_id", str(edge)):
                    labels.edge = edge if EdgeId.pattern.fullmatch(edge) else None
                case ("epoch", int(epoch)):
                    labels.epoch = max(epoch, labels.epoch or 0)
        for row in self._pages.rows(_STREAM_COLUMNS):
            match row.values:
                case (str(name), int(next_seq), int(acked), _) if name in list(Stream) and 0 <= acked < next_seq:
                    labels.streams[Stream(name)] = (next_seq, acked)
        return labels

    def _read(self, *, check: bool) -> list[SavedFrame]:
        newest: dict[tuple[Stream, str], SavedFrame] = {}
        for row in self._pages.rows(_FRAME_COLUMNS):
            saved = self._saved(row.cell, row.rowid, row.values)
            if saved is None or (check and not self._is_ours(saved)):
                continue
            known = newest.get((saved.stream, saved.sha256))
            # A stale copy of the row may lie on an old page: what was acknowledged once stays so.
            if known is None or saved.acked >= known.acked:
                newest[saved.stream, saved.sha256] = saved
        return sorted(newest.values(), key=lambda one: one.rowid)

    def _saved(self, cell: Cell, rowid: int, values: tuple[Value, ...]) -> SavedFrame | None:
        _, name, epoch, seq, kind, body, _, sha256, readings, first_us, created_us, acked = values
        if not (isinstance(name, str) and name in list(Stream) and isinstance(body, bytes) and isinstance(sha256, str)):
            return None
        if not (isinstance(epoch, int) and isinstance(seq, int) and isinstance(kind, int) and kind in list(FrameKind)):
            return None
        frame_kind = FrameKind(kind)
        if Frame(self._edge, 1, Stream(name), 1, frame_kind, body).sha256 != sha256:
            return None
        skip = Skip.from_bytes(body, "outbox") if frame_kind is FrameKind.SKIP else None
        return SavedFrame(
            rowid=rowid,
            stream=Stream(name),
            epoch=epoch,
            seq=seq,
            kind=frame_kind,
            sha256=sha256,
            readings=readings if isinstance(readings, int) and 0 <= readings <= _MAX_READINGS else 0,
            first_us=first_us if isinstance(first_us, int) and first_us in _SENSIBLE_US else 0,
            created_us=created_us if isinstance(created_us, int) and created_us in _SENSIBLE_US else 0,
            acked=acked == 1,
            cell=cell,
            skipped=None if skip is None else (skip.first, skip.last),
        )

    def _is_ours(self, saved: SavedFrame) -> bool:
        """The file no longer says whose it is: its frames do."""
        body = self.body(saved)
        try:
            if saved.kind is FrameKind.READINGS:
                return all(point.startswith(f"{self._edge}/") for point in decode_readings(body).points)
            if saved.kind is FrameKind.RECORDS:
                return all(
                    (record.edge_id if isinstance(record, Event) else record.point.edge) == self._edge
                    for record in decode_records(body)
                )
        except TielineError:
            return False
        return True

    def _lost(self, labels: _Labels) -> dict[Stream, Lost]:
        if self.foreign:
            return {}
        epoch = labels.epoch if labels.epoch is not None else max((one.epoch for one in self.frames), default=0)
        have: dict[Stream, set[int]] = defaultdict(set)
        readings: dict[Stream, list[int]] = defaultdict(list)
        for one in self.frames:
            if one.kind is FrameKind.READINGS:
                readings[one.stream].append(one.readings)
            if one.epoch == epoch:
                first, last = one.skipped or (one.seq, one.seq)
                have[one.stream].update(range(max(first, last - 1_000_000), last + 1))
        lost = {}
        for stream in Stream:
            seen = have[stream]
            next_seq, acked = labels.streams.get(stream, (max(seen, default=0) + 1, min(seen, default=1) - 1))
            missing = sum(1 for seq in range(max(acked + 1, next_seq - 1_000_000), next_seq) if seq not in seen)
            if missing:
                each = readings[stream]
                lost[stream] = Lost(missing, round(missing * sum(each) / len(each)) if each else 0)
        return lost

    def body(self, saved: SavedFrame) -> bytes:
        """The body of a frame."""
        row = self._pages.row(saved.cell, _FRAME_COLUMNS)
        body = None if row is None else row.values[5]
        return body if isinstance(body, bytes) else b""

    def batches(self, bytes_at_once: int) -> Iterator[list[tuple[SavedFrame, NewFrame]]]:
        """Frames with their bodies, oldest first; skips that are acknowledged hold nothing and are left out."""
        batch: list[tuple[SavedFrame, NewFrame]] = []
        size = 0
        for saved in self.frames:
            if saved.kind is FrameKind.SKIP and saved.acked:
                continue
            body = self.body(saved)
            batch.append((saved, NewFrame(saved.stream, saved.kind, body, saved.readings, saved.first_us or saved.created_us)))
            size += len(body)
            if size >= bytes_at_once:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch
