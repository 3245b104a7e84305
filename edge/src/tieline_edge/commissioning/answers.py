"""Who ticks: a person at a terminal, or a file for scripts."""

from __future__ import annotations

import asyncio
import sys
import termios
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, Protocol

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tieline_core.errors import BadInputError
from tieline_core.field_words import reason_of, value_of
from tieline_core.ids import DeviceId
from tieline_core.strict_yaml import MAX_BYTES, parse
from tieline_edge.commissioning.sheet import Tick

_TICKS: Final = {"p": Tick.PASS, "f": Tick.FAIL, "": Tick.OPEN, "s": Tick.OPEN}


class StoppedError(Exception):
    """The person stops here; what was ticked is kept."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A tick with its remark."""

    tick: Tick
    remark: str = ""


class Answers(Protocol):
    """Where ticks come from."""

    async def tick(self, device: DeviceId, name: str, shown: str, good: bool) -> Answer:
        """Judge something that was shown; ``good`` = it looks right to the program."""
        ...

    async def consent(self, device: DeviceId, what: str) -> bool:
        """Whether this device may be moved now."""
        ...


async def read_line(text: str) -> str:
    """A line from standard input, typed after the question; connections live on and Ctrl-C works while somebody thinks.

    Raises:
        EOFError: There is nothing more.
    """
    sys.stdout.write(text)
    sys.stdout.flush()
    if sys.stdin.isatty():
        # What was typed before the question stood there answers nothing: it may have been meant for another point.
        termios.tcflush(sys.stdin, termios.TCIFLUSH)
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(sys.stdin, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(sys.stdin)
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line


class Terminal:
    """A person at a terminal.

    Args:
        read: Asks a line.
    """

    def __init__(self, read: Callable[[str], Awaitable[str]] | None = None) -> None:
        self._read = read or read_line

    async def tick(self, device: DeviceId, name: str, shown: str, good: bool) -> Answer:
        """Ask until the answer is understood."""
        looks = "" if good else "   << look at it"
        while True:
            said = await self._ask(
                f"  {shown}{looks}\n    {device} {name}: [p]ass, [f]ail, [s]kip or Enter, [q]uit; a remark may follow > "
            )
            word, _, remark = said.strip().partition(" ")
            if word.lower() in ("q", "quit"):
                raise StoppedError
            tick = _TICKS.get(word.lower()[:1] if word else "")
            if tick is not None and word.lower() in ("", "p", "pass", "f", "fail", "s", "skip"):
                return Answer(tick, remark.strip()[:300])
            sys.stderr.write("    write p, f, s or q\n")

    async def consent(self, device: DeviceId, what: str) -> bool:
        """Only the device's own name counts as consent."""
        said = await self._ask(f"\n  {what}\n    Write '{device}' to let it happen, anything else to leave it alone > ")
        return said.strip() == device

    async def _ask(self, text: str) -> str:
        try:
            return await self._read(text)
        except EOFError as error:
            raise StoppedError from error


class _Given(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _worded(value: object) -> object:
    # 'p_w: pass' for short, 'p_w: {tick: fail, remark: ...}' in full.
    return {"tick": value} if isinstance(value, str) else value


class _GivenTick(_Given):
    tick: Literal["pass", "fail", "open", "auto"]
    remark: str = Field(default="", max_length=300)


_Worded = Annotated[_GivenTick, BeforeValidator(_worded)]


class _GivenDevice(_Given):
    points: _Worded | None = Field(default=None, description="for every point that is not named")
    point: dict[str, _Worded] = Field(default_factory=dict)
    consent: bool = False
    actuation: _Worded | None = None


class AnswersFile:
    """Answers given beforehand; what is not answered stays open, and nothing moves without ``consent: true`` of its device.

    Raises:
        BadInputError: The file cannot be read or says something unknown.
    """

    def __init__(self, path: Path) -> None:
        source = str(path)
        try:
            with path.open("rb") as file:
                tree = parse(file.read(MAX_BYTES + 1), source)
        except OSError as error:
            raise BadInputError(source, "", None, f"cannot be read: {error.strerror}") from error
        rows = tree["devices"] if isinstance(tree, Mapping) and list(tree) == ["devices"] else None
        if not isinstance(rows, Mapping):
            raise BadInputError(source, "devices", None, "one block 'devices' is expected, by device id")
        self._devices: dict[str, _GivenDevice] = {}
        for name, row in rows.items():
            try:
                self._devices[str(name)] = _GivenDevice.model_validate(row)
            except ValidationError as error:
                first = error.errors()[0]
                key = ".".join(("devices", str(name), *map(str, first["loc"])))
                raise BadInputError(source, key, value_of(first), reason_of(first, _GivenDevice)) from error

    async def tick(self, device: DeviceId, name: str, _shown: str, good: bool) -> Answer:
        """The answer to this point or actuation; ``auto`` = as it looks to the program."""
        row = self._devices.get(device)
        if row is None:
            return Answer(Tick.OPEN)
        given = row.actuation if name == "actuation" else row.point.get(name, row.points)
        if given is None:
            return Answer(Tick.OPEN)
        if given.tick == "auto":
            return Answer(Tick.PASS if good else Tick.FAIL, given.remark)
        return Answer(Tick(given.tick), given.remark)

    async def consent(self, device: DeviceId, _what: str) -> bool:
        """As the file says."""
        row = self._devices.get(device)
        return row is not None and row.consent
