"""The plans an edge holds, and the step of the fallback ladder it stands on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Final

from tieline_core.errors import BadInputError, PermanentError, TransientError
from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.desired import LadderStep
from tieline_core.messages.network import NetworkTable, PriceVector
from tieline_core.messages.plan import Certificate, Plan, PlanMode, Verdict
from tieline_core.shedding import VITAL
from tieline_edge.control.claims import NO_LIMIT, Band, Claim, Failsafe, Interval
from tieline_edge.control.local_schedule import LocalSchedule
from tieline_edge.control.state_file import StateFile
from tieline_edge.control.state_writer import StateWriter
from tieline_edge.drivers.capabilities import Capability, DeviceSpec

#: Plans kept: the one in force, its forerunners that may still cover now, and one that starts later.
MAX_PLANS: Final = 8
#: A disk that takes longer is one that refuses: the plan is offered again [wall s].
_STORE_WITHIN_S: Final = 10.0
#: The hub's clock may be ahead of ours by this much.
ISSUED_AHEAD: Final = timedelta(minutes=5)
_NEEDS: Final[Mapping[PlanMode, Capability]] = {
    PlanMode.SETPOINT_W: Capability.HOLD_POWER,
    PlanMode.GENERATION_LIMIT_W: Capability.LIMIT_GENERATION,
    PlanMode.LOAD_LIMIT_W: Capability.SWITCH,
}


class PlanRefusedError(PermanentError):
    """A plan that must not be followed.

    Attributes:
        check: ``edge``, ``certificate``, ``device``, ``mode`` or ``validity``.
    """

    def __init__(self, check: str, reason: str) -> None:
        self.check = check
        self.reason = reason
        super().__init__(f"{check}: {reason}")


class Phase(IntEnum):
    """How far a plan has been used up. It only grows: no setting of the clock revives a plan that has ended."""

    IN_FORCE = 0
    ENDED = 1
    """Its last step may be held for one more, while nothing better is there."""
    DONE = 2


@dataclass(frozen=True, slots=True)
class HeldPlan:
    """A plan that was taken, the hash it came by, and how far it has been used up."""

    plan: Plan
    sha256: str
    phase: Phase = Phase.IN_FORCE

    @property
    def end(self) -> datetime:
        """End of its last step."""
        return self.plan.start + timedelta(seconds=self.plan.step_s * self.plan.steps)

    def covers(self, now: datetime) -> bool:
        """True while it has a step for the instant and has not ended before."""
        return self.phase is Phase.IN_FORCE and self.plan.start <= now < self.end

    @property
    def held_until(self) -> datetime:
        """After its end the last step is held for one more at most."""
        return self.end + timedelta(seconds=self.plan.step_s)

    def aged(self, now: datetime) -> HeldPlan:
        """The plan with its phase of now."""
        if self.phase is Phase.IN_FORCE:
            phase = Phase.IN_FORCE if now < self.end else (Phase.ENDED if now < self.held_until else Phase.DONE)
        else:
            phase = self.phase if self.phase is Phase.ENDED and self.end <= now < self.held_until else Phase.DONE
        return self if phase is self.phase else replace(self, phase=phase)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the edge stands on the ladder now.

    Attributes:
        step: The step.
        reason: Why this one, in words.
        claims: What it wants of the devices.
        held: The plan that is followed; None on the two lower steps.
    """

    step: LadderStep
    reason: str
    claims: tuple[Claim, ...]
    held: HeldPlan | None = None


def stand(
    plans: Sequence[HeldPlan], local: LocalSchedule | None, now: datetime, specs: Mapping[DeviceId, DeviceSpec]
) -> Standing:
    """The highest step that has something for this instant: a pure function."""
    ranked = sorted(plans, key=lambda held: (held.plan.issued_at, held.plan.start, held.sha256), reverse=True)
    covering = next((held for held in ranked if held.covers(now)), None)
    if covering is not None:
        index = int((now - covering.plan.start).total_seconds() // covering.plan.step_s)
        name = f"plan {covering.plan.plan_id}, step {index + 1} of {covering.plan.steps}"
        claims = tuple(_plan_claims(covering, index, specs))
        if covering is ranked[0]:
            return Standing(LadderStep.CURRENT_PLAN, name, claims, covering)
        newest = ranked[0]
        state = f"starts at {newest.plan.start:%H:%M}" if newest.plan.start > now else f"ended at {newest.end:%H:%M}"
        reason = f"newest plan {newest.plan.plan_id} {state} UTC; {name} still covers now"
        return Standing(LadderStep.LAST_PLAN, reason[:200], claims, covering)
    ended = f"newest plan {ranked[0].plan.plan_id} does not cover now" if ranked else "no plan"
    if local is not None and local.covers(now):
        reason = f"{ended}; schedule from the local forecast {local.model_id} of {local.issued_at:%H:%M} UTC"
        return Standing(LadderStep.LOCAL_SCHEDULE, reason[:200], tuple(_local_claims(local, now)))
    last = next((held for held in ranked if held.phase is not Phase.DONE and held.end <= now < held.held_until), None)
    if last is not None:
        reason = f"plan {last.plan.plan_id} has ended; its last step is held until {last.held_until:%H:%M} UTC"
        return Standing(
            LadderStep.LAST_PLAN, reason, tuple(_plan_claims(last, last.plan.steps - 1, specs, last.held_until)), last
        )
    return Standing(LadderStep.DEVICE_DEFAULT, f"{ended} and no local schedule", ())


def _plan_claims(
    held: HeldPlan, index: int, specs: Mapping[DeviceId, DeviceSpec], until: datetime | None = None
) -> Iterable[Claim]:
    plan = held.plan
    expires = until or plan.start + timedelta(seconds=plan.step_s * (index + 1))
    for part in plan.devices:
        if part.device_id not in specs:
            continue
        value = part.values_w[index]
        reason = f"plan {plan.plan_id}, step {index + 1}"
        if part.mode is PlanMode.SETPOINT_W:
            if value is not None:
                yield Claim(part.device_id, Band.PLAN, "plan", reason, setpoint_w=value, expires_at=expires)
            continue
        # A step without a number lifts the limit in so many words: silence would leave the failsafe of the last one.
        limit = NO_LIMIT
        if value is not None:
            limit = Interval(lo=value) if part.mode is PlanMode.GENERATION_LIMIT_W else Interval(hi=value)
        failsafe = Failsafe(limit, float(plan.step_s))
        yield Claim(part.device_id, Band.PLAN, "plan", reason, limit=limit, expires_at=expires, failsafe=failsafe)


def _local_claims(local: LocalSchedule, now: datetime) -> Iterable[Claim]:
    index = int((now - local.start).total_seconds() // local.step_s)
    expires = local.start + timedelta(seconds=local.step_s * (index + 1))
    for device, values in sorted(local.values_w.items()):
        yield Claim(
            device, Band.PLAN, "local-schedule", local.aim or "local forecast", setpoint_w=values[index], expires_at=expires
        )


def default_claims(specs: Mapping[DeviceId, DeviceSpec], now: datetime, for_s: float) -> tuple[Claim, ...]:
    """What devices do when nobody else speaks: loads run. The arbiter closes by default only what it opened itself."""
    until = now + timedelta(seconds=for_s)
    return tuple(
        Claim(device, Band.DEFAULT, "default", "nobody wants it open", closed=True, expires_at=until)
        for device, spec in sorted(specs.items())
        if Capability.SWITCH in spec.capabilities
    )


class PlanBook:
    """Plans on disk and in mind.

    Args:
        edge: The only edge whose plans are taken.
        specs: The devices a plan may name.
        file: Where plans survive a restart.
    """

    def __init__(self, edge: EdgeId, specs: Mapping[DeviceId, DeviceSpec], file: StateFile) -> None:
        self._edge = edge
        self.specs = specs
        self._file = file
        self.disk = StateWriter(file, self._text)
        self._plans: tuple[HeldPlan, ...] = ()
        #: On its way to the disk, and not in force before it is there.
        self._coming: tuple[HeldPlan, datetime] | None = None
        self._one_at_a_time = asyncio.Lock()

    @property
    def plans(self) -> tuple[HeldPlan, ...]:
        """What is held, newest issue first."""
        return self._plans

    def restore(self) -> str | None:
        """Take up what an earlier run held; returns why nothing could be taken up, if so."""
        text = self._file.read()
        if text is None:
            return None
        try:
            rows = json.loads(text)
            plans = [
                HeldPlan(Plan.model_validate(row["plan"]), str(row["sha256"]), Phase(int(row.get("phase", 0)))) for row in rows
            ]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            return f"stored plans were unreadable ({type(error).__name__}) and are kept as {self._file.set_aside().name}"
        self._plans = tuple(plans)
        return None

    async def offer(self, plan: Plan, sha256: str, now: datetime) -> None:
        """Check a plan and keep it; it is on disk when this returns, and not in force before.

        Raises:
            PlanRefusedError: With the check that failed; what was held stays in force.
            TransientError: The disk refused; what was held stays in force.
        """
        async with self._one_at_a_time:
            check_plan(plan, self._edge, self.specs, now)
            if any(held.sha256 == sha256 and held.phase is not Phase.IN_FORCE for held in self._plans):
                raise PlanRefusedError("validity", f"plan {plan.plan_id} has ended before; no setting of the clock revives it")
            fresh = HeldPlan(plan, sha256)
            self._coming = fresh, now
            try:
                await self.disk.flush(_STORE_WITHIN_S)
                self._plans = self._kept()
            except OSError as error:
                raise TransientError(f"plan {plan.plan_id} cannot be stored now: {error}") from error
            finally:
                if not any(held is fresh for held in self._plans):
                    # Refused or cut short, it may still get there: then the next write takes it away again.
                    self.disk.touch()
                self._coming = None

    def _kept(self) -> tuple[HeldPlan, ...]:
        """What is held, with the plan that is coming in place of those that have ended by then."""
        if self._coming is None:
            return self._plans
        fresh, now = self._coming
        others = (held for held in self._plans if held.sha256 != fresh.sha256 and held.end > now)
        return tuple(sorted((fresh, *others), key=lambda held: held.plan.issued_at, reverse=True)[:MAX_PLANS])

    @property
    def prices(self) -> PriceVector | None:
        """Prices of the newest plan that brought some, ended or not: what they do not cover they do not say."""
        return next((held.plan.prices for held in self._plans if held.plan.prices is not None), None)

    @property
    def network(self) -> NetworkTable | None:
        """The network around the site as the newest plan that says anything knows it, ended or not."""
        return next((held.plan.network for held in self._plans if held.plan.network is not None), None)

    def stand(self, local: LocalSchedule | None, now: datetime) -> Standing:
        """Where the edge stands now."""
        aged = tuple(held.aged(now) for held in self._plans)
        if aged != self._plans:
            # Known in this run at once; a disk that refuses is asked again, and after a restart the clock decides.
            self._plans = aged
            self.disk.touch()
        return stand(aged, local, now, self.specs)

    def _text(self) -> str:
        rows = [
            {"sha256": held.sha256, "phase": int(held.phase), "plan": held.plan.model_dump(mode="json")}
            for held in self._kept()
        ]
        return json.dumps(rows)


def parse_plan(data: bytes, source: str) -> Plan:
    """Read a plan.

    Raises:
        PlanRefusedError: When it is no plan, or one without a certificate.
    """
    try:
        return Plan.from_bytes(data, source)
    except BadInputError as error:
        check = "certificate" if error.key.startswith("certificate") else "format"
        raise PlanRefusedError(check, str(error)) from error


def check_plan(plan: Plan, edge: EdgeId, specs: Mapping[DeviceId, DeviceSpec], now: datetime) -> None:
    """Everything that must hold before a plan is followed.

    Raises:
        PlanRefusedError: Naming the first thing that does not.
    """
    if plan.edge_id != edge:
        raise PlanRefusedError("edge", f"the plan is for {plan.edge_id}, this is {edge}")
    if plan.issued_at > now + ISSUED_AHEAD:
        # It would outrank every plan that is issued until then.
        raise PlanRefusedError("validity", f"it was issued at {plan.issued_at.isoformat()}, that is still to come")
    if plan.steps == 0 or HeldPlan(plan, "").end <= now:
        raise PlanRefusedError("validity", f"the plan has no step after {now.isoformat()}")
    _check_certificate(plan.certificate)
    for part in plan.devices:
        spec = specs.get(part.device_id)
        if spec is None:
            raise PlanRefusedError("device", f"{part.device_id} is not a device of {edge}")
        if _NEEDS[part.mode] not in spec.capabilities:
            raise PlanRefusedError("mode", f"{part.device_id} is a {spec.role} and takes no {part.mode.value}")
        if part.mode is PlanMode.LOAD_LIMIT_W and spec.priority_class == VITAL:
            raise PlanRefusedError("device", f"{part.device_id} is vital: no plan limits it")
        if part.mode is PlanMode.GENERATION_LIMIT_W and any(value is not None and value > 0 for value in part.values_w):
            raise PlanRefusedError(
                "mode", f"{part.device_id}: a generation limit is a lower bound of signed power, at most 0 W"
            )


def _check_certificate(certificate: Certificate) -> None:
    if not certificate.input_sha256:
        raise PlanRefusedError("certificate", "it names no inputs by hash")
    if certificate.verdict is Verdict.CLEAN and certificate.violations:
        raise PlanRefusedError("certificate", f"verdict clean with {len(certificate.violations)} violations")
    if certificate.verdict is Verdict.RELIEF:
        if not certificate.violations:
            raise PlanRefusedError("certificate", "verdict relief without the violations it cannot avoid")
        for quantity in ("loading_pct", "vm_pu"):
            rows = [row for row in certificate.violations if row.quantity == quantity]
            worst = max((abs(row.value - row.limit) for row in rows), default=0.0)
            without = max((abs(row.without_plan - row.limit) for row in rows), default=0.0)
            if worst > without + 1e-9:
                raise PlanRefusedError("certificate", f"{quantity} would be worse with the plan than without it")
