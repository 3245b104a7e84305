"""Sheddable customers: a contactor with its own measurement behind plain Modbus registers (the simulator's own map).

=========  ====  ======================================================================================
table      addr  meaning
=========  ====  ======================================================================================
coil       0     contactor command, 1 = closed
discrete   0     contactor feedback, 1 = closed
input      0-1   active power, W, INT32, most significant word first
input      2     voltage phase to neutral, 0.1 V, UINT16
input      3-4   energy, 10 Wh, UINT32, most significant word first
holding    0     safe state, 1 = closed (read only)
holding    1     off-timer, simulated seconds, read and write: odd units only, even units are latched
holding    2     priority class (read only), 0 = vital
holding    3     rated power, 10 W (read only)
=========  ====  ======================================================================================

With an off-timer above 0 an open contactor closes by itself that many seconds after the last write of its coil.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tieline_sim.devices.sunspec import ILLEGAL_ADDRESS, ILLEGAL_VALUE, ModbusRefusal
from tieline_sim.scenario import SheddableSpec

_READ_COILS, _READ_DISCRETE, _READ_HOLDING, _READ_INPUT = 1, 2, 3, 4
_WRITE_COIL, _WRITE_REGISTER, _WRITE_COILS, _WRITE_REGISTERS = 5, 6, 15, 16
_LONGEST_OFF_S: Final = 7200


class Contactor:
    """One customer behind a contactor.

    Args:
        spec: Unit, class and share.
        rated_w: Rated power of the connection.
        now: Simulated seconds since 1970.
        moved: Told of each change of position: (unit, closed, by whom).
    """

    def __init__(
        self, spec: SheddableSpec, rated_w: float, now: Callable[[], float], moved: Callable[[int, bool, str], None]
    ) -> None:
        self.spec = spec
        self.rated_w = rated_w
        self._now = now
        self._moved = moved
        self.has_off_timer = spec.unit % 2 == 1
        self.closed = True
        self.off_timer_s = 0
        self.coil_written_at: float | None = None
        self.demand_w = 0.0
        self.volt_ln = 230.0
        self.energy_wh = 0.0

    @property
    def p_w(self) -> float:
        """Power drawn now."""
        return self.demand_w if self.closed else 0.0

    def step(self, seconds: float, demand_w: float, volt_ln: float) -> None:
        """Move on: energy, and the off-timer."""
        self.demand_w, self.volt_ln = demand_w, volt_ln
        self.energy_wh += self.p_w * seconds / 3600
        self.run_timer()

    def run_timer(self) -> None:
        """Close when the off-timer has run out."""
        if self.closed or not self.off_timer_s or self.coil_written_at is None:
            return
        if self._now() >= self.coil_written_at + self.off_timer_s:
            self._move(True, "off-timer")

    def _move(self, closed: bool, why: str) -> None:
        if closed != self.closed:
            self.closed = closed
            self._moved(self.spec.unit, closed, why)

    def read(self, function: int, address: int, count: int) -> tuple[list[int], dict[str, float]]:
        """Bits or registers, and the measurements they carry.

        Raises:
            ModbusRefusal: Code 2 for an address that does not exist.
        """
        self.run_timer()
        table = self._table(function)
        wanted = range(address, address + count)
        if not all(number in table for number in wanted):
            raise ModbusRefusal(ILLEGAL_ADDRESS)
        words = [table[number] for number in wanted]
        carried: dict[str, float] = {}
        if function == _READ_INPUT:
            if 0 in wanted and 1 in wanted:
                carried["p_w"] = float(_signed32(table[0], table[1]))
            if 2 in wanted:
                carried["v_v"] = table[2] / 10
            if 3 in wanted and 4 in wanted:
                carried["e_wh"] = float((table[3] << 16 | table[4]) * 10)
        elif function == _READ_DISCRETE:
            carried["closed"] = float(self.closed)
        return words, carried

    def _table(self, function: int) -> dict[int, int]:
        if function in (_READ_COILS, _READ_DISCRETE, _WRITE_COIL, _WRITE_COILS):
            return {0: int(self.closed)}
        if function == _READ_INPUT:
            power = round(self.p_w) & 0xFFFFFFFF
            energy = int(self.energy_wh / 10) & 0xFFFFFFFF
            voltage = min(0xFFFF, max(0, round(self.volt_ln * 10)))
            return dict(enumerate([power >> 16, power & 0xFFFF, voltage, energy >> 16, energy & 0xFFFF]))
        table = {0: 1, 2: self.spec.priority_class, 3: round(self.rated_w / 10)}
        return table | {1: self.off_timer_s} if self.has_off_timer else table

    def write(self, function: int, address: int, values: Sequence[int]) -> dict[str, float]:
        """Apply a write; gives what was set.

        Raises:
            ModbusRefusal: Code 2 for an address that cannot be written, 3 for a value out of range.
        """
        if function in (_WRITE_COIL, _WRITE_COILS):
            if address != 0 or len(values) != 1:
                raise ModbusRefusal(ILLEGAL_ADDRESS)
            self.coil_written_at = self._now()
            self._move(bool(values[0]), "write")
            return {"coil": float(bool(values[0]))}
        if address != 1 or len(values) != 1 or not self.has_off_timer:
            raise ModbusRefusal(ILLEGAL_ADDRESS)
        if not 0 <= values[0] <= _LONGEST_OFF_S:
            raise ModbusRefusal(ILLEGAL_VALUE)
        self.off_timer_s = int(values[0])
        return {"off_timer_s": float(values[0])}

    def to_state(self) -> dict[str, Any]:
        """For the state file."""
        return {name: getattr(self, name) for name in ("closed", "off_timer_s", "coil_written_at", "energy_wh")}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`to_state` gave."""
        for name, value in state.items():
            setattr(self, name, value)


def _signed32(high: int, low: int) -> int:
    number = high << 16 | low
    return number - (1 << 32) if number >= 1 << 31 else number
