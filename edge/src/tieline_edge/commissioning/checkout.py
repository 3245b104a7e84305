"""The walk of a point-to-point checkout: device by device, look, tick, move with consent, tick; kept after each answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Final

from tieline_core.clock import Clock
from tieline_core.ids import DeviceId
from tieline_core.shedding import VITAL
from tieline_edge.commissioning.actuate import Actuator, NotMovedError
from tieline_edge.commissioning.answers import Answers
from tieline_edge.commissioning.check_commands import look_twice, point_line
from tieline_edge.commissioning.places import place
from tieline_edge.commissioning.points_check import Mark, PointCheck
from tieline_edge.commissioning.sheet import ActuationRow, DeviceRow, PointRow, Sheet, Tick
from tieline_edge.commissioning.visit import Visit, visit
from tieline_edge.control.memory import ArbiterMemory
from tieline_edge.control.tags import Tag
from tieline_edge.drivers.capabilities import Capability, DevicePermanentError, DeviceTransientError, Role
from tieline_edge.drivers.catalog.load import entry as catalog_entry
from tieline_edge.settings import DeviceSettings, EdgeSettings

_ASKED: Final = {Capability.SWITCH, Capability.HOLD_POWER, Capability.LIMIT_GENERATION}
_MOVE: Final = {
    Capability.SWITCH: "opens the contactor of {0} and closes it again: its load is interrupted",
    Capability.HOLD_POWER: "has {0} hold 5 % of its rating for a moment and releases it",
    Capability.LIMIT_GENERATION: "limits {0} to a little less than it delivers and releases it",
}


@dataclass(slots=True)
class Walk:
    """One checkout.

    Attributes:
        site: The configuration.
        clock: Of the site.
        answers: Who ticks.
        tags: Devices that are not operated.
        memory: Of the arbiter, as the stopped agent left it; what is switched here is added.
        keep: Called with the sheet after each answer.
        tell: Progress.
        pause_s: Between the two reads of a device [s].
    """

    site: EdgeSettings
    clock: Clock
    answers: Answers
    tags: Mapping[DeviceId, Tag]
    memory: ArbiterMemory
    keep: Callable[[Sheet], None]
    tell: Callable[[str], None]
    pause_s: float = 2.0
    look_s: float = 0.5

    async def run(self, sheet: Sheet, devices: list[DeviceSettings]) -> Sheet:
        """Go through what is not done yet.

        Raises:
            tieline_edge.commissioning.answers.StoppedError: The person stops; all that was answered is kept.
        """
        for number, device in enumerate(devices, 1):
            before = sheet.of(device.id)
            if before is not None and before.done:
                continue
            self.tell(f"\n{number}/{len(devices)}  {device.id}: {device.catalog} at {place(device)}")
            sheet = await self._device(sheet, device)
        sheet = sheet.model_copy(update={"ended_at": self.clock.now()})
        self.keep(sheet)
        return sheet

    async def _device(self, sheet: Sheet, device: DeviceSettings) -> Sheet:
        before = sheet.of(device.id)
        ticked = {point.quantity: point for point in before.points if point.tick is not Tick.OPEN} if before else {}
        row = DeviceRow(device=device.id, catalog=device.catalog, place=place(device))
        if device.mqtt is not None:
            note = "publishes by itself: check it in the running edge ('tieline-edge status')"
            return self._kept(sheet, row.model_copy(update={"note": note, "done": True}))
        try:
            async with visit(self.site, device, self.clock) as found:
                check = await look_twice(found, self.pause_s)
                row = row.model_copy(update={"note": check.note})
                for point in check.points:
                    # What was ticked before somebody stopped in the middle of a device stays ticked.
                    judged_point = ticked.get(point.quantity) or await self._point(device, point)
                    row = row.model_copy(update={"points": (*row.points, judged_point)})
                    sheet = self._kept(sheet, row)
                actuation = await self._actuation(found)
        except (DevicePermanentError, DeviceTransientError) as error:
            # Whatever anybody says: what does not answer has not been checked.
            self.tell(f"  ✗ it does not answer: {error}")
            silent = PointRow(
                quantity="answers",
                value=None,
                unit="",
                words="",
                mark="bad",
                reason=f"does not answer: {error}",
                seen_at=self.clock.now(),
                tick=Tick.FAIL,
            )
            return self._kept(sheet, row.model_copy(update={"points": (*row.points, silent), "done": True}))
        acts = () if actuation is None else (actuation,)
        return self._kept(sheet, row.model_copy(update={"actuations": acts, "done": True}))

    def _kept(self, sheet: Sheet, row: DeviceRow) -> Sheet:
        sheet = sheet.with_device(row)
        self.keep(sheet)
        return sheet

    async def _point(self, device: DeviceSettings, point: PointCheck) -> PointRow:
        answer = await self.answers.tick(device.id, point.quantity, point_line(point), point.mark is Mark.OK)
        return PointRow(
            quantity=point.quantity,
            value=point.value,
            unit=point.unit,
            words=point.words,
            mark=point.mark.value,
            reason=point.reason,
            seen_at=self.clock.now(),
            tick=answer.tick,
            remark=answer.remark,
        )

    async def _actuation(self, found: Visit) -> ActuationRow | None:
        spec, device = found.spec, found.settings.id
        able = [capability for capability in _MOVE if capability in spec.capabilities & _ASKED]
        if not able:
            return None
        row = ActuationRow(name=_MOVE[able[0]].format(device), consent=False)
        if (tag := self.tags.get(device)) is not None:
            return row.model_copy(update={"note": f"not moved: {tag}"})
        if Capability.SWITCH in spec.capabilities and (spec.priority_class == VITAL or device in self.site.shedding.vital):
            return row.model_copy(update={"note": "not moved: it is vital, and a vital load is never opened"})
        if not await self.answers.consent(device, f"This {row.name}."):
            return row
        actuator = Actuator(found, await self._bus_live(), self.memory, self.tell, look_s=self.look_s)
        note = ""
        try:
            await actuator.move()
        except NotMovedError as error:
            note = str(error)
            self.tell(f"  {device}: {note}")
        self.memory = actuator.memory
        done = row.model_copy(
            update={"consent": True, "note": note, "steps": tuple(actuator.steps), "done_at": self.clock.now()}
        )
        shown = "; ".join(f"{step.what}: {step.effect or step.read_back}" for step in done.steps) or note
        answer = await self.answers.tick(device, "actuation", shown, done.good)
        return done.model_copy(update={"tick": answer.tick, "remark": answer.remark})

    async def _bus_live(self) -> bool | None:
        """As the agent would judge it: any transformer with voltage; without one there is nobody to ask."""
        transformers = [
            one for one in self.site.devices if catalog_entry(one.catalog).role is Role.TRANSFORMER and not one.mqtt
        ]
        known: list[bool | None] = []
        for device in transformers:
            try:
                async with AsyncExitStack() as stack:
                    found = await stack.enter_async_context(visit(self.site, device, self.clock))
                    known.append(found.facts(await found.read()).bus_live)
            except (DevicePermanentError, DeviceTransientError) as error:
                self.tell(f"  {device.id} does not answer, so nobody knows whether the busbar is live: {error}")
                known.append(None)
        if not known or any(known):
            return True
        return None if None in known else False


def remembered(walk: Walk, before: ArbiterMemory) -> ArbiterMemory:
    """What the agent is to remember of it: contactors that were moved here have switched just now."""
    return replace(before, contacts={**before.contacts, **walk.memory.contacts})


def judged(sheet: Sheet) -> int:
    """Exit status of a checkout: 0 everything passed, 1 something failed or was left open."""
    return 0 if sheet.ticks and all(tick is Tick.PASS for tick in sheet.ticks) else 1
