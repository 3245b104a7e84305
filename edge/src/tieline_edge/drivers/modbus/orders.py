"""Carrying out an action on the bus: fresh scale factors, the writes, the read-back, and the device's reversion timer.

All requests of one action are sent in one turn: no poll comes between them, so a control that has to be switched off and on
again is off for one round trip only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from tieline_core.clock import Clock
from tieline_edge.drivers.capabilities import Action, DeviceSpec, HoldPower, LimitGeneration, ReadBack
from tieline_edge.drivers.catalog.entry import CatalogEntry, Register, Reversion, Table, Write
from tieline_edge.drivers.modbus.layout import Layout
from tieline_edge.drivers.modbus.link import Bus
from tieline_edge.drivers.modbus.program import RegisterWrite, Scales, plan_writes
from tieline_edge.drivers.modbus.registers import Words, coalesce, cover, largest
from tieline_edge.drivers.modbus.reversion import Timer, judge_timer
from tieline_edge.drivers.orders import steps_of

#: What it may take to restart a reversion timer, mildest first; ``nothing`` = none of them does.
_WAYS: Final = ("rewrite", "nudge", "toggle", "nothing")

#: (table, group, address) of a word -> what it must hold and why.
_Expected = dict[tuple[Table, int, int], tuple[int, str]]


@dataclass(slots=True)
class Orders:
    """The writing side of one connected device.

    Attributes:
        spec: What the device is.
        entry: Its catalogue entry.
        layout: Where its models start.
        clock: How long a write took is time the device has counted already.
        scales: Scale factors and rating as last read.
        way: What it takes to restart its reversion timer, as found out so far.
    """

    spec: DeviceSpec
    entry: CatalogEntry
    layout: Layout
    clock: Clock
    scales: Scales = field(default_factory=lambda: Scales({}))
    way: str = "rewrite"

    @property
    def scaled(self) -> bool:
        """True when something has to be read before a set point can become a register."""
        return any(register.scale_factor is not None for register in self.entry.written_registers) or bool(self.entry.rating)

    async def read_scales(self, bus: Bus) -> None:
        """Read scale factors and rating; raises like :meth:`Bus.read`."""
        written, rating = self.entry.written_registers, self.entry.rating
        factors = [
            Register(address=register.scale_factor, model=register.model)
            for register in written
            if register.scale_factor is not None
        ]
        words = Words()
        for block in coalesce([*factors, *([rating] if rating else [])]):
            words.add(block, await bus.read(block.table, self.layout.start(block), block.count))
        exponents = {register: words.exponent(register) for register in written}
        self.scales = Scales(
            {register: exponent for register, exponent in exponents.items() if exponent is not None},
            words.value(rating) if rating else None,
        )

    def plan(self, action: Action, steps: tuple[Write, ...] | None = None) -> tuple[RegisterWrite, ...]:
        """The requests of an action with the scale factors as last read.

        Raises:
            DevicePermanentError: Refused; nothing was written.
        """
        return plan_writes(action, self.spec, self.entry, self.scales, steps)

    async def carry_out(self, bus: Bus, action: Action) -> ReadBack:
        """Write and read back; scale factors are read anew first, because a device may change them.

        Raises:
            DeviceTransientError: The write may or may not have arrived.
            DevicePermanentError: Refused by the device, or because a scale factor has changed.
        """
        if self.scaled:
            await self.read_scales(bus)
        expected: _Expected = {}
        began = self.clock.now()
        await self._write(bus, self.plan(action), expected)
        reversion, timer_s = self.entry.reversion, self._timer_s(action)
        if reversion is None or timer_s is None:
            return (await self._read_back(bus, expected))[0]
        await self._restart(bus, action, reversion, self.way, expected)
        answer, timer = await self._read_back(bus, expected, timer_s, began)
        while timer is Timer.RUNNING_DOWN and self.way != "nothing":
            self.way = _WAYS[_WAYS.index(self.way) + 1]
            began = self.clock.now()
            if await self._restart(bus, action, reversion, self.way, expected):
                answer, timer = await self._read_back(bus, expected, timer_s, began)
        return answer

    def _timer_s(self, action: Action) -> float | None:
        """The time that an action writes into the device [s]; None when it writes none."""
        if not isinstance(action, HoldPower | LimitGeneration):
            return None
        timed = [step for step in steps_of(action, self.entry.writes, self.spec, self.entry.name) if step.value == "revert_s"]
        return min(float(math.ceil(action.revert_s)), largest(timed[0].register_)) if timed else None

    async def _restart(self, bus: Bus, action: Action, reversion: Reversion, way: str, expected: _Expected) -> bool:
        steps = {"nudge": reversion.nudge, "toggle": reversion.toggle}.get(way, ())
        for step in steps:
            # One request each: two values of one switch cannot share one.
            await self._write(bus, self.plan(action, (step,)), expected)
        return bool(steps)

    async def _write(self, bus: Bus, requests: Sequence[RegisterWrite], expected: _Expected) -> None:
        for request in requests:
            await bus.write(request.table, self.layout.address(request.group, request.address), request.words)
            for offset, word in enumerate(request.words):
                expected[request.table, request.group, request.address + offset] = (word, ", ".join(request.labels))

    async def _read_back(
        self, bus: Bus, expected: _Expected, timer_s: float | None = None, began: datetime | None = None
    ) -> tuple[ReadBack, Timer]:
        remaining = self.entry.reversion.remaining if self.entry.reversion and timer_s is not None else None
        spans = [(table, group, address, address + 1) for table, group, address in expected]
        if remaining is not None:
            spans.append((remaining.table, remaining.model or 0, remaining.address, remaining.address + remaining.type.words))
        words = Words()
        for block in cover(spans):
            words.add(block, await bus.read(block.table, self.layout.start(block), block.count))
        texts: dict[str, str] = {}
        for (table, group, address), (word, label) in expected.items():
            held = words.word(table, group, address)
            if held == word:
                texts.setdefault(label, label)
            else:
                texts[label] = f"{label}: {self._place(table, group, address)} was given {word}, holds {held}"
        confirmed = all(label == text for label, text in texts.items())
        text = "; ".join(texts.values()) or "nothing to write"
        if remaining is None or timer_s is None:
            return ReadBack(confirmed, text), Timer.UNKNOWN
        remaining_s = words.value(remaining)
        elapsed_s = (self.clock.now() - began).total_seconds() if began is not None else 0.0
        timer = judge_timer(timer_s, remaining_s, max(0.0, elapsed_s))
        if timer is Timer.RUNNING_DOWN:
            text += f"; its reversion timer did not restart: {remaining_s:g} s of {timer_s:g} s are left"
        known_s = None if timer is Timer.UNKNOWN else remaining_s
        return ReadBack(confirmed, text, known_s, timer is Timer.RUNNING_DOWN), timer

    @staticmethod
    def _place(table: Table, group: int, address: int) -> str:
        return f"model {group} offset {address}" if group else f"{table.value} {address}"
