"""The only composition root: from a configuration to an agent whose parts know each other, with nothing running yet."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from tieline_core.clock import Clock, FollowedClock, SystemClock
from tieline_core.ids import DeviceId, PointId
from tieline_core.messages.telemetry import Severity
from tieline_core.shedding import VITAL
from tieline_edge import __version__
from tieline_edge.commissioning.site_in_force import SiteInForce
from tieline_edge.control.commands import CommandBook
from tieline_edge.control.cycle import ControlCycle, Parts
from tieline_edge.control.executor import Executor, Timing
from tieline_edge.control.network_limits import NetworkLimits
from tieline_edge.control.outlet import Outlet
from tieline_edge.control.plan_book import PlanBook
from tieline_edge.control.rehearsal import DRY_RUN, Rehearsal
from tieline_edge.control.site_points import SITE
from tieline_edge.control.speaker import Speaker
from tieline_edge.control.state_file import StateFile
from tieline_edge.control.tags import TagBook
from tieline_edge.control.time_watch import Dated, Dating
from tieline_edge.control.trace import Trace
from tieline_edge.dated_clock import DatedClock, DatedRecorder, last_sign_of_life
from tieline_edge.drivers.capabilities import Capability, DeviceSpec
from tieline_edge.drivers.context import DriverContext
from tieline_edge.drivers.mqtt.gateway import MeterGateway
from tieline_edge.drivers.opcua.pki import Pki
from tieline_edge.outbox.ports import Recorder
from tieline_edge.outbox.store import Outbox
from tieline_edge.sampling import DeviceHandle, open_devices
from tieline_edge.settings import EdgeSettings, sample_periods_s
from tieline_edge.shedding.rule import RuleSite
from tieline_edge.shedding.vital_list import with_list
from tieline_edge.snapshot import ProcessImage
from tieline_edge.state_paths import StatePaths
from tieline_edge.steady import SteadyTime
from tieline_edge.vital_file import listed_vital

SOFTWARE = f"tieline-edge/{__version__}"


@dataclass(frozen=True, slots=True)
class Composition:
    """The parts of an agent, connected to each other; none of them runs yet.

    ``settings`` are those of the start; what may change while it runs (``site``, ``devices``, ``shedding``) is asked of
    ``site.settings``. ``handles`` are the devices of now.
    """

    settings: EdgeSettings
    site: SiteInForce
    paths: StatePaths
    clock: Clock
    rng: random.Random
    image: ProcessImage
    outbox: Outbox
    handles: dict[DeviceId, DeviceHandle]
    context: DriverContext
    outlet: Outlet
    trace: Trace
    plans: PlanBook
    commands: CommandBook
    tags: TagBook
    cycle: ControlCycle
    executor: Executor
    boot_id: str
    load_point: PointId

    @property
    def monitor_only(self) -> bool:
        """True when there is no hub key to believe: then nothing is written to any device."""
        return not self.settings.hub.public_keys


def make_clock(settings: EdgeSettings) -> Clock:
    """The clock the configuration names.

    Raises:
        tieline_core.errors.BadInputError: When a published clock is named and cannot be read.
    """
    if settings.clock.path is not None:
        return FollowedClock.of_file(settings.clock.path)
    return DatedClock(SystemClock(), last_sign_of_life(settings.state_dir))


def specs_of(handles: Mapping[DeviceId, DeviceHandle], settings: EdgeSettings) -> dict[DeviceId, DeviceSpec]:
    """Specifications of all devices; a switchable load of the vital list without a class of its own gets class 0."""
    specs = {device: handle.spec for device, handle in handles.items()}
    for device in settings.shedding.vital:
        if Capability.SWITCH in specs[device].capabilities and specs[device].priority_class is None:
            specs[device] = replace(specs[device], priority_class=VITAL)
    return specs


def speakers(tags: TagBook, settings: EdgeSettings, plans: PlanBook) -> tuple[Speaker, ...]:
    """Everyone who claims beside rules, commands and plans; a new speaker is one line here."""
    return (
        tags,
        NetworkLimits(settings.edge_id, lambda: plans.network, lambda: plans.specs),
    )


def _gate(settings: EdgeSettings, tags: TagBook) -> Callable[[DeviceId], str | None]:
    """Why nothing may be written to a device, as the last door before the wire asks."""
    if settings.dry_run:
        return lambda _device: DRY_RUN
    if not settings.hub.public_keys:
        return lambda _device: "monitor only: no hub key is configured"
    return tags.refusal


def rule_site_of(settings: EdgeSettings, specs: Mapping[DeviceId, DeviceSpec]) -> RuleSite:
    """The site as its rules know it, before any policy; the signed list of vital devices is worked in.

    Raises:
        tieline_core.errors.BadInputError: When that list is not what it should be.
    """
    site = RuleSite(settings.edge_id, settings.site.rated_va, specs, settings.shedding, sample_periods_s(settings))
    return with_list(site, listed_vital(settings))


def freshness_of(handles: Mapping[DeviceId, DeviceHandle]) -> dict[DeviceId, float]:
    """How often each device's values are new [s]."""
    return {device: handle.fresh_s for device, handle in handles.items()}


def writable_of(handles: Mapping[DeviceId, DeviceHandle], specs: Mapping[DeviceId, DeviceSpec]) -> dict[DeviceId, DeviceHandle]:
    """The devices that can be asked for something."""
    asked = {Capability.HOLD_POWER, Capability.LIMIT_GENERATION, Capability.SWITCH}
    return {device: handle for device, handle in handles.items() if specs[device].capabilities & asked}


def compose(site: SiteInForce, clock: Clock, outbox: Outbox) -> Composition:
    """Make all parts.

    Args:
        site: The configuration.
        clock: From :func:`make_clock`.
        outbox: Open.

    Raises:
        tieline_core.errors.TielineError: When the configuration cannot be run; nothing was connected.
    """
    settings, rng = site.settings, random.Random()
    paths = StatePaths.below(settings.state_dir)
    recorder: Recorder = DatedRecorder(outbox, clock) if isinstance(clock, DatedClock) else outbox
    dating: Dating = clock if isinstance(clock, DatedClock) else Dated()
    steady = SteadyTime(clock)
    image = ProcessImage(clock, steady)
    meters = None
    if settings.field_broker is not None:
        meters = MeterGateway(settings.field_broker, settings.edge_id, clock, recorder, image, outbox)
    outlet = Outlet(settings.edge_id, clock, recorder)
    tags = TagBook(lambda: handles, StateFile(paths.tags), outlet.tell)
    tags.restore()
    if tags.damage is not None:
        outlet.tell(Severity.ALARM, "tag.unreadable", tags.damage)
    pki, gate = Pki(paths.pki, settings.edge_id), _gate(settings, tags)
    context = DriverContext(settings.edge_id, clock, recorder, image, meters, outbox, pki=pki, barred=gate)
    handles = open_devices(settings, context)
    specs = specs_of(handles, settings)
    trace = Trace.open(paths.trace, settings.trace.max_bytes, timedelta(days=settings.trace.max_age_days), SOFTWARE)
    outlet.listeners.append(trace.noted)
    plans = PlanBook(settings.edge_id, specs, StateFile(paths.plans))
    commands = CommandBook(settings.edge_id, specs, StateFile(paths.commands), tags.refusal)
    parts = Parts(
        settings=settings,
        clock=clock,
        image=image,
        rule_site=rule_site_of(settings, specs),
        plans=plans,
        commands=commands,
        trace=trace,
        outlet=outlet,
        # A dry run must leave no memory of openings that never happened.
        state=StateFile(paths.dry_run / "control.json" if settings.dry_run else paths.control),
        poll_s=freshness_of(handles),
        monitor_only=not settings.hub.public_keys,
        rng=rng,
        speakers=speakers(tags, settings, plans),
        tagged=lambda: tags.tagged,
        steady=steady,
        dating=dating,
    )
    cycle = ControlCycle(parts)
    hands = Rehearsal if settings.dry_run else Executor
    executor = hands(writable_of(handles, specs), clock, Timing(settings.reversion.refresh_s), cycle.take_outcome)
    return Composition(
        settings=settings,
        site=site,
        paths=paths,
        clock=clock,
        rng=rng,
        image=image,
        outbox=outbox,
        handles=handles,
        context=context,
        outlet=outlet,
        trace=trace,
        plans=plans,
        commands=commands,
        tags=tags,
        cycle=cycle,
        executor=executor,
        boot_id=uuid.uuid4().hex,
        load_point=PointId.of(settings.edge_id, SITE, "load_w"),
    )
