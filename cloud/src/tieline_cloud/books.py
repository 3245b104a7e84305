"""What the hub decided and heard of its edges, kept on the disk: one thing to open, and one to tell."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tieline_cloud.dispatch.artifacts import ArtifactStore
from tieline_cloud.dispatch.commands import CommandBook
from tieline_cloud.dispatch.configs import ConfigBook
from tieline_cloud.dispatch.desired import DesiredStates
from tieline_cloud.dispatch.documents import DocumentStore
from tieline_cloud.dispatch.events import EventFeed
from tieline_cloud.dispatch.keys import Sealer, read_key
from tieline_cloud.dispatch.models import ModelRegistry
from tieline_cloud.dispatch.plans import PlanBook
from tieline_cloud.dispatch.policies import PolicyBook
from tieline_cloud.dispatch.publisher import MqttPublisher
from tieline_cloud.fleet.owners import Owners
from tieline_cloud.settings import HubSettings
from tieline_core.clock import Clock
from tieline_core.errors import TransientError
from tieline_core.messages.desired import Reported
from tieline_core.messages.telemetry import Event, Hello, Severity

_LOG = logging.getLogger(__name__)
ARTIFACTS: Final = "artifacts"


@dataclass(frozen=True, slots=True)
class Books:
    """What the hub decided, kept on the disk."""

    documents: DocumentStore
    sealer: Sealer
    artifacts: ArtifactStore
    desired: DesiredStates
    plans: PlanBook
    models: ModelRegistry
    commands: CommandBook
    configs: ConfigBook
    policies: PolicyBook
    events: EventFeed
    owners: Owners

    @classmethod
    def open(cls, settings: HubSettings, documents: DocumentStore, publisher: MqttPublisher, clock: Clock) -> Books:
        artifacts = ArtifactStore(settings.data_dir / ARTIFACTS)
        sealer = Sealer(read_key(settings.signing_key), documents)
        desired = DesiredStates(documents, sealer, publisher, clock)
        return cls(
            documents=documents,
            sealer=sealer,
            artifacts=artifacts,
            desired=desired,
            plans=PlanBook(documents, artifacts, sealer, desired, clock),
            models=ModelRegistry(documents, artifacts, sealer, desired, clock),
            commands=CommandBook(documents, sealer, publisher, clock),
            configs=ConfigBook(documents, artifacts, sealer, desired, clock),
            policies=PolicyBook(documents, artifacts, sealer, desired, clock),
            events=EventFeed(documents, clock),
            owners=Owners(),
        )

    def heard(self, reported: Reported) -> None:
        """An edge reported; what the disk refuses now comes with its next report."""
        for hear in (self.desired.hear, self.commands.hear):
            try:
                hear(reported)
            except TransientError as error:
                _LOG.warning("The report of %s is not taken yet: %s", reported.edge_id, error)

    def greeted(self, hello: Hello, _epoch: int) -> None:
        """An edge said hello."""
        self.desired.greet(hello.edge_id, hello.nonce)
        words = self.owners.greeted(hello)
        if words is not None:
            try:
                self.events.raise_event(hello.edge_id, Severity.ALARM, "lane.two_owners", words)
            except TransientError as error:
                _LOG.error("%s: %s (%s)", hello.edge_id, words, error)

    def happened(self, events: Sequence[Event]) -> None:
        """Events were committed in the ledger."""
        for event in events:
            self.events.pass_on(event)
