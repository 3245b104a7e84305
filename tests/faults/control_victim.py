"""An edge that kills itself (SIGKILL) at a named point of a write: the product's agent, with two doors for a test.

::

    python -m tests.faults.control_victim FOLDER --port PORT --loads N [--die before-write|after-write|third-write]

Commands are taken from ``FOLDER/inbox/*.json``; while ``FOLDER/overload`` exists, safety wants every load open. What the agent
remembers lies in ``FOLDER/state``, and ``FOLDER/commands-now.json`` shows its reports.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from tieline_core.ids import DeviceId
from tieline_core.messages.command import Command
from tieline_edge import agent, bootstrap
from tieline_edge.bootstrap import Composition
from tieline_edge.control.claims import Band, Claim
from tieline_edge.control.speaker import Speaker
from tieline_edge.drivers.capabilities import Action, ReadBack
from tieline_edge.drivers.modbus.orders import Orders
from tieline_edge.settings import EdgeSettings
from tieline_edge.shedding.rule import RuleView

_LOOK_S: Final = 0.05


def site(folder: Path, port: int, loads: int) -> EdgeSettings:
    """Loads load01, load02, ... at units 1, 2, ...; the last one is vital."""
    devices = [
        {
            "id": f"load{unit:02}",
            "catalog": "modbus-load-switch-latched",
            "modbus": {"host": "127.0.0.1", "port": port, "unit": unit, "timeout_s": 1.0},
            "poll_s": 0.2,
            "priority_class": 0 if unit == loads else 3,
            "min_on_s": 0.0,
            "min_off_s": 1.0,
            "effect_s": 3.0,
        }
        for unit in range(1, loads + 1)
    ]
    return EdgeSettings.model_validate(
        {
            "edge_id": "victim",
            "state_dir": folder / "state",
            "site": {"name": "Victim", "rated_va": 100e3},
            "hub": {
                "mqtt": {"host": "127.0.0.1", "port": 1, "insecure": True},
                "http": "http://127.0.0.1:1",
                "public_keys": ["ab" * 32],
            },
            "cycle": {"period_s": 0.1, "floor_wall_s": 0.05},
            "devices": devices,
            "forecast": {"enabled": False},
            "metrics": {"port": 0},
        }
    )


class Overload:
    """Safety, for as long as a file says so."""

    def __init__(self, flag: Path, loads: list[DeviceId]) -> None:
        self._flag, self._loads = flag, loads

    def claims(self, view: RuleView) -> Iterator[Claim]:
        if self._flag.exists():
            until = view.now + timedelta(seconds=5)
            for load in self._loads:
                yield Claim(load, Band.SAFETY, "overload", "the flag is up", closed=False, expires_at=until)


class Victim(agent.Agent):
    """The agent, with an inbox."""

    folder: Path

    async def _control(self, parts: Composition) -> None:
        async with asyncio.TaskGroup() as group:
            inbox = group.create_task(self._inbox(parts))
            try:
                await super()._control(parts)
            finally:
                inbox.cancel()

    async def _inbox(self, parts: Composition) -> None:
        while True:
            for path in sorted((self.folder / "inbox").glob("*.json")):
                await parts.cycle.take_command(Command.from_bytes(path.read_bytes(), path.name))
                path.unlink()
            new = self.folder / "commands-now.new"
            new.write_text("\n".join(report.model_dump_json() for report in parts.commands.reports()))
            new.replace(self.folder / "commands-now.json")
            await asyncio.sleep(_LOOK_S)


def die_at(point: str | None) -> None:
    """Let the driver kill the process there, on the bus and nowhere else."""
    carry_out, read_back = Orders.carry_out, Orders._read_back
    written = 0

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    async def dying_carry_out(self: Orders, bus: Any, action: Action) -> ReadBack:
        nonlocal written
        if point == "before-write" or (point == "third-write" and written == 2):
            die()
        done = await carry_out(self, bus, action)
        written += 1
        return done

    async def dying_read_back(self: Orders, *args: Any) -> Any:
        if point == "after-write":
            die()
        return await read_back(self, *args)

    Orders.carry_out = dying_carry_out  # type: ignore[method-assign]  # the point of the exercise
    Orders._read_back = dying_read_back  # type: ignore[method-assign, assignment]  # likewise


def main() -> None:
    """Run until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--loads", type=int, required=True)
    parser.add_argument("--die", choices=("before-write", "after-write", "third-write"))
    options = parser.parse_args()
    (options.folder / "inbox").mkdir(exist_ok=True)
    die_at(options.die)
    loads = [DeviceId(f"load{unit:02}") for unit in range(1, options.loads)]
    speakers = bootstrap.speakers

    def with_overload(*known: Any) -> tuple[Speaker, ...]:
        return (*speakers(*known), Overload(options.folder / "overload", loads))

    bootstrap.speakers = with_overload  # type: ignore[assignment]  # the one table of speakers, with one line more
    victim = Victim(site(options.folder, options.port, options.loads))
    victim.folder = options.folder
    asyncio.run(victim.run())


if __name__ == "__main__":
    main()
