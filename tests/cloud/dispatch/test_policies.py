"""Policies: sections in YAML, signed for one edge, named in its desired state, judged by the edge."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cloud.rooms import HARBOUR, NOW, TRUSTED, Rooms, reported
from tieline_cloud.dispatch.policies import standing
from tieline_cloud.dispatch.standing import ArtifactState
from tieline_core.errors import BadInputError
from tieline_core.messages.policy import Policy
from tieline_core.signing import EnvelopeType, open_envelope

TEXT = "exchange: {import_w: 400000}\nclasses: {load03: 2}\nshares: {hv1: 0.4}\n"


def opened(rooms: Rooms, sha256: str) -> Policy:
    envelope = rooms.artifacts.get(sha256)
    assert envelope is not None
    found = open_envelope(envelope, kind=EnvelopeType.POLICY, edge=HARBOUR, trusted=TRUSTED, now=rooms.clock.now())
    return Policy.from_bytes(found.payload, "test")


def test_what_an_edge_pulls_is_signed_for_it_alone_and_named_in_its_desired_state(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path)
    record = rooms.policies.publish(HARBOUR, TEXT)
    policy = opened(rooms, record.sha256)
    assert policy == record.policy
    assert policy.exchange is not None
    assert policy.exchange.import_w == 400e3
    assert (dict(policy.classes), dict(policy.shares), policy.released_at) == ({"load03": 2}, {"hv1": 0.4}, None)
    wanted = rooms.desired.of(HARBOUR)
    assert wanted is not None
    assert wanted.desired.policy == record.sha256
    assert rooms.policies.newest(HARBOUR) == record


async def test_a_release_keeps_the_sections_and_a_later_policy_keeps_the_release(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path)
    first = rooms.policies.publish(HARBOUR, TEXT)
    released = rooms.policies.publish(HARBOUR, None, release=True)
    assert released.policy.released_at == NOW
    assert released.policy.exchange == first.policy.exchange
    await rooms.clock.advance(60)
    later = rooms.policies.publish(HARBOUR, "storage: {relieve: false}\n")
    assert later.policy.released_at == NOW
    assert later.policy.exchange is None
    assert Rooms(tmp_path / "other").policies.publish(HARBOUR, None, release=True).policy.released_at == NOW


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "nothing to publish"),
        ("- a\n", "block of keys"),
        ("a: [", "policy of harbour"),
        ("edge_id: mill\n", "published for harbour"),
        ("released_at: 2016-12-07T00:00:00Z\n", "the hub writes this key itself"),
        ("frequency: {stages: 3}\n", r"frequency\.stages"),
        ("voltage: {hold_s: 10}\n", "longer than tap_changer_s"),
        ("shares: {hv1: 1.5}\n", r"shares\.hv1"),
        ("colour: red\n", "colour"),
        ("thermal_overlod: {}\n", "unknown key; did you mean 'thermal_overload'"),
        ("thermal_overload: {restore_hold: 60}\n", "did you mean 'restore_hold_s'"),
    ],
)
def test_what_is_no_policy_is_not_signed_and_key_and_reason_are_named(tmp_path: Path, text: str | None, reason: str) -> None:
    rooms = Rooms(tmp_path)
    with pytest.raises(BadInputError, match=reason):
        rooms.policies.publish(HARBOUR, text)
    assert rooms.desired.of(HARBOUR) is None


def test_the_edges_own_word_says_how_far_it_has_come(tmp_path: Path) -> None:
    record = Rooms(tmp_path).policies.publish(HARBOUR, TEXT)
    assert standing(record, None).state is ArtifactState.PUBLISHED
    assert standing(record, reported()).state is ArtifactState.PUBLISHED
    assert standing(record, reported(policy_sha256=record.sha256)).state is ArtifactState.CONFIRMED
    refusal = {"what": "policy", "sha256": record.sha256, "check": "content", "reason": "load10 is vital", "at": NOW}
    refused = standing(record, reported(refusals=[refusal]))
    assert (refused.state, refused.text) == (ArtifactState.REFUSED, "load10 is vital")
