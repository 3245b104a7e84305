"""Moving one actuator a little and back, under the same judge as in service.

Every order goes through the arbiter: limits of the device, state of charge, minimum times, dead busbar and class 0 hold as
they hold for an operator's command. A contactor is opened and closed again, never closed first; a storage holds a twentieth
of its rating; a plant is limited a little below what it delivers. Whatever happens, storages and plants are released.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from tieline_edge.commissioning.sheet import Step
from tieline_edge.commissioning.visit import Visit
from tieline_edge.control.arbiter import Decision, decide
from tieline_edge.control.claims import NO_LIMIT, Band, Claim, Failsafe, Interval
from tieline_edge.control.effect import REACHED_SHARE, Written, effective, rating_w
from tieline_edge.control.facts import SiteFacts
from tieline_edge.control.memory import ArbiterMemory
from tieline_edge.control.words import action_words
from tieline_edge.drivers.capabilities import (
    Action,
    Capability,
    DevicePermanentError,
    DeviceTransientError,
    HoldPower,
    LimitGeneration,
    Release,
    SwitchContact,
)

_SHARE: Final = 0.05
_LOOK_S: Final = 0.5
_EFFECT_S: Final = 10.0
#: A contactor that closes by itself is told to after this long at least, should this end in the middle [s].
_OFF_TIMER_S: Final = 600.0
#: A ramp or a dead time may take this long; minimum times of contactors are waited for in full [s].
_PATIENCE_S: Final = 120.0

#: Told of what is waited for.
Progress = Callable[[str], None]


class NotMovedError(Exception):
    """The arbiter, or the device, does not let it happen; the text says why."""


@dataclass(slots=True)
class Actuator:
    """One device with what the arbiter remembers of it.

    Attributes:
        found: Connected.
        bus_live: Whether the busbar is live; None = measured but not known, so nothing closes onto it.
        memory: Of the arbiter, as the stopped agent left it.
        tell: Told of what is waited for.
        look_s: Pause between two looks [s].
    """

    found: Visit
    bus_live: bool | None
    memory: ArbiterMemory
    tell: Progress
    look_s: float = _LOOK_S
    steps: list[Step] = field(default_factory=list)

    async def move(self) -> None:
        """Move it and bring it back; what was done stands in :attr:`steps`.

        Raises:
            NotMovedError: It was not moved, or not all the way.
        """
        able = self.found.spec.capabilities
        if Capability.SWITCH in able:
            await self._open_and_close()
        elif Capability.HOLD_POWER in able:
            await self._hold_and_release()
        else:
            await self._limit_and_release()

    async def _open_and_close(self) -> None:
        closed = (await self._facts()).of(self.found.settings.id).closed
        if closed is not True:
            where = "open" if closed is False else "in a position nobody knows"
            raise NotMovedError(f"it is {where}: a test closes nothing")
        spec = self.found.spec
        timer_s = max(_OFF_TIMER_S, 2.0 * spec.min_off_s) if spec.off_timer else 0.0
        await self._bring(closed=False, timer_s=timer_s)
        try:
            await self._bring(closed=True)
        except NotMovedError as error:
            raise NotMovedError(f"opened, and not closed again ({error}): {_left_open(timer_s)}") from error
        except asyncio.CancelledError:
            self.tell(f"{self.found.settings.id} IS OPEN: {_left_open(timer_s)}")
            raise

    async def _bring(self, *, closed: bool, timer_s: float = 0.0) -> None:
        """Ask the arbiter until it lets the contactor move; minimum times are waited for."""
        spec = self.found.spec
        patience_s = max(spec.min_on_s, spec.min_off_s) + _PATIENCE_S

        def wish(now: datetime) -> dict[str, object]:
            return {"closed": closed, "off_timer_s": timer_s, "expires_at": now + timedelta(seconds=60)}

        def right(action: Action) -> bool:
            return isinstance(action, SwitchContact) and action.closed is closed

        action, power_w = await self._permitted(wish, right, patience_s)
        await self._order(action, power_w)

    async def _hold_and_release(self) -> None:
        spec, facts = self.found.spec, (await self._facts()).of(self.found.settings.id)
        room = spec.p_max_w > 0 and (facts.soc_pct is None or facts.soc_pct < spec.soc_max_pct)
        target = _SHARE * (spec.p_max_w if room else spec.p_min_w)

        def wish(now: datetime) -> dict[str, object]:
            return {"setpoint_w": target, "expires_at": now + timedelta(seconds=60)}

        def right(action: Action) -> bool:
            return isinstance(action, HoldPower) and action.power_w == target

        try:
            action, power_w = await self._permitted(wish, right, _PATIENCE_S)
            await self._order(action, power_w)
        finally:
            await self._release()

    async def _limit_and_release(self) -> None:
        spec, facts = self.found.spec, (await self._facts()).of(self.found.settings.id)
        # Far enough below what it delivers that the effect stands out from what counts as reached anyway.
        cut_w = 3.0 * REACHED_SHARE * rating_w(spec)
        giving_w = -(facts.p_w or 0.0)
        limit = cut_w - giving_w if giving_w > cut_w else 0.5 * spec.p_min_w

        def wish(now: datetime) -> dict[str, object]:
            failsafe = Failsafe(NO_LIMIT, 0.0)
            return {"limit": Interval(lo=limit), "failsafe": failsafe, "expires_at": now + timedelta(seconds=60)}

        def right(action: Action) -> bool:
            return isinstance(action, LimitGeneration) and action.min_power_w == limit

        try:
            action, power_w = await self._permitted(wish, right, _PATIENCE_S)
            await self._order(action, power_w, visible=giving_w > cut_w)
        finally:
            await self._release()

    async def _permitted(
        self, wish: Callable[[datetime], dict[str, object]], right: Callable[[Action], bool], patience_s: float
    ) -> tuple[Action, float | None]:
        """The action once the arbiter lets it through unchanged, and the power before it."""
        clock, device = self.found.clock, self.found.settings.id
        until, told = clock.now() + timedelta(seconds=patience_s), ""
        while True:
            facts, now = await self._facts(), clock.now()
            claim = Claim(device, Band.OPERATOR, "checkout", "point-to-point checkout", **wish(now))  # type: ignore[arg-type]  # one wish of several kinds
            revert_s = self.found.site.reversion.timer_s
            judged = decide({device: self.found.spec}, [claim], self.memory, facts, now, revert_s)
            decision = judged.by_device[device]
            self.memory = replace(
                self.memory,
                contacts={**self.memory.contacts, **judged.memory.contacts},
                power={**self.memory.power, **judged.memory.power},
            )
            if decision.action is not None and right(decision.action):
                return decision.action, facts.of(device).p_w
            reason = _why_not(decision)
            if decision.dropped or now >= until:
                raise NotMovedError(reason)
            if reason != told:
                self.tell(f"{device}: waiting, {reason}")
                told = reason
            await asyncio.sleep(self.look_s)

    async def _order(self, action: Action, power_w: float | None, *, visible: bool = True) -> None:
        """Write, read back, and watch for the effect where there can be one."""
        what, device = action_words(action), self.found.settings.id
        self.tell(f"{device}: {what}")
        try:
            back = await self.found.driver.apply(action)
        except (DevicePermanentError, DeviceTransientError) as error:
            self.steps.append(Step(what=what, read_back=str(error)))
            raise NotMovedError(f"{what}: {error}") from error
        written = Written(action, self.found.clock.now(), power_w)
        seen, text = await self._effect(written) if visible else (None, "it delivers too little for an effect to be seen")
        self.steps.append(Step(what=what, read_back=back.text, confirmed=back.confirmed, effect=text, effective=seen))
        if not back.confirmed:
            raise NotMovedError(f"{what}: the device holds something else: {back.text}")

    async def _effect(self, written: Written) -> tuple[bool | None, str]:
        spec, clock = self.found.spec, self.found.clock
        window_s = spec.effect_s or _EFFECT_S
        seen: bool | None = None
        text = "nothing was measured"
        while (waited_s := (clock.now() - written.at).total_seconds()) <= window_s:
            await asyncio.sleep(self.look_s)
            facts = (await self._facts()).of(self.found.settings.id)
            seen = effective(spec, written, facts, clock.now())
            shown = _shown(facts.p_w, facts.closed, written.baseline_w)
            if seen:
                return True, f"{shown}, after {waited_s + self.look_s:.1f} s"
            text = f"{shown}, within {window_s:g} s"
        return seen, text

    async def _release(self) -> None:
        """Hand it back whatever happened; told when that fails."""
        what = action_words(Release())
        try:
            back = await self.found.driver.apply(Release())
        except (DevicePermanentError, DeviceTransientError) as error:
            left = "its own timer does it" if self.found.spec.reverts else "IT KEEPS THE LAST ORDER"
            self.steps.append(Step(what=what, read_back=f"{error}; {left}"))
            return
        self.steps.append(Step(what=what, read_back=back.text, confirmed=back.confirmed))

    async def _facts(self) -> SiteFacts:
        try:
            readings = await self.found.read()
        except (DevicePermanentError, DeviceTransientError) as error:
            raise NotMovedError(f"it does not answer: {error}") from error
        return replace(self.found.facts(readings), bus_live=self.bus_live)


def _left_open(timer_s: float) -> str:
    return f"it closes by itself within {timer_s:g} s" if timer_s else "CLOSE IT BY HAND"


def _why_not(decision: Decision) -> str:
    limits = [claim.reason for claim in decision.limits if claim.source != "rating"]
    return "; ".join((*decision.notes, *limits)) or "the arbiter leaves it alone"


def _shown(p_w: float | None, closed: bool | None, before_w: float | None) -> str:
    words = []
    if closed is not None:
        words.append("closed" if closed else "open")
    if p_w is not None:
        words.append(f"{p_w:g} W" if before_w is None else f"{before_w:g} W -> {p_w:g} W")
    return ", ".join(words) or "nothing is measured"
