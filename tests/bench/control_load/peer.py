"""The peer: what everybody writes first, a loop that polls one device after the other with pymodbus and acts on what it read.

``python -m tests.bench.control_load.peer CONFIG.json``: it keeps its connections, waits one second for an answer and does
not repeat, which is kinder to it than the library's defaults. Its rule is the simplest there is: above 100 % open feeders
until 95 % would remain, below 80 % close one. It records nothing and decides nothing else.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any, Final

from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ModbusException

from tests.bench.control_load.sheet import COMMAND, OFFSET, ROWS, WORDS

_SCALE: Final = {row.quantity: row.scale for row in ROWS}


class Loop:
    """The devices and what is known of them."""

    def __init__(self, ports: list[int], feeders: int, feeder_pct: float) -> None:
        self._clients = [ModbusTcpClient("127.0.0.1", port=port, timeout=1.0, retries=0) for port in ports]
        self._feeders, self._feeder_pct = feeders, feeder_pct
        self._closed = [True] * (feeders + 1)
        self._dead: set[int] = set()
        self.sweeps_s: list[float] = []
        self.failed = 0

    def _read(self, number: int) -> dict[str, float] | None:
        client = self._clients[number]
        try:
            if not client.connected and not client.connect():  # type: ignore[no-untyped-call]  # pymodbus does not annotate it
                return None
            answer = client.read_input_registers(0, count=WORDS, device_id=1)
        except (ModbusException, OSError):
            return None
        if answer.isError():
            return None
        values = {}
        for row in ROWS:
            words = answer.registers[OFFSET[row.quantity] : OFFSET[row.quantity] + row.words]
            raw: Any = client.convert_from_registers(words, client.DATATYPE[row.type])
            values[row.quantity] = raw * row.scale
        return values

    def sweep(self) -> None:
        """Every device once, and what follows from it."""
        begin = time.monotonic()
        for number in range(len(self._clients)):
            values = self._read(number)
            if values is None:
                self.failed += 1
                if 0 < number <= self._feeders:
                    self._dead.add(number)
            elif number == 0:
                self._act(values["loading_pct"])
        self.sweeps_s.append(time.monotonic() - begin)

    def _act(self, loading_pct: float) -> None:
        if loading_pct > 100.0:
            need = loading_pct - 95.0
            for number in range(1, self._feeders + 1):
                if need <= 0:
                    break
                if self._closed[number] and number not in self._dead and self._write(number, closed=False):
                    need -= self._feeder_pct
        elif loading_pct < 80.0:
            for number in range(1, self._feeders + 1):
                if not self._closed[number] and self._write(number, closed=True):
                    break

    def _write(self, number: int, *, closed: bool) -> bool:
        try:
            done = not self._clients[number].write_register(COMMAND, int(closed), device_id=1).isError()
        except (ModbusException, OSError):
            done = False
        if done:
            self._closed[number] = closed
        return done


def main() -> None:
    """Poll for the time asked for and write down how it went."""
    config = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    loop = Loop(config["ports"], config["feeders"], config["feeder_pct"])
    end = time.monotonic() + config["seconds"]
    while time.monotonic() < end:
        due = time.monotonic() + 1.0
        loop.sweep()
        time.sleep(max(0.0, due - time.monotonic()))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    report = {"sweeps_s": loop.sweeps_s, "failed": loop.failed, "cpu_s": usage.ru_utime + usage.ru_stime}
    Path(config["out"]).write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
