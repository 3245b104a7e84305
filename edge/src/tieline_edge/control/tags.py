"""Maintenance tags ("do not operate"): hung by a person, kept across restarts, lifted by nothing but their removal.

A tagged device gets no write at all: no plan, no command, no shedding, no refresh, no release at the end. Its own timers go
on. ``hold`` says in which position the device was made safe; Tieline does not bring it about, it watches it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tieline_core.errors import BadInputError
from tieline_core.field_words import reason_of, value_of
from tieline_core.ids import DeviceId
from tieline_core.messages.telemetry import Severity
from tieline_edge.control.claims import Band, Claim
from tieline_edge.control.state_file import StateFile
from tieline_edge.shedding.rule import RuleView

SOURCE: Final = "tag"
#: Tells the operator of something: severity, code, text, device.
Tell = Callable[[Severity, str, str, DeviceId], None]


class Hold(StrEnum):
    """How the device was left when the tag was hung."""

    AS_IS = "as-is"
    OPEN = "open"
    CLOSED = "closed"


class Tag(BaseModel):
    """One tag."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    device: DeviceId
    by: str = Field(min_length=2, max_length=64)
    reason: str = Field(min_length=3, max_length=200)
    at: AwareDatetime
    hold: Hold = Hold.AS_IS

    def __str__(self) -> str:
        held = "" if self.hold is Hold.AS_IS else f", held {self.hold.value}"
        return f"tagged by {self.by} since {self.at:%Y-%m-%d %H:%M} UTC{held}: {self.reason}"


_TAGS: Final = TypeAdapter(tuple[Tag, ...])


class TagsUnreadableError(BadInputError):
    """Nobody knows which devices are tagged: none of them may be operated until a person has looked."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(
            file,
            "",
            None,
            f"unreadable ({reason}). Nobody knows what is tagged, so no device is operated: look at the site, "
            "then mend the file or remove it, and start again",
        )


def read_tags(file: StateFile) -> tuple[Tag, ...]:
    """The tags in a file, by device.

    Raises:
        TagsUnreadableError: It is there and cannot be understood.
    """
    try:
        text = file.read()
        if text is None and file.path.exists():
            raise TagsUnreadableError(str(file.path), "too large or no text")
        return () if text is None else _TAGS.validate_json(text)
    except OSError as error:
        raise TagsUnreadableError(str(file.path), error.strerror or str(error)) from error
    except ValidationError as error:
        raise TagsUnreadableError(str(file.path), str(error).splitlines()[0]) from error


def write_tags(file: StateFile, tags: Iterable[Tag]) -> None:
    """Keep tags; on return they have reached the disk.

    Raises:
        OSError: When the disk refused; the old ones are still there.
    """
    file.write(_TAGS.dump_json(tuple(sorted(tags, key=lambda tag: tag.device)), indent=2).decode())


class TagBook:
    """The tags of a running edge: a speaker of the interlock band.

    Args:
        devices: Says which devices there are now.
        file: Where tags survive a restart.
        tell: Tells the operator.
    """

    def __init__(self, devices: Callable[[], Iterable[DeviceId]], file: StateFile, tell: Tell) -> None:
        self._devices = devices
        self._file = file
        self._tell = tell
        self._tags: dict[DeviceId, Tag] = {}
        self._wrong: set[DeviceId] = set()
        #: Why the stored tags could not be read; then every device counts as tagged.
        self.damage: str | None = None

    def restore(self) -> None:
        """Take up the tags of earlier runs."""
        try:
            self._tags = {tag.device: tag for tag in read_tags(self._file)}
        except TagsUnreadableError as error:
            self.damage = str(error)

    @property
    def all(self) -> tuple[Tag, ...]:
        """The tags, by device."""
        return tuple(self._tags[device] for device in sorted(self._tags))

    @property
    def tagged(self) -> frozenset[DeviceId]:
        """Devices nothing may be written to."""
        return frozenset(self._tags) if self.damage is None else frozenset(self._devices())

    def refusal(self, device: DeviceId) -> str | None:
        """Why nothing may be written to a device now; None when it may."""
        if self.damage is not None:
            return self.damage
        tag = self._tags.get(device)
        return None if tag is None else str(tag)

    def hang(self, tag: Tag) -> None:
        """Hang a tag, or replace the one on the device; it holds from now on, even when the disk refuses.

        Raises:
            BadInputError: There is no such device, or the stored tags are unreadable.
            OSError: The disk refused: it holds until the next start only.
        """
        self._readable()
        if tag.device not in (known := sorted(self._devices())):
            raise BadInputError("tag", "device", tag.device, f"no such device; there are: {', '.join(known)}")
        self._tags[tag.device] = tag
        self._wrong.discard(tag.device)
        self._tell(Severity.ACTION, "tag.hung", f"{tag.device} is {tag}", tag.device)
        write_tags(self._file, self._tags.values())

    def remove(self, device: DeviceId, by: str) -> Tag:
        """Take a tag off; it goes only when that is on the disk.

        Raises:
            BadInputError: The device has no tag, or the stored tags are unreadable.
            OSError: The disk refused: the tag still hangs.
        """
        self._readable()
        tag = self._tags.get(device)
        if tag is None:
            raise BadInputError("untag", "device", device, f"has no tag; tagged: {', '.join(sorted(self._tags)) or 'nothing'}")
        left = {name: one for name, one in self._tags.items() if name != device}
        write_tags(self._file, left.values())
        self._tags = left
        self._wrong.discard(device)
        self._tell(Severity.ACTION, "tag.removed", f"{by} removed the tag of {device} ({tag})", device)
        return tag

    def claims(self, view: RuleView) -> Iterable[Claim]:
        """One claim a tagged device: hands off. A device that leaves its declared position is told."""
        for device in sorted(self.tagged):
            self._watch(device, view)
            yield Claim(device, Band.INTERLOCK, SOURCE, self.refusal(device) or "", hands_off=True)

    def _watch(self, device: DeviceId, view: RuleView) -> None:
        tag, closed = self._tags.get(device), view.facts.of(device).closed
        if tag is None or tag.hold is Hold.AS_IS or closed is None:
            return
        if closed is (tag.hold is Hold.CLOSED):
            self._wrong.discard(device)
        elif device not in self._wrong:
            self._wrong.add(device)
            seen = "closed" if closed else "open"
            text = f"{device} is {seen}, but it is {tag}: somebody or its own timer has moved it"
            self._tell(Severity.ALARM, "tag.violated", text, device)

    def _readable(self) -> None:
        if self.damage is not None:
            raise TagsUnreadableError(str(self._file.path), "see the file")

    def document(self) -> Mapping[str, object]:
        """The tags as plain JSON values, for pages."""
        return {"damage": self.damage, "tags": [tag.model_dump(mode="json") for tag in self.all]}


def new_tag(device: str, by: str, reason: str, hold: Hold, at: datetime) -> Tag:
    """A tag as a person words it.

    Raises:
        BadInputError: A word is missing or too long.
    """
    try:
        return Tag.model_validate({"device": device, "by": by, "reason": reason, "at": at, "hold": hold})
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInputError("tag", str(first["loc"][0]), value_of(first), reason_of(first, Tag)) from error
