"""Configurations: signed for one edge, named in its desired state, judged by the edge."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cloud.rooms import HARBOUR, NOW, TRUSTED, Rooms
from tieline_cloud.dispatch.configs import standing
from tieline_cloud.dispatch.standing import ArtifactState
from tieline_core.errors import BadInputError
from tieline_core.ids import EdgeId
from tieline_core.messages.desired import LadderStep, Refusal, Reported
from tieline_core.messages.site_config import MAX_CHARS, SiteConfiguration
from tieline_core.signing import EnvelopeType, open_envelope

TEXT = "edge_id: harbour  # with its comment\n"


def reported(config: str | None = None, refused: str | None = None) -> Reported:
    refusals: tuple[Refusal, ...] = ()
    if refused is not None:
        refusals = (Refusal(what="config", sha256=refused, check="fixed", reason="hub.public_keys: not hot", at=NOW),)
    return Reported(
        edge_id=HARBOUR,
        at=NOW,
        software="test",
        boot_id="b",
        monitor_only=False,
        ladder=LadderStep.DEVICE_DEFAULT,
        ladder_reason="test",
        config_sha256=config,
        refusals=refusals,
    )


def test_what_an_edge_pulls_is_the_text_as_it_was_written_signed_for_it_alone(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path)
    record = rooms.configs.publish(HARBOUR, TEXT, "local", None)
    envelope = rooms.artifacts.get(record.sha256)
    assert envelope is not None
    opened = open_envelope(envelope, kind=EnvelopeType.CONFIG, edge=HARBOUR, trusted=TRUSTED, now=rooms.clock.now())
    assert SiteConfiguration.from_bytes(opened.payload, "test").text == TEXT
    wanted = rooms.desired.of(HARBOUR)
    assert wanted is not None
    assert wanted.desired.config == record.sha256
    assert rooms.configs.newest(HARBOUR) == record


def test_what_an_edge_runs_is_known_when_it_says_so_of_the_newest_or_of_one_before(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path)
    assert rooms.configs.running(HARBOUR, reported("ab" * 32)) is None
    record = rooms.configs.publish(HARBOUR, TEXT, "local", None)
    told = (None, reported(), reported("ab" * 32), reported(record.sha256))
    assert [rooms.configs.running(HARBOUR, one) for one in told] == [None, None, None, TEXT]
    newest = rooms.configs.publish(HARBOUR, TEXT + "# refused there\n", "local", None)
    assert rooms.configs.running(HARBOUR, reported(record.sha256, refused=newest.sha256)) == TEXT


def test_what_is_no_configuration_of_this_edge_is_not_believed(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path)
    foreign = rooms.configs.publish(EdgeId("quay"), "edge_id: quay\n", "local", None)
    for sha256 in (foreign.sha256, rooms.artifacts.put(b"some model"), "../../etc/passwd", ""):
        assert rooms.configs.running(HARBOUR, reported("ab" * 32).model_copy(update={"config_sha256": sha256})) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("edge_id: mill\n", "published for harbour"),
        ("- a\n", "block of keys"),
        ("a: [", "configuration of harbour"),
        ("#" * (MAX_CHARS + 1), "at most"),
    ],
)
def test_what_is_no_site_file_of_this_edge_is_not_signed(tmp_path: Path, text: str, reason: str) -> None:
    rooms = Rooms(tmp_path)
    with pytest.raises(BadInputError, match=reason):
        rooms.configs.publish(HARBOUR, text, "local", None)
    assert rooms.desired.of(HARBOUR) is None


def test_what_runs_already_is_not_published_again_and_what_was_refused_is(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path)
    first = rooms.configs.publish(HARBOUR, TEXT, "local", None)
    assert rooms.configs.publish(HARBOUR, TEXT, "local", reported(first.sha256)) == first
    again = rooms.configs.publish(HARBOUR, TEXT, "local", reported(None, first.sha256))
    assert again.sha256 != first.sha256


def test_the_edges_own_word_says_how_far_it_has_come(tmp_path: Path) -> None:
    record = Rooms(tmp_path).configs.publish(HARBOUR, TEXT, "local", None)
    assert standing(record, None).state is ArtifactState.PUBLISHED
    assert standing(record, reported("0" * 64)).state is ArtifactState.PUBLISHED
    assert standing(record, reported(record.sha256)).state is ArtifactState.CONFIRMED
    refused = standing(record, reported(None, record.sha256))
    assert (refused.state, refused.text) == (ArtifactState.REFUSED, "hub.public_keys: not hot")
