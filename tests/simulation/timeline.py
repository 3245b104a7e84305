"""Virtual time: what happens outside the agent, in order; and an asyncio loop for the agent that lives on it.

The world (plant, hub, network, faults) is a heap of plain callbacks. The agent runs on :class:`VirtualLoop`: when nothing
of it is ready, time jumps to the next timer or the next thing of the world. Threads do not exist: what the agent hands to
an executor runs in line, and its result arrives after a simulated delay.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
import math
import random
import warnings
from collections.abc import Callable, Coroutine
from typing import Any, Final

#: So many turns of the loop without time going on are no work but a spin.
_SPIN: Final = 50_000
_TIDY_FROM: Final = 200
_LAST_BREATHS: Final = 50


class KilledError(SystemExit):
    """The process dies here and now; SystemExit, because asyncio lets that one through every task."""


class StuckError(AssertionError):
    """The agent waits for something that will never come, or turns without end."""


class Timeline:
    """Seconds since the start of the simulation, and what is going to happen when."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def at(self, when_s: float, action: Callable[[], None]) -> None:
        """Let something happen at an instant, after what was planned for it before."""
        heapq.heappush(self._heap, (max(when_s, self.now_s), next(self._numbers), action))

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Let something happen after a while."""
        self.at(self.now_s + delay_s, action)

    @property
    def next_s(self) -> float:
        """When the next thing happens."""
        return self._heap[0][0] if self._heap else math.inf

    def step(self) -> None:
        """Let the next thing happen."""
        when_s, _, action = heapq.heappop(self._heap)
        self.now_s = max(self.now_s, when_s)
        action()

    def run_until(self, when_s: float) -> None:
        """Let the world go on without the agent."""
        while self.next_s <= when_s:
            self.step()
        self.now_s = max(self.now_s, when_s)


class _CountedTask(asyncio.Task[Any]):
    """A task whose place in a set does not depend on its address: asyncio's task groups cancel in the order of a set."""

    _numbers = itertools.count()

    def __init__(self, coro: Coroutine[Any, Any, Any], **rest: Any) -> None:
        self._number = next(self._numbers)
        super().__init__(coro, **rest)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class _Call:
    """A callback that waits: asyncio's handle without its checks for debugging, for a story makes fifty thousand of them."""

    __slots__ = ("_args", "_callback", "_cancelled", "_context", "_when")

    def __init__(self, callback: Any, args: tuple[Any, ...], context: contextvars.Context | None, when_s: float = 0.0) -> None:
        self._callback = callback
        self._args = args
        self._context = contextvars.copy_context() if context is None else context
        self._cancelled = False
        self._when = when_s

    def cancel(self) -> None:
        """It will not be called."""
        self._cancelled = True
        self._callback, self._args = None, ()

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._cancelled

    def when(self) -> float:
        """When a timer ends [virtual s]."""
        return self._when


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop on a timeline.

    Args:
        timeline: Where time comes from.
        rng: Order of what is ready at once, and delays of executors.
        shuffle: Let what is ready at once run in any order instead of first come, first served.
        job_delay_s: Longest delay of what is handed to an executor.
    """

    def __init__(self, timeline: Timeline, rng: random.Random, *, shuffle: bool = False, job_delay_s: float = 0.002) -> None:
        super().__init__()
        self.timeline = timeline
        self.job_delay_s = job_delay_s
        #: A job that would have waited says here for how long.
        self.blocked_s = 0.0
        self.unhandled: list[str] = []
        self._rng = rng
        self._shuffle = shuffle
        self._timers: list[tuple[float, int, _Call]] = []
        self._numbers = itertools.count()
        self._tidy_from = _TIDY_FROM
        self._turns = 0
        self._turned_at_s = -1.0
        _CountedTask._numbers = itertools.count()
        self.set_task_factory(lambda _loop, coro, **rest: _CountedTask(coro, loop=self, **rest))
        self.set_exception_handler(lambda _loop, context: self.unhandled.append(_words(context)))

    def time(self) -> float:
        """Virtual seconds."""
        return self.timeline.now_s

    def get_debug(self) -> bool:
        """Never: it is asked for with every callback."""
        return False

    def call_soon(self, callback: Any, *args: Any, context: contextvars.Context | None = None) -> _Call:  # type: ignore[override] # (a lighter handle)
        """As the base class has it."""
        call = _Call(callback, args, context)
        self._ready.append(call)  # type: ignore[attr-defined] # (the loop's own queue)
        return call

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: contextvars.Context | None = None) -> _Call:  # type: ignore[override] # (a lighter handle)
        """There is one thread."""
        return self.call_soon(callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None) -> _Call:  # type: ignore[override] # (a lighter handle)
        """As the base class has it; timers of one instant end in the order in which they were set."""
        call = _Call(callback, args, context, when)
        heapq.heappush(self._timers, (when, next(self._numbers), call))
        return call

    def call_later(self, delay: float, callback: Any, *args: Any, context: contextvars.Context | None = None) -> _Call:  # type: ignore[override] # (a lighter handle)
        """As the base class has it."""
        return self.call_at(self.timeline.now_s + delay, callback, *args, context=context)

    @property
    def task_count(self) -> int:
        """Tasks that are not done."""
        return len(asyncio.all_tasks(self))

    @property
    def timer_count(self) -> int:
        """Timers that are set, the cancelled ones that still lie about included."""
        return len(self._timers)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override] # (typeshed has a TypeVarTuple here)
        """Run in line; the result comes later. Half of the jobs are done at once, half at the end of their delay."""
        future = self.create_future()
        delay_s = self._rng.uniform(0.0, self.job_delay_s)

        def work() -> tuple[Any, BaseException | None]:
            self.blocked_s = 0.0
            try:
                return func(*args), None
            except Exception as error:  # noqa: BLE001 (as a thread pool hands on whatever its job raises)
                return None, error

        def answer(result: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        if self._rng.random() < 0.5:
            result, error = work()
            self.call_later(delay_s + self.blocked_s, answer, result, error)
        else:

            def late() -> None:
                result, error = work()
                if self.blocked_s:
                    self.call_later(self.blocked_s, answer, result, error)
                else:
                    answer(result, error)

            self.call_later(delay_s, late)
        return future

    def add_signal_handler(self, sig: int, callback: Any, *args: Any) -> None:  # type: ignore[override] # (wider than needed)
        """Nobody sends signals here."""

    def remove_signal_handler(self, sig: int) -> bool:
        """There is none."""
        return True

    def _write_to_self(self) -> None:
        """There is no other thread to be woken by."""

    def _process_events(self, event_list: list[Any]) -> None:
        """There are no sockets."""

    def _run_once(self) -> None:
        timers, line = self._timers, self.timeline
        ready: Any = self._ready  # type: ignore[attr-defined] # (the loop's own queue)
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
        if not ready and not self._stopping:  # type: ignore[attr-defined] # (as before)
            own_s, next_s = timers[0][0] if timers else math.inf, line.next_s
            if next_s <= own_s:
                if next_s == math.inf:
                    raise StuckError("nothing will ever happen again, and the agent still waits")
                line.step()
                return
            line.now_s = max(line.now_s, own_s)
        now_s = line.now_s
        self._count_turns(now_s)
        while timers and timers[0][0] <= now_s:
            ready.append(heapq.heappop(timers)[2])
        if self._shuffle and len(ready) > 1:
            mixed = list(ready)
            self._rng.shuffle(mixed)
            ready.clear()
            ready.extend(mixed)
        for _ in range(len(ready)):
            call = ready.popleft()
            if not call._cancelled:
                self._call(call)

    def _call(self, call: _Call) -> None:
        try:
            call._context.run(call._callback, *call._args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 (as asyncio's own handle does)
            self.call_exception_handler({"message": f"Exception in callback {call._callback!r}", "exception": error})

    def _count_turns(self, now_s: float) -> None:
        if now_s != self._turned_at_s:
            self._turned_at_s, self._turns = now_s, 0
            self._tidy()
        self._turns += 1
        if self._turns > _SPIN:
            raise StuckError(f"{_SPIN} turns of the loop at {now_s:.3f} s without time going on")

    def _tidy(self) -> None:
        """Drop cancelled timers when they have become many."""
        if len(self._timers) > self._tidy_from:
            self._timers[:] = [one for one in self._timers if not one[2]._cancelled]
            heapq.heapify(self._timers)
            self._tidy_from = max(_TIDY_FROM, 2 * len(self._timers))

    def abandon(self) -> None:
        """Forget everything that runs here, as a kill does; what its last words try to do must be refused elsewhere."""
        with warnings.catch_warnings():
            # What a dying task would still have awaited is not awaited any more.
            warnings.simplefilter("ignore", RuntimeWarning)
            self._bury()
        self.unhandled.clear()
        self._timers.clear()
        self.close()

    def _bury(self) -> None:
        for task in sorted(asyncio.all_tasks(self), key=hash):
            task._log_destroy_pending = False  # type: ignore[attr-defined] # (C task's own switch)
            coro: Any = task.get_coro()
            # A coroutine that awaits in its last breath ignores the end, once for every await.
            for _ in range(_LAST_BREATHS):
                if _closed(coro):
                    break


def _closed(coro: Any) -> bool:
    try:
        # Not close(): what has never begun would complain that nobody waited for it.
        coro.throw(GeneratorExit)
    except BaseException:  # noqa: BLE001 (whatever it says now, nobody hears it)
        return True
    return False


def _words(context: dict[str, Any]) -> str:
    error = context.get("exception")
    return f"{context.get('message')}: {error!r}" if error is not None else str(context.get("message"))
