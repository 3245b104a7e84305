"""Operator commands at the edge: checked, kept, turned into claims that expire, and followed to their effect."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.command import Action, Command, CommandReport, CommandState
from tieline_core.shedding import VITAL
from tieline_edge.control.claims import NO_LIMIT, Band, Claim, Failsafe, Interval
from tieline_edge.control.state_file import StateFile
from tieline_edge.control.state_writer import StateWriter
from tieline_edge.drivers.capabilities import Action as DeviceAction
from tieline_edge.drivers.capabilities import Capability, DeviceSpec, HoldPower, Role

_LOG = logging.getLogger(__name__)
#: How long a finished command is remembered, so that a repeated message finds its report [s].
REMEMBER_S: Final = 86_400.0
MAX_COMMANDS: Final = 500
#: Commands that may be in force at once; the rest of the memory is for those that are over or were refused.
MAX_OPEN: Final = 400
#: Reports handed to the hub at once, newest first.
MAX_REPORTS: Final = 20
#: A disk that takes longer holds up no command [wall s].
_STORE_WITHIN_S: Final = 2.0

_BINDS: Final = 2
_IN_PART: Final = "in part:"
_FINAL: Final = frozenset({CommandState.REFUSED, CommandState.EXPIRED, CommandState.ENDED})
_IN_FORCE: Final = frozenset({CommandState.CONFIRMED, CommandState.EFFECTIVE})


class HeldCommand(BaseModel):
    """A command and how far it has come."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: Command
    report: CommandReport
    released: bool = False


_HELD: TypeAdapter[list[HeldCommand]] = TypeAdapter(list[HeldCommand])


@dataclass(frozen=True, slots=True)
class Wish:
    """What a command means for its device: at most one of the three."""

    setpoint_w: float | None = None
    closed: bool | None = None
    limit: Interval | None = None


def meaning(command: Command, spec: DeviceSpec) -> Wish | str:
    """What a command means for this device, or why it means nothing. A pure function.

    ``limit_w`` bounds the signed power on the side of its sign: 5000 draws at most 5 kW, -5000 delivers at most 5 kW,
    0 on a storage means rest, on a plant no generation.
    """
    able = spec.capabilities
    if command.action is Action.RELEASE:
        return Wish()
    if command.action in (Action.OPEN, Action.CLOSE):
        if Capability.SWITCH not in able:
            return f"{spec.device_id} is a {spec.role} and has no contactor to switch"
        if command.action is Action.OPEN and spec.priority_class == VITAL:
            return f"{spec.device_id} is vital (class 0): it is never opened"
        return Wish(closed=command.action is Action.CLOSE)
    value = command.value_w or 0.0
    if command.action is Action.SETPOINT_W:
        if Capability.HOLD_POWER not in able:
            return f"{spec.device_id} is a {spec.role} and holds no setpoint"
        if not spec.p_min_w <= value <= spec.p_max_w:
            return f"{value:g} W is outside [{spec.p_min_w:g}, {spec.p_max_w:g}] W of {spec.device_id}"
        return Wish(setpoint_w=value)
    if not able & {Capability.HOLD_POWER, Capability.LIMIT_GENERATION}:
        return f"{spec.device_id} is a {spec.role} and takes no limit of power"
    if spec.role is Role.PV:
        return Wish(limit=Interval(lo=value)) if value <= 0 else "a limit of generation is a signed power of at most 0 W"
    if value == 0:
        return Wish(limit=Interval(0.0, 0.0))
    return Wish(limit=Interval(hi=value) if value > 0 else Interval(lo=value))


class CommandBook:
    """Commands on disk and in mind.

    Args:
        edge: The only edge whose commands are taken.
        specs: The devices a command may name.
        file: Where commands survive a restart.
        tagged: Says why nothing may be written to a device now (a tag "do not operate"); None when it may.
    """

    def __init__(
        self,
        edge: EdgeId,
        specs: Mapping[DeviceId, DeviceSpec],
        file: StateFile,
        tagged: Callable[[DeviceId], str | None] = lambda _device: None,
    ) -> None:
        self._edge = edge
        self.specs = specs
        self._file = file
        self.disk = StateWriter(file, self._text)
        self._tagged = tagged
        self._held: dict[str, HeldCommand] = {}
        #: On their way to the disk, and not in force before they are there.
        self._coming: dict[str, HeldCommand] = {}
        #: So that a release ends what came just before it, and who repeats a command hears of it when it is on the disk.
        self._one_at_a_time = asyncio.Lock()

    def restore(self) -> str | None:
        """Take up what an earlier run held; returns why nothing could be taken up, if so."""
        text = self._file.read()
        if text is None:
            return None
        try:
            rows = _HELD.validate_json(text)
        except ValidationError:
            return f"stored commands were unreadable and are kept as {self._file.set_aside().name}"
        self._held = {row.command.command_id: row for row in rows}
        return None

    async def accept(self, command: Command, now: datetime) -> CommandReport:
        """Take or refuse a command; it is on disk when this returns, and not in force before.

        The answer to an id that is known already is its present report.
        """
        async with self._one_at_a_time:
            known = self._held.get(command.command_id)
            return await self._judge(command, now) if known is None else known.report

    async def _judge(self, command: Command, now: datetime) -> CommandReport:
        reason = self._refusal(command, now) or self._full(command)
        state = CommandState.ACCEPTED if reason is None else CommandState.REFUSED
        rows: list[HeldCommand] = []
        if reason is None and command.action is Action.RELEASE:
            ended = [row for row in self._held.values() if row.command.device_id == command.device_id and _open(row)]
            rows = [_released(row, command, now) for row in ended]
            state, reason = CommandState.EFFECTIVE, f"commands ended by it: {len(ended)}"
        report = CommandReport(command_id=command.command_id, state=state, at=now, text=(reason or "")[:300])
        rows.append(HeldCommand(command=command, report=report))
        await self._bring(rows, now)
        return report

    async def _bring(self, rows: Iterable[HeldCommand], now: datetime) -> None:
        coming = {row.command.command_id: row for row in rows}
        self._coming = coming
        try:
            await self.disk.flush(_STORE_WITHIN_S)
        except OSError as error:
            # An approved command is carried out all the same; until the disk takes it, a restart would not know of it.
            _LOG.warning("command %s was not stored: %s", list(coming)[-1], error)
            self.disk.touch()
        finally:
            self._coming = {}
            self._held = _remembered({**self._held, **coming}, now)

    def claims(self, now: datetime) -> tuple[Claim, ...]:
        """What the commands in force want; of several setpoints or positions for one device the newest."""
        claims: dict[tuple[str, str], Claim] = {}
        for row in sorted(self._held.values(), key=lambda one: (one.command.issued_at, one.command.command_id)):
            over = row.report.state in _FINAL and not row.released
            # By its state as well as by the clock: a clock that is set back revives no command.
            if over or row.command.expires_at <= now:
                continue
            command = row.command
            spec = self.specs.get(command.device_id)
            wish = Wish() if spec is None else meaning(command, spec)
            if isinstance(wish, str) or wish == Wish():
                continue
            if row.released:
                if wish.limit is not None:
                    claims[command.device_id, "limit"] = self._claim(command, Wish(limit=NO_LIMIT))
                continue
            kind = "limit" if wish.limit is not None else "power"
            claims[command.device_id, kind] = self._claim(command, wish)
        return tuple(claims.values())

    def progress(
        self, device: DeviceId, source: str, state: CommandState, text: str, now: datetime, action: DeviceAction | None = None
    ) -> CommandReport | None:
        """Take over what became of a write; returns the report when it has changed.

        A setpoint that limits or a ramp let through only in part is not told as if it were reached: ``action`` is what was
        written.
        """
        row = next((one for one in self._held.values() if _source(one.command) == source), None)
        if row is None or row.command.device_id != device or row.report.state in _FINAL:
            return None
        wanted = row.command.value_w if row.command.action is Action.SETPOINT_W else None
        if isinstance(action, HoldPower) and wanted is not None and abs(action.power_w - wanted) > 1.0:
            text = f"{_IN_PART} {action.power_w:.0f} W, not {wanted:.0f} W: limits or a ramp hold it back, see why; {text}"
        if row.report.state is state and row.report.text.startswith(_IN_PART) is text.startswith(_IN_PART):
            return None
        if row.report.state is CommandState.EFFECTIVE and state in (CommandState.COMMANDED, CommandState.CONFIRMED):
            # A refresh of what already works is no step back.
            return None
        return self._report(row, state, text, now)

    def expire(self, now: datetime) -> tuple[CommandReport, ...]:
        """Reports of commands whose time has just run out: ended when they had been in force, expired when never."""
        over = [row for row in self._held.values() if row.command.expires_at <= now and _open(row)]
        never = CommandState.EXPIRED, "its time ran out before it had an effect"
        ended = CommandState.ENDED, "its time is over"
        return tuple(self._report(row, *(ended if row.report.state in _IN_FORCE else never), now) for row in over)

    def reports(self) -> tuple[CommandReport, ...]:
        """Newest reports first."""
        ranked = sorted(self._held.values(), key=lambda row: row.report.at, reverse=True)
        return tuple(row.report for row in ranked[:MAX_REPORTS])

    def _refusal(self, command: Command, now: datetime) -> str | None:
        if command.edge_id != self._edge:
            return f"the command is for {command.edge_id}, this is {self._edge}"
        if command.expires_at <= now:
            return f"expired at {command.expires_at.isoformat()}"
        spec = self.specs.get(command.device_id)
        if spec is None:
            return f"{command.device_id} is not a device of {self._edge}"
        # A release only ends commands; everything else would wait for a tag that nobody need ever remove.
        tag = None if command.action is Action.RELEASE else self._tagged(command.device_id)
        if tag is not None:
            return f"do not operate: {command.device_id} is {tag}"
        wish = meaning(command, spec)
        return wish if isinstance(wish, str) else None

    def _full(self, command: Command) -> str | None:
        """Why no further command can be followed to its end; a release is always heard."""
        if command.action is Action.RELEASE or sum(_hold(row) == _BINDS for row in self._held.values()) < MAX_OPEN:
            return None
        return f"{MAX_OPEN} commands are in force already: release some first"

    def _claim(self, command: Command, wish: Wish) -> Claim:
        return Claim(
            command.device_id,
            Band.OPERATOR,
            _source(command),
            f"{command.issued_by}: {command.reason}",
            setpoint_w=wish.setpoint_w,
            closed=wish.closed,
            limit=wish.limit,
            expires_at=command.expires_at,
            failsafe=None if wish.limit is None else Failsafe(NO_LIMIT, 0.0),
        )

    def _report(self, row: HeldCommand, state: CommandState, text: str, now: datetime) -> CommandReport:
        report = CommandReport(command_id=row.command.command_id, state=state, at=now, text=text[:300])
        self._held = _remembered({**self._held, row.command.command_id: row.model_copy(update={"report": report})}, now)
        self.disk.touch()
        return report

    def _text(self) -> str:
        return _HELD.dump_json([*({**self._held, **self._coming}).values()]).decode()


def _remembered(held: Mapping[str, HeldCommand], now: datetime) -> dict[str, HeldCommand]:
    oldest = now - timedelta(seconds=REMEMBER_S)
    kept = [row for row in held.values() if row.command.expires_at > oldest]
    # What is in force was promised to somebody: however much is refused or over since, it stays. A release is over at once.
    kept = sorted(kept, key=lambda row: (_hold(row), row.report.at))[-MAX_COMMANDS:]
    return {row.command.command_id: row for row in kept}


def _hold(row: HeldCommand) -> int:
    """How dear a row is when there are too many: in force before released (its limit is being lifted) before over."""
    return _BINDS if _open(row) and row.command.action is not Action.RELEASE else int(row.released)


def _open(row: HeldCommand) -> bool:
    return row.report.state not in _FINAL


def _released(row: HeldCommand, by: Command, now: datetime) -> HeldCommand:
    text = f"released by {by.issued_by}: {by.reason}"[:300]
    report = CommandReport(command_id=row.command.command_id, state=CommandState.ENDED, at=now, text=text)
    return row.model_copy(update={"released": True, "report": report})


def _source(command: Command) -> str:
    return f"command {command.command_id}"
