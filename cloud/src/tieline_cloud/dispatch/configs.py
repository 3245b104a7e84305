"""Site configurations as they were published, and how far each has come: the edge judges, the hub keeps and shows."""

from __future__ import annotations

import logging
import uuid
from datetime import timedelta
from typing import Final

from pydantic import AwareDatetime

from tieline_cloud.dispatch.artifacts import ArtifactStore
from tieline_cloud.dispatch.desired import CLOCK_SLACK, DesiredStates
from tieline_cloud.dispatch.documents import DocumentStore
from tieline_cloud.dispatch.keys import Sealer
from tieline_cloud.dispatch.standing import ArtifactStanding, judged
from tieline_core.clock import Clock
from tieline_core.errors import BadInputError, EnvelopeRefusedError
from tieline_core.ids import EdgeId
from tieline_core.messages.base import Message
from tieline_core.messages.desired import Reported
from tieline_core.messages.site_config import MAX_CHARS, SiteConfiguration
from tieline_core.signing import EnvelopeType, key_id, open_envelope
from tieline_core.strict_yaml import parse

_LOG = logging.getLogger(__name__)
KIND: Final = "config"
_VALID_DAYS: Final = 400


class ConfigRecord(Message):
    """The newest configuration of one edge."""

    configuration: SiteConfiguration
    sha256: str
    published_at: AwareDatetime


def standing(record: ConfigRecord, reported: Reported | None) -> ArtifactStanding:
    """What an edge's own report says of a configuration."""
    runs = None if reported is None else reported.config_sha256
    return judged(reported, KIND, record.sha256, runs, "the edge runs it")


class ConfigBook:
    """Signs, keeps and publishes configurations. Methods are called on the event loop, :meth:`running` in a thread."""

    def __init__(
        self, documents: DocumentStore, artifacts: ArtifactStore, sealer: Sealer, desired: DesiredStates, clock: Clock
    ) -> None:
        self._documents = documents
        self._artifacts = artifacts
        self._sealer = sealer
        self._desired = desired
        self._clock = clock

    def publish(self, edge: EdgeId, text: str, issued_by: str, reported: Reported | None) -> ConfigRecord:
        """Sign a configuration and make it the desired one; what the edge runs already is not published again.

        Raises:
            BadInputError: It is no YAML, too long, or for another edge.
        """
        _check(edge, text)
        before = self.newest(edge)
        runs = None if reported is None else reported.config_sha256
        if before is not None and before.configuration.text == text and before.sha256 == runs:
            return before
        now = self._clock.now()
        configuration = SiteConfiguration(
            config_id=uuid.uuid4().hex, edge_id=edge, issued_by=issued_by, issued_at=now, text=text
        )
        valid = (now - CLOCK_SLACK, now + timedelta(days=_VALID_DAYS))
        envelope, _ = self._sealer.seal(EnvelopeType.CONFIG, edge, configuration.to_bytes(), now=now, valid=valid)
        record = ConfigRecord(configuration=configuration, sha256=self._artifacts.put(envelope), published_at=now)
        self._documents.put(KIND, edge, record.to_bytes(), now)
        self._desired.set_config(edge, record.sha256)
        return record

    def running(self, edge: EdgeId, reported: Reported | None) -> str | None:
        """The text an edge says it runs, published last or before that; None = the file at its site, or not known."""
        if reported is None or reported.config_sha256 is None:
            return None
        record = self.newest(edge)
        if record is not None and record.sha256 == reported.config_sha256:
            return record.configuration.text
        # What was published last may be refused there, or not have come yet: an edge goes on with what it has.
        envelope = self._artifacts.get(reported.config_sha256)
        if envelope is None:
            return None
        try:
            own = {key_id(self._sealer.public): self._sealer.public}
            payload = open_envelope(envelope, kind=EnvelopeType.CONFIG, edge=edge, trusted=own, now=None).payload
            return SiteConfiguration.from_bytes(payload, "hub memory").text
        except (EnvelopeRefusedError, BadInputError) as error:
            _LOG.warning("what %s says it runs is no configuration of this hub: %s", edge, error)
            return None

    def newest(self, edge: EdgeId) -> ConfigRecord | None:
        """What was published for an edge last."""
        body = self._documents.get(KIND, edge)
        return None if body is None else ConfigRecord.from_bytes(body, "hub memory")


def _check(edge: EdgeId, text: str) -> None:
    """What the hub can tell without knowing the edge's catalogue; everything else is the edge's to judge."""
    source = f"configuration of {edge}"
    if len(text) > MAX_CHARS:
        raise BadInputError(source, "", f"{len(text)} characters", f"at most {MAX_CHARS} are taken")
    tree = parse(text.encode(), source)
    if not isinstance(tree, dict):
        raise BadInputError(source, "", tree, "a block of keys is expected, such as 'edge_id: harbour'")
    if tree.get("edge_id") != edge:
        raise BadInputError(source, "edge_id", tree.get("edge_id"), f"it is published for {edge}")
