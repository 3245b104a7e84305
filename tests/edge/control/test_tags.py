"""Tags: hung, kept, removed, watched; what cannot be read operates nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tieline_core.errors import BadInputError
from tieline_core.ids import DeviceId
from tieline_core.messages.telemetry import Severity
from tieline_edge.control.claims import Band
from tieline_edge.control.facts import AgeLimits, DeviceFacts, SiteFacts
from tieline_edge.control.state_file import StateFile
from tieline_edge.control.tags import Hold, TagBook, TagsUnreadableError, new_tag, read_tags
from tieline_edge.shedding.rule import RuleView
from tieline_edge.snapshot import Snapshot

NOW = datetime(2016, 12, 7, 16, tzinfo=UTC)
LOAD, BAT = DeviceId("load01"), DeviceId("bat1")


class Ear:
    """Hears what the operator is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[Severity, str, str]] = []

    def __call__(self, severity: Severity, code: str, text: str, _device: DeviceId) -> None:
        self.heard.append((severity, code, text))

    @property
    def codes(self) -> list[str]:
        return [code for _, code, _ in self.heard]


def book(folder: Path, ear: Ear | None = None) -> TagBook:
    made = TagBook(lambda: (LOAD, BAT), StateFile(folder / "tags.json"), ear or Ear())
    made.restore()
    return made


def view(closed: bool | None = None) -> RuleView:
    return RuleView(NOW, Snapshot(NOW, {}), SiteFacts({LOAD: DeviceFacts(closed=closed)}), AgeLimits(10.0))


def test_a_tag_is_one_interlock_that_takes_all_hands_off_and_survives_a_restart(tmp_path: Path) -> None:
    ear = Ear()
    tags = book(tmp_path, ear)
    assert list(tags.claims(view())) == []
    tags.hang(new_tag("load01", "the crew", "contactor is replaced", Hold.AS_IS, NOW))
    for one in (tags, book(tmp_path)):
        (claim,) = one.claims(view())
        assert (claim.device, claim.band, claim.hands_off, claim.expires_at) == (LOAD, Band.INTERLOCK, True, None)
        assert "the crew" in claim.reason
        assert "contactor is replaced" in claim.reason
        assert one.tagged == {LOAD}
        assert one.refusal(BAT) is None
        assert "2016-12-07 16:00" in str(one.refusal(LOAD))
    assert tags.remove(LOAD, "the crew").device == LOAD
    assert book(tmp_path).tagged == frozenset()
    assert ear.codes == ["tag.hung", "tag.removed"]


def test_a_tag_needs_a_device_that_exists_a_name_and_a_reason(tmp_path: Path) -> None:
    tags = book(tmp_path)
    with pytest.raises(BadInputError, match="bat1, load01"):
        tags.hang(new_tag("load77", "the crew", "work", Hold.AS_IS, NOW))
    for words in (("load01", "", "work"), ("load01", "the crew", " "), ("LOAD 1", "the crew", "work")):
        with pytest.raises(BadInputError):
            new_tag(*words, Hold.AS_IS, NOW)
    with pytest.raises(BadInputError, match="tagged: nothing"):
        tags.remove(LOAD, "the crew")


def test_a_device_that_leaves_the_position_it_was_locked_in_is_told_once(tmp_path: Path) -> None:
    ear = Ear()
    tags = book(tmp_path, ear)
    tags.hang(new_tag("load01", "the crew", "work", Hold.OPEN, NOW))
    for closed in (False, None, True, True, False, True):
        list(tags.claims(view(closed)))
    assert ear.codes == ["tag.hung", "tag.violated", "tag.violated"]
    assert ear.heard[1][0] is Severity.ALARM
    assert "is closed" in ear.heard[1][2]


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b'[{"device": "load01"}]'])
def test_with_unreadable_tags_every_device_counts_as_tagged_until_somebody_has_looked(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tags.json").write_bytes(content)
    tags = book(tmp_path)
    assert tags.damage is not None
    assert tags.tagged == {LOAD, BAT}
    assert [claim.device for claim in tags.claims(view())] == [BAT, LOAD]
    assert "unreadable" in str(tags.refusal(BAT))
    for act in (lambda: tags.hang(new_tag("bat1", "the crew", "work", Hold.AS_IS, NOW)), lambda: tags.remove(BAT, "the crew")):
        with pytest.raises(TagsUnreadableError):
            act()
    assert (tmp_path / "tags.json").read_bytes() == content
    (tmp_path / "tags.json").unlink()
    assert book(tmp_path).tagged == frozenset()


def test_when_the_disk_refuses_a_new_tag_holds_and_an_old_one_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tags = book(tmp_path)
    tags.hang(new_tag("load01", "the crew", "work", Hold.AS_IS, NOW))

    def refuse(_self: StateFile, _text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(StateFile, "write", refuse)
    with pytest.raises(OSError, match="No space"):
        tags.hang(new_tag("bat1", "the crew", "work", Hold.AS_IS, NOW))
    with pytest.raises(OSError, match="No space"):
        tags.remove(LOAD, "the crew")
    assert tags.tagged == {LOAD, BAT}
    assert [tag.device for tag in read_tags(StateFile(tmp_path / "tags.json"))] == [LOAD]
