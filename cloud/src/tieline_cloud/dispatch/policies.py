"""Shedding policies as they were published: signed for one edge, judged by it, kept and shown here."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Final

from pydantic import AwareDatetime, ValidationError

from tieline_cloud.dispatch.artifacts import ArtifactStore
from tieline_cloud.dispatch.desired import CLOCK_SLACK, DesiredStates
from tieline_cloud.dispatch.documents import DocumentStore
from tieline_cloud.dispatch.keys import Sealer
from tieline_cloud.dispatch.standing import ArtifactStanding, judged
from tieline_core.clock import Clock
from tieline_core.errors import BadInputError
from tieline_core.field_words import reason_of, value_of
from tieline_core.ids import EdgeId
from tieline_core.messages.base import Message
from tieline_core.messages.desired import Reported
from tieline_core.messages.policy import Policy
from tieline_core.signing import EnvelopeType
from tieline_core.strict_yaml import parse

KIND: Final = "policy"
_VALID_DAYS: Final = 400
#: Keys the hub writes itself.
_OURS: Final = ("version", "policy_id", "edge_id", "released_at")


class PolicyRecord(Message):
    """The newest policy of one edge."""

    policy: Policy
    sha256: str
    published_at: AwareDatetime


def standing(record: PolicyRecord, reported: Reported | None) -> ArtifactStanding:
    """What an edge's own report says of a policy."""
    follows = None if reported is None else reported.policy_sha256
    return judged(reported, KIND, record.sha256, follows, "the edge follows it")


class PolicyBook:
    """Signs, keeps and publishes policies. Methods are called on the event loop."""

    def __init__(
        self, documents: DocumentStore, artifacts: ArtifactStore, sealer: Sealer, desired: DesiredStates, clock: Clock
    ) -> None:
        self._documents = documents
        self._artifacts = artifacts
        self._sealer = sealer
        self._desired = desired
        self._clock = clock

    def publish(self, edge: EdgeId, text: str | None, *, release: bool = False) -> PolicyRecord:
        """Sign a policy and make it the desired one.

        Args:
            edge: Whose policy it is.
            text: YAML of its sections; None takes the sections that were published last.
            release: An operator releases the stages that are latched up to now; an earlier release stays in force.

        Raises:
            BadInputError: It is no YAML, a section or a value is wrong, or there is nothing to publish.
        """
        before = self.newest(edge)
        now = self._clock.now()
        if text is None and not release:
            raise BadInputError(f"policy of {edge}", "", None, "neither sections nor a release: there is nothing to publish")
        sections = _sections(edge, text) if text is not None else {}
        if text is None and before is not None:
            sections = before.policy.model_dump(mode="json", exclude=set(_OURS))
        released_at = now if release else before.policy.released_at if before is not None else None
        policy = _policy(edge, {**sections, "released_at": released_at})
        envelope, _ = self._sealer.seal(
            EnvelopeType.POLICY,
            edge,
            policy.to_bytes(),
            now=now,
            valid=(now - CLOCK_SLACK, now + timedelta(days=_VALID_DAYS)),
        )
        record = PolicyRecord(policy=policy, sha256=self._artifacts.put(envelope), published_at=now)
        self._documents.put(KIND, edge, record.to_bytes(), now)
        self._desired.set_policy(edge, record.sha256)
        return record

    def newest(self, edge: EdgeId) -> PolicyRecord | None:
        """What was published for an edge last."""
        body = self._documents.get(KIND, edge)
        return None if body is None else PolicyRecord.from_bytes(body, "hub memory")


def _sections(edge: EdgeId, text: str) -> dict[str, object]:
    source = f"policy of {edge}"
    tree = parse(text.encode(), source)
    if not isinstance(tree, dict):
        raise BadInputError(source, "", tree, "a block of keys is expected, such as 'frequency: {nominal_hz: 50}'")
    if tree.pop("edge_id", edge) != edge:
        raise BadInputError(source, "edge_id", "another", f"it is published for {edge}")
    for key in _OURS:
        if key in tree:
            raise BadInputError(source, key, tree[key], "the hub writes this key itself")
    return dict(tree)


def _policy(edge: EdgeId, sections: dict[str, object]) -> Policy:
    try:
        return Policy.model_validate({**sections, "policy_id": uuid.uuid4().hex, "edge_id": edge})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise BadInputError(f"policy of {edge}", key, value_of(first), reason_of(first, Policy)) from error
