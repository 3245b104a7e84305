"""The truth the hub is compared with: what each sender recorded, and hashes of it, in arithmetic of our own.

A sender writes ``+`` before it hands a batch to the outbox and ``=`` after the outbox has taken it; the readings of a batch
follow from seed, edge, number and base instant. A batch that has a ``+`` only (the sender died in between) may be at the hub
as a whole or not at all.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

POINTS: Final = 8
ROWS: Final = 40
#: Microseconds between two rows of a batch.
STEP_US: Final = 250
Hashes = NDArray[np.uint64]


def point_name(edge: str, number: int) -> str:
    """Name of one of an edge's points."""
    return f"{edge}/m{number:02d}/p_w"


def batch_columns(
    seed: int, edge: str, number: int, base_us: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Point number, instant and value of each row of a batch; a value is NaN where the source had none."""
    rng = np.random.default_rng([seed, zlib.crc32(edge.encode()), number])
    row = np.arange(ROWS, dtype=np.int64)
    values = rng.integers(-50_000_000, 50_000_000, ROWS) / 10.0
    values[rng.random(ROWS) < 0.05] = np.nan
    return row % POINTS, base_us + row * STEP_US, values


def _mixed(word: Hashes) -> Hashes:
    """splitmix64's finaliser: every bit of the input moves about half of the bits of the output."""
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


def row_hashes(point: Hashes, at_us: NDArray[np.int64], values: NDArray[np.float64]) -> Hashes:
    """One 64-bit hash for each row of (hash of the point's name, instant, value)."""
    number = np.where(np.isnan(values), np.float64(np.nan), values + 0.0).view(np.uint64)
    word = _mixed(point + np.uint64(0x9E3779B97F4A7C15))
    word = _mixed(word ^ at_us.astype(np.int64).view(np.uint64))
    return _mixed(word ^ number)


def name_hash(name: str) -> int:
    """Hash of a point's name."""
    return zlib.crc32(name.encode()) << 32 | zlib.adler32(name.encode())


def total(rows: Hashes) -> str:
    """Hash of a set of rows that does not depend on their order; a row that comes twice counts twice."""
    with np.errstate(over="ignore"):
        first, second = int(rows.sum(dtype=np.uint64)), int(_mixed(rows).sum(dtype=np.uint64))
    return f"{first:016x}{second:016x}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was recorded against what is stored.

    Attributes:
        recorded, stored: Rows.
        recorded_hash, stored_hash: Order-independent.
        lost: Rows recorded that are not stored.
        doubled: Rows stored more often than recorded.
        invented: Rows stored that nobody recorded.
        torn: Batches of which a part is stored.
        undecided: Batches stored although their sender died before it heard that the outbox has them.
    """

    recorded: int
    stored: int
    recorded_hash: str
    stored_hash: str
    lost: int
    doubled: int
    invented: int
    torn: int
    undecided: int

    @property
    def equal(self) -> bool:
        """Counts and hashes are the same on both sides."""
        return (self.recorded, self.recorded_hash) == (self.stored, self.stored_hash) and not self.torn


@dataclass
class Journal:
    """A sender's journal, read on as it grows.

    Attributes:
        done: Batches the outbox has taken.
        open: Batches of which nobody knows.
    """

    path: Path
    seed: int
    edge: str
    done: dict[int, Hashes] = field(default_factory=dict)
    open: dict[int, Hashes] = field(default_factory=dict)
    events: set[str] = field(default_factory=set)
    last: int = 0
    _offset: int = 0

    def read_on(self) -> None:
        """Take what was written since; a torn last line is left for later."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode("ascii").splitlines():
            mark, *words = line.split()
            if mark == "e":
                self.events.add(words[0])
                continue
            number = int(words[0])
            self.last = max(self.last, number)
            if mark == "+":
                self.open[number] = self._hashes(number, int(words[1]))
            elif mark == "=":
                self.done[number] = self.open.pop(number)
            else:
                del self.open[number]

    def _hashes(self, number: int, base_us: int) -> Hashes:
        points, at_us, values = batch_columns(self.seed, self.edge, number, base_us)
        names = np.array([name_hash(point_name(self.edge, point)) for point in range(POINTS)], np.uint64)
        return row_hashes(names[points], at_us, values)


class JournalWriter:
    """Writes a journal; a line is in the system's hands when a call returns, so that a kill does not take it back."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def attempt(self, number: int, base_us: int) -> None:
        """A batch is about to be recorded."""
        self._line(f"+ {number} {base_us}")

    def done(self, number: int) -> None:
        """The outbox has taken it."""
        self._line(f"= {number}")

    def refused(self, number: int) -> None:
        """The outbox said that nothing of it was kept."""
        self._line(f"- {number}")

    def event(self, event_id: str) -> None:
        """The outbox has taken an event."""
        self._line(f"e {event_id}")

    def _line(self, text: str) -> None:
        os.write(self._file, text.encode("ascii") + b"\n")


def compare(journals: list[Journal], stored: Hashes) -> Comparison:
    """Judge what is stored by what was recorded."""
    held, counts = np.unique(stored, return_counts=True)
    torn, undecided, settled = 0, 0, [np.zeros(0, np.uint64)]
    for journal in journals:
        settled += journal.done.values()
        for rows in journal.open.values():
            there = int(np.isin(rows, held).sum())
            torn += 0 < there < len(rows)
            undecided += there > 0
            if there:
                settled.append(rows)
    recorded, wanted = np.unique(np.concatenate(settled), return_counts=True)
    place = np.searchsorted(recorded, held).clip(0, max(0, len(recorded) - 1))
    known = recorded[place] == held if len(recorded) else np.zeros(len(held), bool)
    have = np.zeros(len(recorded), np.int64)
    have[place[known]] = counts[known]
    every = np.concatenate(settled)
    return Comparison(
        recorded=len(every),
        stored=len(stored),
        recorded_hash=total(every),
        stored_hash=total(stored),
        lost=int((wanted - have).clip(0).sum()),
        doubled=int((have - wanted).clip(0).sum()),
        invented=int(counts[~known].sum()),
        torn=torn,
        undecided=undecided,
    )
