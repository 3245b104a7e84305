"""Taking a signed configuration while the edge runs: checked as a whole, kept, and then only the difference is carried out.

Devices that do not change keep their connections, and nobody here touches the outbox. What cannot be taken leaves the old in
force, with a reason for the hub.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tieline_core.errors import BadInputError, PermanentError, TransientError
from tieline_core.ids import DeviceId
from tieline_core.messages.site_config import SiteConfiguration
from tieline_core.messages.telemetry import Severity
from tieline_core.shedding import VITAL
from tieline_edge.bootstrap import Composition, rule_site_of, specs_of, writable_of
from tieline_edge.commissioning.places import box
from tieline_edge.commissioning.site_in_force import TakenSite, fixed_differences, is_vital, names_of, vital_of
from tieline_edge.config_file import check_text
from tieline_edge.control.state_file import StateFile
from tieline_edge.places import takes_orders
from tieline_edge.pollers import Pollers
from tieline_edge.sampling import DeviceHandle, open_devices
from tieline_edge.settings import DeviceSettings, EdgeSettings
from tieline_edge.shedding.rules import load_rules, with_policy
from tieline_edge.sync.sinks import OfferRefusedError

_LOG = logging.getLogger(__name__)
_RELEASE_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Difference:
    """What a new configuration changes among the devices, by id."""

    added: tuple[DeviceId, ...]
    removed: tuple[DeviceId, ...]
    changed: tuple[DeviceId, ...]

    @classmethod
    def between(cls, old: EdgeSettings, new: EdgeSettings) -> Difference:
        """From one to the other."""
        before, after = ({device.id: device for device in one.devices} for one in (old, new))
        return cls(
            tuple(sorted(set(after) - set(before))),
            tuple(sorted(set(before) - set(after))),
            tuple(sorted(device for device in set(before) & set(after) if before[device] != after[device])),
        )

    @property
    def closed(self) -> tuple[DeviceId, ...]:
        """Devices whose present connection ends."""
        return tuple(sorted((*self.removed, *self.changed)))

    @property
    def opened(self) -> tuple[DeviceId, ...]:
        """Devices that are connected anew."""
        return tuple(sorted((*self.added, *self.changed)))

    def __str__(self) -> str:
        words = [f"{name} {', '.join(getattr(self, name))}" for name in ("added", "removed", "changed") if getattr(self, name)]
        return "; ".join(words) or "no device changes"


class SiteTaker:
    """The running edge's side of a new configuration; calls come one after the other.

    Args:
        parts: The agent.
        pollers: Its running pollers.
    """

    def __init__(self, parts: Composition, pollers: Pollers) -> None:
        self._parts = parts
        self._pollers = pollers
        self._file = StateFile(parts.paths.site)

    async def offer(self, configuration: SiteConfiguration, sha256: str, envelope: bytes) -> None:
        """Take a configuration.

        Raises:
            OfferRefusedError: It cannot be run, or not without a restart; everything stays as it was.
            TransientError: It cannot be kept now.
        """
        old = self._parts.site.settings
        new = await asyncio.to_thread(_checked, configuration)
        if self._parts.site.forced_dry_run:
            new = new.model_copy(update={"dry_run": True})
        difference = Difference.between(old, new)
        self._judge(old, new, difference)
        handles = self._tried(new, difference)
        await asyncio.to_thread(self._keep, new, sha256, envelope)
        if new != old:
            await self._carry_out(new, difference, handles)
        site = self._parts.site
        site.config_sha256, site.overruled = sha256, None
        site.once_vital |= vital_of(new)
        text = f"configuration {sha256[:16]}, published by {configuration.issued_by}, taken: {difference}"
        self._parts.outlet.tell(Severity.INFORMATION, "config.taken", text, data={"sha256": sha256})

    def _tried(self, new: EdgeSettings, difference: Difference) -> dict[DeviceId, DeviceHandle]:
        """Handles for the new configuration, its rules loaded on trial: nothing has changed yet, whatever goes wrong."""
        try:
            fresh = self._built(new, difference)
            handles = {device.id: fresh.get(device.id) or self._parts.handles[device.id] for device in new.devices}
            self._rules_load(new, handles)
        except OfferRefusedError:
            raise
        except Exception as error:
            # A defect that ends the agent here would end it again at the next start, when the hub offers the same.
            _LOG.exception("configuration not taken: unforeseen error")
            raise OfferRefusedError("defect", f"unforeseen {type(error).__name__}: {error}") from error
        return handles

    def _judge(self, old: EdgeSettings, new: EdgeSettings, difference: Difference) -> None:
        """Everything a good file may still not do to a running edge."""
        if fixed := fixed_differences(old, new):
            raise OfferRefusedError("fixed", f"{', '.join(fixed)}: changes with a restart only, in the file at the site")
        site = self._parts.site
        protected = site.once_vital | vital_of(old)
        sheddable = [device for device in new.devices if device.priority_class is not None and not is_vital(device, new)]
        freed = sorted(device.id for device in sheddable if not protected.isdisjoint(names_of(device)))
        if freed:
            reason = f"{', '.join(freed)}: vital, and the hub never makes a vital device sheddable; edit the file at the site"
            raise OfferRefusedError("vital", reason)
        rows = {device.id: device for one in (old, new) for device in one.devices}
        opened = [rows[device] for device in difference.opened if takes_orders(rows[device])]
        if posing := [one.id for one in opened if not protected.isdisjoint(names_of(one)) and not _the_same(one, old, new)]:
            reason = "a vital device is there, and the hub never lets it be driven as another kind; edit the file at the site"
            raise OfferRefusedError("vital", f"{', '.join(posing)}: {reason}")
        hung = {box(device): device.id for device in old.devices if self._parts.tags.refusal(device.id) is not None}
        if under := [f"{one.id} (the place of {hung[box(one)]})" for one in opened if box(one) in hung]:
            raise OfferRefusedError("tagged", f"{', '.join(under)}: a tag hangs there; it goes first, then publish again")
        for device in difference.closed:
            if (tag := self._parts.tags.refusal(device)) is not None:
                raise OfferRefusedError("tagged", f"{device} is {tag}; its tag goes first, then publish again")
            if device in self._parts.cycle.shed:
                raise OfferRefusedError("shed", f"{device} is shed now and would be forgotten open; publish again later")

    def _built(self, new: EdgeSettings, difference: Difference) -> dict[DeviceId, DeviceHandle]:
        """Handles of what is new; nothing is connected yet."""
        opened = [device for device in new.devices if device.id in difference.opened]
        try:
            return open_devices(new, self._parts.context, opened)
        except PermanentError as error:
            raise OfferRefusedError("content", str(error)) from error

    def _rules_load(self, new: EdgeSettings, handles: dict[DeviceId, DeviceHandle]) -> None:
        """Try the rules before anything changes: a set that could shed a vital load refuses."""
        site = rule_site_of(new, specs_of(handles, new))
        policy = self._parts.cycle.policy
        try:
            load_rules(site if policy is None else with_policy(site, policy), self._parts.rng)
        except PermanentError as error:
            raise OfferRefusedError("rules", str(error)) from error

    def _keep(self, new: EdgeSettings, sha256: str, envelope: bytes) -> None:
        site = self._parts.site
        try:
            taken = TakenSite(
                sha256=sha256,
                base_sha256=site.base_sha256(),
                envelope=envelope.decode("ascii"),
                once_vital=tuple(sorted(site.once_vital | vital_of(new))),
            )
            self._file.write(taken.model_dump_json())
        except OSError as error:
            raise TransientError(f"the configuration cannot be kept: {error}") from error

    async def _carry_out(self, new: EdgeSettings, difference: Difference, handles: dict[DeviceId, DeviceHandle]) -> None:
        parts, old = self._parts, self._parts.site.settings
        await self._let_go(_moved(old, new, difference))
        specs = specs_of(handles, new)
        parts.cycle.take_site(rule_site_of(new, specs), {device: one.fresh_s for device, one in handles.items()})
        parts.executor.take_handles(writable_of(handles, specs))
        parts.site.settings = new
        for device in difference.closed:
            handle = parts.handles.pop(device)
            await self._pollers.stop(handle)
            parts.image.forget(handle.points)
        # In the order of the new file, as after a restart.
        parts.handles.update(handles)
        for device in difference.opened:
            await self._pollers.start(handles[device])

    async def _let_go(self, devices: Iterable[DeviceId]) -> None:
        """Hand back what will no longer be ours while its connection stands."""
        try:
            async with asyncio.timeout(_RELEASE_S):
                await self._parts.executor.release(devices)
        except TimeoutError:
            _LOG.warning("not every device could be released in time; their own timers do it")


def _checked(configuration: SiteConfiguration) -> EdgeSettings:
    settings, mistakes = check_text(configuration.text.encode(), "the configuration")
    if settings is None or mistakes:
        more = f" (and {len(mistakes) - 1} more: tieline-edge check-config names all)" if len(mistakes) > 1 else ""
        raise OfferRefusedError("content", f"{mistakes[0]}{more}")
    if settings.edge_id != configuration.edge_id:
        error = BadInputError("configuration", "edge_id", settings.edge_id, f"it was published for {configuration.edge_id}")
        raise OfferRefusedError("edge", str(error))
    return settings


def _the_same(device: DeviceSettings, old: EdgeSettings, new: EdgeSettings) -> bool:
    """A vital device that stays what it is: known before with this catalogue entry, or a load of class 0 where none was."""
    before = [one for one in old.devices if not {one.id, box(one)}.isdisjoint((device.id, box(device))) and is_vital(one, old)]
    kept = all(one.catalog == device.catalog for one in before)
    return is_vital(device, new) and kept and (bool(before) or device.priority_class == VITAL)


def _moved(old: EdgeSettings, new: EdgeSettings, difference: Difference) -> tuple[DeviceId, ...]:
    """Devices that leave, or whose id stands for another box from now on: those are handed back."""

    def place(device: DeviceSettings) -> tuple[object, ...]:
        return device.catalog, device.modbus, device.opcua, device.mqtt

    before, after = ({device.id: device for device in one.devices} for one in (old, new))
    moved = [device for device in difference.changed if place(before[device]) != place(after[device])]
    return (*difference.removed, *moved)
