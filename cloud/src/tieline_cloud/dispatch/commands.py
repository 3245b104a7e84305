"""Operator commands: signed, sent, and followed until the edge says what became of them."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from tieline_cloud.dispatch.desired import CLOCK_SLACK
from tieline_cloud.dispatch.documents import DocumentStore
from tieline_cloud.dispatch.keys import Sealer
from tieline_cloud.dispatch.publisher import Publisher
from tieline_core import topics
from tieline_core.clock import Clock
from tieline_core.errors import PermanentError, TransientError
from tieline_core.messages.base import Message
from tieline_core.messages.command import Command, CommandReport, CommandState
from tieline_core.messages.desired import Reported
from tieline_core.signing import EnvelopeType

KIND: Final = "command"
_FINAL: Final = frozenset({CommandState.REFUSED, CommandState.FAILED, CommandState.EXPIRED, CommandState.ENDED})


class CommandConflictError(PermanentError):
    """The same command id stands for another instruction already."""


class CommandRecord(Message):
    """A command and what is known of it; ``state`` is the newest report's."""

    command: Command
    state: CommandState
    text: str = ""
    reports: tuple[CommandReport, ...] = Field(default=(), description="as the edge told them, oldest first")


class CommandBook:
    """Signs and sends commands. Methods are called on the event loop."""

    def __init__(self, documents: DocumentStore, sealer: Sealer, publisher: Publisher, clock: Clock) -> None:
        self._documents = documents
        self._sealer = sealer
        self._publisher = publisher
        self._clock = clock

    async def send(self, command: Command, note: str = "") -> CommandRecord:
        """Keep, sign and publish a command; sending the same one again changes nothing.

        Args:
            command: The instruction.
            note: What is to be known of it until the edge has its say.

        Raises:
            CommandConflictError: When its id was used for another instruction.
            TransientError: When the broker does not take it; the record says failed, and nothing was sent.
        """
        before = self.get(command.command_id)
        if before is not None:
            same = {"issued_at", "expires_at"}
            if before.command.model_dump(exclude=same) != command.model_dump(exclude=same):
                raise CommandConflictError(f"command id {command.command_id!r} was used for another instruction")
            return before
        record = CommandRecord(command=command, state=CommandState.ACCEPTED, text=note)
        self._keep(record)
        now = self._clock.now()
        envelope, _ = self._sealer.seal(
            EnvelopeType.COMMAND,
            command.edge_id,
            command.to_bytes(),
            now=now,
            valid=(now - CLOCK_SLACK, command.expires_at),
        )
        try:
            await self._publisher.publish(topics.command(command.edge_id), envelope, retain=False)
        except TransientError as error:
            self._keep(record.model_copy(update={"state": CommandState.FAILED, "text": str(error)}))
            raise
        return record

    def hear(self, reported: Reported) -> list[CommandRecord]:
        """Take in what an edge reports; returns the commands that changed."""
        changed = []
        for report in reported.commands:
            record = self.get(report.command_id)
            if record is None or record.command.edge_id != reported.edge_id or report in record.reports:
                continue
            record = record.model_copy(
                update={"state": report.state, "text": report.text, "reports": (*record.reports, report)}
            )
            self._keep(record)
            changed.append(record)
        return changed

    def get(self, command_id: str) -> CommandRecord | None:
        """A command by its id."""
        body = self._documents.get(KIND, command_id)
        return None if body is None else self._aged(CommandRecord.from_bytes(body, "hub memory"))

    def newest(self, limit: int) -> list[CommandRecord]:
        """Commands, newest first."""
        return [self._aged(CommandRecord.from_bytes(body, "hub memory")) for body in self._documents.newest(KIND, limit)]

    def _keep(self, record: CommandRecord) -> None:
        self._documents.put(KIND, record.command.command_id, record.to_bytes(), record.command.issued_at)

    def _aged(self, record: CommandRecord) -> CommandRecord:
        if record.state in _FINAL or self._clock.now() < record.command.expires_at:
            return record
        if record.state is CommandState.ACCEPTED:
            text = "the edge never answered before the command ended"
            return record.model_copy(update={"state": CommandState.EXPIRED, "text": text})
        if record.state in (CommandState.CONFIRMED, CommandState.EFFECTIVE):
            # The edge says so itself as soon as it can; what has an end is not in force beyond it.
            return record.model_copy(update={"state": CommandState.ENDED, "text": "its time is over"})
        return record
