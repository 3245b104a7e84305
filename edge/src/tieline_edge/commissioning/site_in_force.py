"""Which configuration runs: the file at the site, or the one the hub sent. The newer word wins.

A configuration of the hub is kept with its signature. It is in force at the next start as long as the file at the site is the
one it was taken over: whoever edits that file at the site speaks last, until the hub publishes again.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tieline_core.errors import BadInputError, EnvelopeRefusedError
from tieline_core.messages.desired import Sha256
from tieline_core.messages.site_config import SiteConfiguration
from tieline_core.shedding import VITAL
from tieline_core.signing import MAX_ENVELOPE_BYTES, EnvelopeType, open_envelope
from tieline_edge.commissioning.places import box, place
from tieline_edge.config_file import check_text, load_settings
from tieline_edge.control.state_file import StateFile
from tieline_edge.settings import DeviceSettings, EdgeSettings
from tieline_edge.state_paths import StatePaths
from tieline_edge.sync.trusted import trusted_keys

_LOG = logging.getLogger(__name__)
#: Keys that may change while the edge runs; everything else is refused by name.
HOT: Final = frozenset({"site.name", "site.rated_va", "devices", "shedding"})


class TakenSite(BaseModel):
    """A configuration of the hub as it was taken."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    sha256: Sha256
    base_sha256: str = Field(description="hash of the file at the site when it was taken; empty = there was none")
    envelope: str = Field(max_length=MAX_ENVELOPE_BYTES)
    once_vital: tuple[str, ...] = Field(default=(), description="ids and places the hub may never make sheddable")


@dataclass(slots=True)
class SiteInForce:
    """What runs now; the only mutable holder of it.

    Attributes:
        settings: In force.
        path: The file at the site; None when there is none (tests).
        config_sha256: Hash of the hub's envelope; None = the file at the site runs.
        once_vital: Ids and places of devices that were vital under any configuration since the file was last edited.
        overruled: A stored configuration that does not run, and why.
        forced_dry_run: A dry run was ordered at the command line, whatever the files say.
        local: What the file at the site says, to fall back on; None = the same as ``settings``.
    """

    settings: EdgeSettings
    path: Path | None = None
    config_sha256: str | None = None
    once_vital: frozenset[str] = frozenset()
    overruled: tuple[str, str] | None = None
    forced_dry_run: bool = False
    local: EdgeSettings | None = None

    def base_sha256(self) -> str:
        """Hash of the file at the site as it stands."""
        return "" if self.path is None else hashlib.sha256(self.path.read_bytes()).hexdigest()

    def dry(self) -> SiteInForce:
        """The same, deciding only."""
        dry = {"dry_run": True}
        local = None if self.local is None else self.local.model_copy(update=dry)
        return replace(self, settings=self.settings.model_copy(update=dry), forced_dry_run=True, local=local)

    def fallen_back(self, error: Exception) -> SiteInForce | None:
        """The file at the site instead of a configuration of the hub that cannot be started; None when it is none."""
        if self.config_sha256 is None or self.local is None:
            return None
        reason = f"it cannot be started, the file at the site runs: {error}"
        return replace(self, settings=self.local, config_sha256=None, overruled=(self.config_sha256, reason))


def is_vital(device: DeviceSettings, settings: EdgeSettings) -> bool:
    """Never shed: on the vital list or of class 0."""
    return device.id in settings.shedding.vital or device.priority_class == VITAL


def names_of(device: DeviceSettings) -> tuple[str, str, str]:
    """Everything a device is known by: its id, its place as it is written, and the box however that is written."""
    return device.id, place(device), box(device)


def vital_of(settings: EdgeSettings) -> frozenset[str]:
    """Ids and places of what is never shed: another name for the same box protects it no less."""
    vital = [device for device in settings.devices if is_vital(device, settings)]
    return frozenset(name for device in vital for name in names_of(device))


def fixed_differences(old: EdgeSettings, new: EdgeSettings) -> list[str]:
    """Keys that differ and cannot change while the edge runs, as paths."""
    paths = []
    for name in EdgeSettings.model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if name in HOT or before == after:
            continue
        if isinstance(before, BaseModel) and isinstance(after, BaseModel):
            keys = type(before).model_fields
            paths += [f"{name}.{key}" for key in keys if getattr(before, key) != getattr(after, key)]
        else:
            paths.append(name)
    return [path for path in paths if path not in HOT]


def site_in_force(path: Path) -> SiteInForce:
    """What an edge with this file at the site runs.

    Raises:
        BadInputError: The file at the site cannot be run.
    """
    local = load_settings(path)
    found = SiteInForce(local, path, once_vital=vital_of(local))
    file = StateFile(StatePaths.below(local.state_dir).site) if local.state_dir.exists() else None
    text = None if file is None else file.read()
    if text is None:
        return found
    try:
        taken = TakenSite.model_validate_json(text)
    except ValidationError as error:
        _LOG.error("the stored configuration of the hub is unreadable: %s", error)
        found.overruled = "0" * 64, "the stored configuration is unreadable; the file at the site runs, publish again"
        return found
    if taken.base_sha256 != found.base_sha256():
        reason = (
            "the file at the site was edited after this configuration was taken: the file runs; publish again to overrule it"
        )
        found.overruled = taken.sha256, reason
        return found
    try:
        found.settings = _opened(taken, local)
    except (BadInputError, EnvelopeRefusedError) as error:
        found.overruled = taken.sha256, f"it cannot be run any more, the file at the site runs: {error}"
        return found
    found.config_sha256, found.local = taken.sha256, local
    found.once_vital = frozenset({*found.once_vital, *taken.once_vital, *vital_of(found.settings)})
    return found


def _opened(taken: TakenSite, local: EdgeSettings) -> EdgeSettings:
    """The settings of a stored configuration, verified anew: its validity said until when it could be taken."""
    data = taken.envelope.encode()
    if hashlib.sha256(data).hexdigest() != taken.sha256:
        raise EnvelopeRefusedError("hash", "the stored bytes are not those that were taken")
    keys = trusted_keys(local.hub.public_keys)
    opened = open_envelope(data, kind=EnvelopeType.CONFIG, edge=local.edge_id, trusted=keys, now=None)
    configuration = SiteConfiguration.from_bytes(opened.payload, "stored configuration", MAX_ENVELOPE_BYTES)
    settings, mistakes = check_text(configuration.text.encode(), f"configuration {configuration.config_id}")
    if settings is None or mistakes:
        raise mistakes[0]
    if fixed := fixed_differences(local, settings):
        raise BadInputError("stored configuration", fixed[0], None, "differs from the file at the site")
    return settings
