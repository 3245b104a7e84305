"""Who takes what the hub sends: the downlink verifies, a sink judges the content and makes it effective."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from tieline_core.errors import PermanentError
from tieline_core.ids import PointId
from tieline_core.messages.command import Command, CommandReport
from tieline_core.messages.desired import LadderStep
from tieline_core.messages.plan import Plan
from tieline_core.messages.policy import Policy
from tieline_core.messages.reconciliation import AnyRequest
from tieline_core.messages.site_config import SiteConfiguration

#: Pulls a blob by its content hash, refusing more than so many bytes; raises TransientError or OfferRefusedError.
Fetch = Callable[[str, int], Awaitable[bytes]]


class OfferRefusedError(PermanentError):
    """Verified, but not acceptable; what was in force stays.

    Any other PermanentError with an attribute ``check`` is understood the same way.
    """

    def __init__(self, check: str, reason: str) -> None:
        self.check = check
        super().__init__(f"{check}: {reason}")


class PlanSink(Protocol):
    """Takes plans."""

    async def offer(self, plan: Plan, sha256: str) -> None:
        """Take a verified plan of this edge durably; raises a PermanentError to refuse it."""
        ...


class PolicySink(Protocol):
    """Takes policies."""

    async def offer(self, policy: Policy, sha256: str) -> None:
        """Take a verified policy of this edge durably; raises a PermanentError to refuse it."""
        ...


class ModelSink(Protocol):
    """Takes models."""

    async def offer(self, point: PointId, manifest: bytes, sha256: str, fetch: Fetch) -> None:
        """Take a model durably.

        Args:
            point: The point the desired state wants it for.
            manifest: Verified payload of the model envelope.
            sha256: Hash of the envelope, the model's name in desired and reported state.
            fetch: Pulls the files the manifest names by their hash.

        Raises:
            PermanentError: It is refused; the old model stays.
            TransientError: A file cannot be had now; it is offered again.
        """
        ...


class CommandSink(Protocol):
    """Takes commands; the same id again changes nothing."""

    async def offer(self, command: Command) -> CommandReport:
        """Judge a verified command of this edge and say what became of it."""
        ...


class ConfigSink(Protocol):
    """Takes site configurations."""

    async def offer(self, configuration: SiteConfiguration, sha256: str, envelope: bytes) -> None:
        """Bring a verified configuration of this edge into force durably.

        Args:
            configuration: What is to be run.
            sha256: Hash of the envelope.
            envelope: As it was signed, to be verified again at the next start.

        Raises:
            PermanentError: It is refused; the old one stays.
            TransientError: It cannot be kept now; it is offered again.
        """
        ...


class RequestSink(Protocol):
    """Takes requests to count, to send again or to explain."""

    async def offer(self, request: AnyRequest) -> None:
        """Take a verified request of this edge; it is answered over the durable connection."""
        ...


@dataclass(frozen=True, slots=True)
class Sinks:
    """All of them; None = this edge does not take such things and says so."""

    plan: PlanSink | None = None
    policy: PolicySink | None = None
    model: ModelSink | None = None
    command: CommandSink | None = None
    request: RequestSink | None = None
    config: ConfigSink | None = None


@dataclass(frozen=True, slots=True)
class RunningState:
    """What the agent knows of itself, for the reported state."""

    ladder: LadderStep = LadderStep.DEVICE_DEFAULT
    ladder_reason: str = "starting"
    plan_id: str | None = None
    monitor_only: bool = False
    dry_run: bool = False
    tagged: tuple[str, ...] = ()
    devices_offline: tuple[str, ...] = ()
    shed: tuple[str, ...] = ()
    commands: tuple[CommandReport, ...] = ()
    config_sha256: str | None = None
