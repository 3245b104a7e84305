"""Command lines of the rig: started, frozen, killed, and started again; senders with what they say of themselves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from tests.faults.journal import Journal
from tests.faults.proxy import Proxy

ROOT: Final = Path(__file__).parents[2]
ENVIRONMENT: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


class RigError(Exception):
    """Something did not happen in time; the message says what."""


@dataclass
class Program:
    """A command line that may be killed and started again."""

    name: str
    command: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    stopped: bool = False

    def start(self, extra: Sequence[str] = ()) -> None:
        """Start it; its output is added to its log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [*self.command, *extra],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**os.environ, **ENVIRONMENT},
            )
        self.starts += 1

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None
        return self.process.pid

    def pause(self) -> None:
        """SIGSTOP."""
        self.stopped = True
        os.kill(self.pid, signal.SIGSTOP)

    def wake(self) -> None:
        """SIGCONT."""
        self.stopped = False
        os.kill(self.pid, signal.SIGCONT)

    def say(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def end(self, number: int = signal.SIGKILL, seconds: float = 60.0) -> int:
        """End it by a signal; returns its exit status."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            if self.stopped and number != signal.SIGKILL:
                self.wake()
            self.process.send_signal(number)
        self.stopped = False
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise RigError(f"{self.name} did not end within {seconds:g} s of signal {number}; see {self.log}") from None
        if self.process.stdin is not None:
            _close(self.process.stdin)
        self.process = None
        return status

    def memory_mb(self) -> float:
        """Resident memory."""
        for line in Path(f"/proc/{self.pid}/status").read_text("ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0


def _close(pipe: IO[bytes]) -> None:
    try:
        pipe.close()
    except BrokenPipeError:
        return


@dataclass
class Sender:
    """An edge of the rig; ``edge`` is its name in the rig."""

    edge: str
    folder: Path
    program: Program
    link: Proxy
    journal: Journal
    said: int = 0

    def status(self) -> dict[str, Any]:
        """What it last said of itself; empty when it never did or is another process by now."""
        try:
            row: dict[str, Any] = json.loads((self.folder / "status.json").read_text("utf-8"))
        except FileNotFoundError:
            return {}
        return row if self.program.alive and row["pid"] == self.program.pid else {}

    def start(self, *extra: str) -> None:
        """Start its process."""
        self.said = 0
        self.program.start(extra)

    def say(self, line: str) -> None:
        """Give it a command."""
        self.said += 1
        self.program.say(line)

    def settled(self) -> bool:
        """Whether it has done what it was told, records nothing, and the hub has acknowledged everything."""
        row = self.status()
        return bool(row) and row["heard"] >= self.said and row["quiet"] and row["waiting"] == 0
