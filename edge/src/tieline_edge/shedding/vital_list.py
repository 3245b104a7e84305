"""The signed list of vital devices: which one is in force, and what it does to a site. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tieline_core.errors import BadInputError, EnvelopeRefusedError
from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.vital import MAX_LIST_BYTES, VitalList
from tieline_core.shedding import VITAL
from tieline_core.signing import EnvelopeType, open_envelope
from tieline_edge.drivers.capabilities import Capability
from tieline_edge.shedding.rule import RuleSite


@dataclass(frozen=True, slots=True)
class SignedList:
    """A list whose signature has been checked.

    Attributes:
        devices: Whom it protects.
        counter: Of its envelope; a newer list has a higher one.
        envelope: The bytes as signed.
        source: File it came from, for messages.
    """

    devices: tuple[DeviceId, ...]
    counter: int
    envelope: bytes
    source: str


def read_list(data: bytes, edge: EdgeId, trusted: Mapping[str, bytes], source: str) -> SignedList:
    """Check a list.

    Args:
        data: The envelope.
        edge: Whose list it must be.
        trusted: Public keys by key id.
        source: File it was read from.

    Raises:
        BadInputError: It is not signed by a trusted key for this edge as a list, or it is none.
    """
    if len(data) > MAX_LIST_BYTES:
        raise BadInputError(source, "", f"{len(data)} bytes", f"a signed list has at most {MAX_LIST_BYTES}")
    try:
        # It protects people: a list that has grown old protects them as well, so its end is not asked.
        opened = open_envelope(data, kind=EnvelopeType.VITAL, edge=edge, trusted=trusted, now=None)
    except EnvelopeRefusedError as error:
        raise BadInputError(source, error.check, source, f"no signed list of vital devices: {error}") from error
    listed = VitalList.from_bytes(opened.payload, source, MAX_LIST_BYTES)
    if listed.edge_id != edge:
        raise BadInputError(source, "edge_id", listed.edge_id, f"this is {edge}")
    return SignedList(listed.devices, opened.header.counter, data, source)


def in_force(configured: SignedList | None, kept: SignedList | None) -> SignedList | None:
    """The newer of the list in the file and the one that was in force before; without a file the latter stays.

    Raises:
        BadInputError: The file is older than what was in force: an old list put back may lack somebody.
    """
    if configured is None or kept is None:
        return configured or kept
    if configured.counter < kept.counter:
        missing = ", ".join(sorted(set(kept.devices) - set(configured.devices))) or "nobody"
        reason = f"older than the list in force (counter {kept.counter}); it would leave out {missing}: sign a new one"
        raise BadInputError(configured.source, "counter", configured.counter, reason)
    return configured


def with_list(site: RuleSite, listed: SignedList | None) -> RuleSite:
    """The site with the listed devices vital; a class above 0 that the configuration gives one of them is left to be found.

    Raises:
        BadInputError: It names a device that can be shed and is not there: a typing error would leave somebody unprotected.
    """
    if listed is None:
        return site
    unknown = sorted(set(listed.devices) - set(site.specs))
    if unknown:
        raise BadInputError(listed.source, "devices", ", ".join(unknown), f"{site.edge} has no such devices")
    specs = dict(site.specs)
    for device in listed.devices:
        if Capability.SWITCH in specs[device].capabilities and specs[device].priority_class is None:
            specs[device] = replace(specs[device], priority_class=VITAL)
    vital = tuple(sorted({*site.settings.vital, *listed.devices}))
    return replace(site, specs=specs, settings=site.settings.model_copy(update={"vital": vital}))
