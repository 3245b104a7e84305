"""The trace: what is kept, for how long, and what a sick disk costs."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tieline_core.ids import DeviceId
from tieline_core.messages.command import CommandState
from tieline_edge.control.arbiter import Decision
from tieline_edge.control.claims import Band, Claim, Interval
from tieline_edge.control.executor import Outcome
from tieline_edge.control.explain import explain
from tieline_edge.control.facts import SiteFacts
from tieline_edge.control.memory import ArbiterMemory
from tieline_edge.control.replay import Asked
from tieline_edge.control.ring import PACK_ROWS, RingReader
from tieline_edge.control.trace import MAX_WAITING, Trace, _Waiting
from tieline_edge.drivers.capabilities import Capability, DeviceSpec, HoldPower, Role

NOW = datetime(2016, 12, 7, 16, tzinfo=UTC)
BAT = DeviceId("bat1")
SPEC = DeviceSpec(BAT, Role.STORAGE, frozenset({Capability.HOLD_POWER}), None, -5e3, 5e3, 1e4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "trace.sqlite"


@pytest.fixture
def trace(path: Path) -> Iterator[Trace]:
    opened = Trace.open(path)
    yield opened
    opened.close()


def asked(seconds: float) -> Asked:
    return Asked({BAT: SPEC}, (), ArbiterMemory(), SiteFacts({}), NOW + timedelta(seconds=seconds), 180.0)


def at(seconds: float) -> tuple[Asked, datetime]:
    return asked(seconds), NOW + timedelta(seconds=seconds)


def decision(power_w: float = -5e3, reason: str = "plan plan-7, step 3", note: str = "clamped from -9000 W") -> Decision:
    winner = Claim(BAT, Band.PLAN, "plan", reason, setpoint_w=-9e3, expires_at=NOW)
    return Decision(BAT, HoldPower(power_w, 180.0), winner, interval=Interval(-5e3, 5e3), notes=(note,))


def outcome(seconds: float, *, refresh: bool = False, text: str = "WSet -5000") -> Outcome:
    at = NOW + timedelta(seconds=seconds)
    return Outcome(BAT, CommandState.CONFIRMED, HoldPower(-5e3, 180.0), "plan", text, at, refresh)


def kinds(path: Path) -> list[str]:
    with RingReader(path) as ring:
        return [line.kind for line in ring.before(BAT, 2**62)]


def test_only_changes_are_kept_and_a_heartbeat_an_hour(trace: Trace) -> None:
    assert trace.decided({BAT: decision()}, *at(0)) == 1
    assert trace.decided({BAT: decision()}, *at(1)) == 0
    assert trace.decided({BAT: decision(-4e3)}, *at(2)) == 1
    assert trace.decided({BAT: decision(-4e3)}, *at(3601)) == 0
    assert trace.decided({BAT: decision(-4e3)}, *at(3602)) == 1


def test_numbers_that_move_no_setpoint_do_not_flood_it(trace: Trace) -> None:
    rows = sum(trace.decided({BAT: decision(-5e3 + n % 2, note=f"clamped from {-9000 - n} W")}, *at(n)) for n in range(600))
    assert rows == 10  # the first, and one a minute for the numbers in its words


def test_the_number_inside_a_name_is_a_change(trace: Trace) -> None:
    assert trace.decided({BAT: decision(reason="plan plan-7, step 3")}, *at(0)) == 1
    assert trace.decided({BAT: decision(reason="plan plan-7, step 4")}, *at(1)) == 0
    assert trace.decided({BAT: decision(reason="plan plan-8, step 1")}, *at(2)) == 1


def test_a_write_begun_with_another_value_inside_the_deadband_is_kept_with_its_value(trace: Trace, path: Path) -> None:
    trace.decided({BAT: decision(-5000.0)}, *at(0), {BAT})
    assert trace.decided({BAT: decision(-4996.0)}, *at(60)) == 0
    assert trace.decided({BAT: decision(-4996.0)}, *at(61), {BAT}) == 1
    trace.flush()
    told = explain(path, BAT, NOW + timedelta(seconds=62))
    assert told["action"]["power_w"] == -4996.0
    assert told["since"] == NOW.isoformat()


def test_refreshes_are_counted_and_told_with_the_next_row(trace: Trace, path: Path) -> None:
    trace.decided({BAT: decision()}, *at(0))
    trace.happened(outcome(1))
    for minute in range(1, 31):
        trace.happened(outcome(60 * minute, refresh=True))
    trace.flush()
    assert kinds(path) == ["decision", "write"]
    trace.happened(outcome(1900, refresh=True, text="WSet -4999"))
    trace.flush()
    assert kinds(path) == ["decision", "write", "refreshed", "write"]
    told = explain(path, BAT, NOW + timedelta(seconds=1850))
    assert told["writes"][-1]["refreshed"] == 30


def test_a_clock_that_was_put_back_does_not_silence_it(trace: Trace) -> None:
    trace.decided({BAT: decision()}, asked(0), NOW)
    assert trace.decided({BAT: decision()}, asked(3600), NOW - timedelta(hours=5)) == 1


def test_blocks_and_loose_rows_read_as_one(trace: Trace, path: Path) -> None:
    count = 2 * PACK_ROWS + 50
    for number in range(count):
        trace.decided({BAT: decision(-10.0 * (number + 1))}, *at(number))
    trace.flush()
    with RingReader(path) as ring:
        assert [line.at_us for line in ring.between(BAT, 0, 2**62, 10_000)] == sorted(
            line.at_us for line in ring.between(BAT, 0, 2**62, 10_000)
        )
        assert len(ring.between(BAT, 0, 2**62, 10_000)) == count
        assert len(ring.between(BAT, 0, 2**62, 100)) == 100
    for number in (0, 1, PACK_ROWS - 1, PACK_ROWS, count - 1):
        told = explain(path, BAT, NOW + timedelta(seconds=number))
        assert told["action"]["power_w"] == -10.0 * (number + 1)


def test_the_ring_stays_within_its_size_and_forgets_the_oldest(path: Path) -> None:
    trace = Trace.open(path, max_bytes=400_000)
    dice = random.Random(7)
    for number in range(20 * PACK_ROWS):
        # Words that no compression makes shorter than half.
        trace.decided({BAT: decision(-10.0 * (number % 499), note=f"x{dice.randbytes(200).hex()}")}, *at(number))
        if number % 100 == 0:
            trace.flush()
    trace.close()
    assert path.stat().st_size < 1_000_000
    with RingReader(path) as ring:
        first, last = ring.span(BAT) or (0, 0)
    assert last - first < 10 * PACK_ROWS * 1_000_000
    assert explain(path, BAT, NOW + timedelta(seconds=20 * PACK_ROWS))["device"] == BAT


def test_what_is_older_than_its_age_goes(path: Path) -> None:
    trace = Trace.open(path, max_age=timedelta(hours=1))
    for number in range(4 * PACK_ROWS):
        trace.decided({BAT: decision(-10.0 * (number % 499))}, *at(20 * number))
        trace.flush()
    trace.close()
    with RingReader(path) as ring:
        first, last = ring.span(BAT) or (0, 0)
    assert last - first <= (3600 + 20 * PACK_ROWS) * 1_000_000


@pytest.mark.parametrize("content", [b"this is no database, whatever its name says" * 100, None])
def test_a_file_that_cannot_be_used_is_set_aside_because_a_trace_never_stops_control(path: Path, content: bytes | None) -> None:
    path.parent.mkdir(parents=True)
    if content is not None:
        path.write_bytes(content)
    else:
        with sqlite3.connect(path) as old:
            old.execute("CREATE TABLE trace (id INTEGER PRIMARY KEY)")
        old.close()
    opened = Trace.open(path)
    assert opened.decided({BAT: decision()}, *at(0)) == 1
    opened.close()
    assert kinds(path) == ["decision"]
    assert path.with_name("trace.sqlite.unreadable").exists()


def test_a_disk_that_refuses_costs_the_explanation_and_not_the_control(path: Path) -> None:
    trace = Trace.open(path)
    trace._ring._db.execute("DROP TABLE line")
    assert trace.decided({BAT: decision()}, *at(0)) == 1
    trace.happened(outcome(1))
    trace.flush()
    assert trace.lost == 2
    trace.close()


def test_a_disk_that_never_answers_costs_a_bounded_memory(path: Path) -> None:
    trace = Trace.open(path)
    for number in range(MAX_WAITING + 10):
        trace.happened(outcome(number))
    assert trace.lost == 10
    trace._waiting.clear()
    trace.close()


async def test_it_writes_by_itself_while_it_runs_and_ends_when_cancelled(trace: Trace, path: Path) -> None:
    running = asyncio.create_task(trace.run())
    trace.decided({BAT: decision()}, *at(0))
    async with asyncio.timeout(20.0):
        while not kinds(path):  # noqa: ASYNC110 - the file is looked at as another process would
            await asyncio.sleep(0.02)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


def test_equal_specifications_are_kept_once(trace: Trace, path: Path) -> None:
    for number in range(5):
        trace.decided({BAT: decision(-100.0 * number)}, replace(asked(number), specs={BAT: replace(SPEC)}), NOW)
    trace.flush()
    assert trace._ring._db.execute("SELECT count(*) FROM spec").fetchone() == (1,)


def test_a_row_without_a_text_costs_itself_and_says_so(trace: Trace, path: Path) -> None:
    trace.happened(outcome(1, text=b"bytes"))  # type: ignore[arg-type]  # a driver's mistake
    trace.flush()
    assert trace.lost == 1
    trace._put(_Waiting(BAT, NOW, "decision", replace(decision(), action="jump")))  # type: ignore[arg-type]  # no action of ours
    trace.happened(outcome(2))
    trace.flush()
    assert trace.lost == 2
    assert kinds(path) == ["write"]
