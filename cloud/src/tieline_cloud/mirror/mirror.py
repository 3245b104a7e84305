"""Keeps one target equal to the ledger: replay, write, remember the position; the ledger never waits for it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

import numpy as np

from tieline_cloud.mirror.line_protocol import bodies, encode_body, rows_of
from tieline_cloud.mirror.ports import LinesRefusedError, MirrorTarget, TargetAwayError
from tieline_cloud.mirror.state import MirrorState
from tieline_cloud.owned_thread import in_thread
from tieline_cloud.settings import MirrorSettings
from tieline_core.clock import Clock
from tieline_core.errors import TransientError
from tieline_core.frame import ReadingBatch
from tieline_core.timegrid import to_us

_LOG = logging.getLogger(__name__)
DOCUMENTS: Final = "mirror"
_BACKOFF_S: Final = (1.0, 60.0)
#: Longest time between two writes of the position: what a crash costs is a replay of that much.
_KEEP_S: Final = 1.0
_PROBE_S: Final = 5.0
#: Requests spent on finding the refused lines of one body; what is still mixed up after them is set aside whole.
_SEARCHES: Final = 200


class ReplayLog(Protocol):
    """What a mirror asks of the ledger."""

    def replay(self, after: int, limit_rows: int) -> tuple[int, ReadingBatch]:
        """Readings stored after a position, and the position they end at; an empty batch when there is nothing newer."""
        ...

    def put_document(self, kind: str, key: str, body: bytes, at: datetime) -> None:
        """Keep a state."""
        ...

    def documents(self, kind: str) -> dict[str, bytes]:
        """Kept states."""
        ...

    def quarantine(self, edge: str, topic: str, payload: bytes, reason: str, at: datetime) -> None:
        """Keep what the target will never take."""
        ...


@dataclass(slots=True)
class MirrorCounters:
    """Since the start."""

    lines: int = 0
    refused: int = 0
    failures: int = 0
    steps_back: int = 0


class Mirror:
    """One target.

    Args:
        settings: Name, sizes, overlap.
        ledger: Where readings come from and the position is kept.
        target: Where they go.
        clock: For marks and waits.

    Attributes:
        counters: Since the start.
        problem: Why it stands still, None while it does not.
    """

    def __init__(self, settings: MirrorSettings, ledger: ReplayLog, target: MirrorTarget, clock: Clock) -> None:
        self.name = settings.name
        self.counters = MirrorCounters()
        self.problem: str | None = None
        self._settings = settings
        self._ledger = ledger
        self._target = target
        self._clock = clock
        self._state: MirrorState | None = None
        self._started: float | None = None
        self._probed_s = float("-inf")
        self._kept_s = float("-inf")
        self._unkept = False
        self._wanted: datetime | None = None
        self._wake = asyncio.Event()
        self._stop = threading.Event()

    @property
    def state(self) -> MirrorState | None:
        """Where it stands; None before its first round."""
        return self._state

    @property
    def overlap(self) -> timedelta:
        """How far a step back goes, on the hub's clock: the target lives in wall time."""
        return timedelta(minutes=self._settings.overlap_minutes) * max(1.0, self._clock.speed())

    def rebuild(self, since: datetime) -> None:
        """Replay everything measured since an instant, from the next round on."""
        self._wanted = since
        self._wake.set()

    async def run(self) -> None:
        """Follow the ledger, for ever; no state of the target ends this."""
        with ThreadPoolExecutor(1, thread_name_prefix=f"mirror {self.name}") as executor:
            await self._follow(executor)

    async def _follow(self, executor: Executor) -> None:
        wait_s = _BACKOFF_S[0]
        while True:
            try:
                moved = await in_thread(executor, self.round, self._stop)
            except TransientError as error:
                await self._stand_still(error, wait_s)
                wait_s = min(2 * wait_s, _BACKOFF_S[1])
            except Exception as error:  # noqa: BLE001 (whatever is wrong with a mirror, the hub goes on)
                _LOG.exception("Mirror %s stumbled", self.name)
                await self._stand_still(error, wait_s)
                wait_s = min(2 * wait_s, _BACKOFF_S[1])
            else:
                self.problem, wait_s = None, _BACKOFF_S[0]
                if not moved:
                    await self._pause(self._settings.poll_s)

    async def _stand_still(self, error: Exception, wait_s: float) -> None:
        self.counters.failures += 1
        if self.problem is None:
            _LOG.warning("Mirror %s waits: %s", self.name, error)
        self.problem = str(error)
        asked_s = error.wait_s if isinstance(error, TargetAwayError) and error.wait_s is not None else 0.0
        await self._pause(min(max(wait_s, asked_s), _BACKOFF_S[1]))

    async def _pause(self, seconds: float) -> None:
        self._wake.clear()
        async with asyncio.TaskGroup() as group:
            nap = group.create_task(self._clock.sleep(seconds, at_least_wall_s=seconds))
            wake = group.create_task(self._wake.wait())
            await asyncio.wait({nap, wake}, return_when=asyncio.FIRST_COMPLETED)
            nap.cancel()
            wake.cancel()

    # One round, in a thread

    def round(self) -> bool:
        """Hand the next readings over; false when there are none.

        Raises:
            TargetAwayError: The target does not take them now.
            TransientError: The ledger does not answer now.
        """
        state = self._ready()
        position, batch = self._ledger.replay(state.position, self._settings.replay_rows)
        if position == state.position:
            if self._unkept:
                self._keep(state)
            return False
        if state.rebuild is not None and position <= state.rebuild.until:
            batch = rows_of(batch, batch.at_us >= to_us(state.rebuild.since))
        refused = self._hand_over(batch)
        self._state = state = state.taken(position, self._clock.now(), self.overlap, refused)
        self._unkept = True
        if time.monotonic() - self._kept_s >= _KEEP_S:
            self._keep(state)
        return True

    def _ready(self) -> MirrorState:
        """The state to go on from: stepped back after a start of this hub or of the target, rebuilt when asked to."""
        state = self._state
        if state is None:
            kept = self._ledger.documents(DOCUMENTS).get(self.name)
            state = MirrorState.read(kept, self._clock.now())
            if kept is not None:
                state = self._step_back(state, "the hub was started")
            self._state = state
        if time.monotonic() - self._probed_s >= _PROBE_S or self.problem is not None:
            started = self._target.started_at()
            self._probed_s = time.monotonic()
            if self._started is not None and started is not None and started != self._started:
                state = self._step_back(state, "the target was started anew")
            self._started = started if started is not None else self._started
            if started is None and self.problem is not None:
                state = self._step_back(state, "the target was away")
        if (since := self._wanted) is not None:
            self._wanted = None
            state = state.rebuilt(since, self._clock.now())
            self._keep(state)
        self._state = state
        return state

    def _step_back(self, state: MirrorState, why: str) -> MirrorState:
        back = state.stepped_back(self.overlap)
        if back.position != state.position:
            self.counters.steps_back += 1
            _LOG.info("Mirror %s replays from position %d again (was %d): %s", self.name, back.position, state.position, why)
        return back

    def _keep(self, state: MirrorState) -> None:
        self._ledger.put_document(DOCUMENTS, self.name, state.model_dump_json().encode(), self._clock.now())
        self._kept_s, self._unkept = time.monotonic(), False

    def _hand_over(self, batch: ReadingBatch) -> int:
        """Write all rows; returns how many the target refused for good."""
        refused = 0
        for part, body in bodies(batch, self._settings.measurement, self._settings.batch_lines):
            try:
                self._write(body, len(part))
            except LinesRefusedError as error:
                refused += self._search(part, str(error))
        self.counters.refused += refused
        return refused

    def _write(self, body: bytes, lines: int) -> None:
        if self._stop.is_set():
            raise TargetAwayError("the hub is being stopped")
        self._target.write(body)
        self.counters.lines += lines

    def _search(self, part: ReadingBatch, reason: str) -> int:
        """Find the refused lines by halves, write the others, set the refused ones aside."""
        waiting, left, refused = [(part, reason)], _SEARCHES, 0
        while waiting:
            rows, why = waiting.pop()
            if len(rows) == 1 or left <= 0:
                self._set_aside(rows, why)
                refused += len(rows)
                continue
            middle = len(rows) // 2
            for half in (rows_of(rows, slice(middle, None)), rows_of(rows, slice(None, middle))):
                left -= 1
                try:
                    self._write(encode_body(half, self._settings.measurement), len(half))
                except LinesRefusedError as error:
                    waiting.append((half, str(error)))
        return refused

    def _set_aside(self, rows: ReadingBatch, reason: str) -> None:
        point = rows.points[int(rows.point_index[0])]
        body = encode_body(rows, self._settings.measurement)
        text = f"mirror {self.name} was refused {len(rows)} readings: {reason}"
        edges = np.unique(rows.point_index)
        edge = str(point.edge) if len(edges) == 1 else "several"
        self._ledger.quarantine(edge, f"mirror/{self.name}", body, text, self._clock.now())
        _LOG.warning("%s; the first is of %s", text, point)
