"""Messages other systems get: readings of one edge, as columns of JSON or as readings body of the wire contract."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tieline_core.frame import ReadingBatch, encode_batch
from tieline_core.quantities import Quality
from tieline_core.timegrid import from_us

_WORDS = tuple(quality.name.lower() for quality in Quality)


@dataclass(frozen=True, slots=True)
class OutMessage:
    """One message: the edge is its key, so that each edge keeps its order."""

    edge: str
    body: bytes
    readings: int


def messages(batch: ReadingBatch, rows: int, form: Literal["json", "frame"]) -> Iterator[OutMessage]:
    """Split a batch by edge, in its order, into messages of at most so many readings."""
    owners = np.array([str(point.edge) for point in batch.points] or [""])[batch.point_index]
    for edge in dict.fromkeys(owners.tolist()):
        mine = np.flatnonzero(owners == edge)
        for first in range(0, len(mine), rows):
            part = _part(batch, mine[first : first + rows])
            yield OutMessage(edge, encode_batch(part) if form == "frame" else _json(part), len(part))


def _part(batch: ReadingBatch, rows: np.ndarray[tuple[int], np.dtype[np.intp]]) -> ReadingBatch:
    used, index = np.unique(batch.point_index[rows], return_inverse=True)
    points = tuple(batch.points[number] for number in used.tolist())
    return ReadingBatch(points, index.astype(np.int32), batch.at_us[rows], batch.values[rows], batch.quality[rows])


def _json(part: ReadingBatch) -> bytes:
    columns = {
        "point": [part.points[number] for number in part.point_index.tolist()],
        "measured_at": [from_us(at).isoformat() for at in part.at_us.tolist()],
        "value": [None if math.isnan(value) else value for value in part.values.tolist()],
        "quality": [_WORDS[quality] for quality in part.quality.tolist()],
    }
    return json.dumps({"columns": columns}, separators=(",", ":"), allow_nan=False).encode()
