"""How many points one edge may name: each costs the hub memory for as long as it lives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tieline_cloud.store.ports import Ledger, LedgerFrame, RefusedBody
from tieline_core import topics
from tieline_core.frame import ReadingBatch, encode_batch
from tieline_core.ids import EdgeId, PointId

#: Of a refused body, which is kept.
_KEPT_BYTES = 64 * 1024


class PointBudget:
    """Used by the ledger thread only.

    Args:
        ledger: Knows the points.
        most: Points of one edge.
    """

    def __init__(self, ledger: Ledger, most: int) -> None:
        self._ledger = ledger
        self._most = most

    def within(self, frames: Sequence[LedgerFrame]) -> list[LedgerFrame]:
        """The frames as they are, but for those that would take their edge above the most: they go to quarantine whole.

        The stream goes on behind such a frame, as behind one that cannot be read: sending it again could not mend it.
        """
        fresh: dict[EdgeId, set[PointId]] = {}
        return [self._judged(frame, fresh.setdefault(frame.edge, set())) for frame in frames]

    def _judged(self, frame: LedgerFrame, fresh: set[PointId]) -> LedgerFrame:
        if frame.readings is None:
            return frame
        new = set(self._ledger.unknown_points([frame.readings])) - fresh
        if not new:
            return frame
        held = self._ledger.points_of(frame.edge) + len(fresh)
        if held + len(new) > self._most:
            reason = f"{len(new)} points nobody knew, {frame.edge} has {held} and may have {self._most} (max_points_per_edge)"
            refused = RefusedBody(topics.frame(frame.edge, frame.stream), _body(frame.readings), reason)
            return replace(frame, readings=None, refused=refused)
        fresh |= new
        return frame


def _body(readings: ReadingBatch) -> bytes:
    return encode_batch(readings)[:_KEPT_BYTES]
