"""Processes that end with us: each is started as a command line, named, logged, and stopped in reverse order.

Whatever ends the conductor (the end of the story, Ctrl-C, a kill), no child outlives it: on Linux the kernel itself
terminates the children of a parent that is gone.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

_PR_SET_PDEATHSIG = 1
_STOP_S = 12.0


class DemoError(Exception):
    """Something the story needs did not happen; the message says what and where to look."""


@dataclass
class Child:
    """A running command line."""

    name: str
    command: Sequence[str]
    log: Path
    process: subprocess.Popen[bytes]
    may_end: bool = False

    def tail(self, lines: int = 15) -> str:
        """The last lines of its log."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


def _die_with_parent() -> None:
    """Runs in the child before exec: SIGTERM when the parent is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Crew:
    """All processes of the story; leaving the context stops every one of them."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        self._environment = {**os.environ, **environment}
        self.children: list[Child] = []

    def __enter__(self) -> Crew:
        def stop(signum: int, _frame: FrameType | None) -> None:
            raise KeyboardInterrupt(signal.Signals(signum).name)

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGHUP, stop)
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop_all()

    def start(self, name: str, command: Sequence[str], *, may_end: bool = False) -> Child:
        """Start a command line in the background; its output goes to ``logs/<name>.log``.

        Args:
            may_end: It is a piece of work that ends by itself, see :meth:`finish`.
        """
        log = self._folder / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            process = self._spawn(command, out)
        child = Child(name, command, log, process, may_end)
        self.children.append(child)
        return child

    def finish(self, child: Child, seconds: float = 120.0) -> None:
        """Wait for a piece of work to end well; raises DemoError when it does not."""
        try:
            code = child.process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise DemoError(f"{child.name} did not end within {seconds:.0f} s; see {child.log}") from error
        self.children.remove(child)
        if code:
            raise DemoError(f"{child.name} ended with {code}; the end of {child.log}:\n{child.tail()}")

    def _spawn(self, command: Sequence[str], out: IO[bytes]) -> subprocess.Popen[bytes]:
        # Its own session: a Ctrl-C in the terminal reaches the conductor alone, which then stops all in order.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=self._environment,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 (no threads run yet in this process)
        )

    def run(self, name: str, command: Sequence[str], seconds: float = 180.0, good: tuple[int, ...] = (0,)) -> str:
        """Run a command line to its end and return what it printed.

        Args:
            good: Exit codes that are an answer, not a failure.

        Raises:
            DemoError: With the end of its output when it fails or takes too long.
        """
        log = self._folder / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as err:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=err,
                env=self._environment,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 (no threads run yet in this process)
            )
            self.children.append(child := Child(name, command, log, process))
            try:
                output, _ = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired as error:
                raise DemoError(f"{name} did not end within {seconds:.0f} s; see {log}") from error
        self.children.remove(child)
        text = output.decode("utf-8", "replace")
        if process.returncode not in good:
            raise DemoError(f"{name} ended with {process.returncode}: {' '.join(command)}\n{text[-1500:]}{child.tail()}")
        return text

    def wait_until(self, what: str, ready: Callable[[], bool], seconds: float, step_s: float = 0.1) -> float:
        """Wait for a condition while every process lives; returns the seconds it took.

        Raises:
            DemoError: When time is up or a process has ended.
        """
        begin = time.monotonic()
        while not ready():
            self.check()
            if time.monotonic() - begin > seconds:
                raise DemoError(f"{what} did not happen within {seconds:.0f} s; logs are in {self._folder / 'logs'}")
            time.sleep(step_s)
        return time.monotonic() - begin

    def check(self) -> None:
        """Raise DemoError when a process has ended by itself."""
        for child in self.children:
            if child.process.poll() not in (None, 0 if child.may_end else None):
                raise DemoError(f"{child.name} ended with {child.process.returncode}; the end of {child.log}:\n{child.tail()}")

    def stop(self, child: Child) -> int:
        """SIGTERM, then SIGKILL after a while; returns the exit code."""
        if child.process.poll() is None:
            child.process.terminate()
            try:
                child.process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
        if child in self.children:
            self.children.remove(child)
        return child.process.returncode

    def stop_all(self) -> None:
        """Stop everything, the last started first: edges let go of their devices while field and brokers still stand."""
        deadline = time.monotonic() + _STOP_S
        for child in reversed(self.children):
            if child.process.poll() is None:
                child.process.terminate()
                try:
                    child.process.wait(max(0.5, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    child.process.kill()
                    child.process.wait()
        self.children.clear()
