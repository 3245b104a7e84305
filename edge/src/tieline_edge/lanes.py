"""The agent's side of the lanes: sinks for what the hub sends, views of what it is told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from zoneinfo import ZoneInfo

from tieline_core.errors import BadInputError, TransientError
from tieline_core.ids import PointId
from tieline_core.messages.command import Command, CommandReport
from tieline_core.messages.explanation import ExplainRequest
from tieline_core.messages.plan import Plan
from tieline_core.messages.policy import Policy
from tieline_core.messages.reconciliation import AnyRequest
from tieline_core.messages.telemetry import Severity
from tieline_core.model_manifest import MAX_ONNX_BYTES, MAX_SEED_BYTES, ModelManifest
from tieline_edge import why
from tieline_edge.bootstrap import SOFTWARE, Composition
from tieline_edge.control.cycle import ControlCycle
from tieline_edge.forecasting.forecaster import Forecaster
from tieline_edge.outlook import autonomy_of
from tieline_edge.sync.artifacts import Artifacts
from tieline_edge.sync.downlink import Downlink
from tieline_edge.sync.durable import Conversation, DurableLane, durable_link
from tieline_edge.sync.durable_file import Counters
from tieline_edge.sync.explanation import Explanations
from tieline_edge.sync.live import LiveLane, LiveSettings, live_link
from tieline_edge.sync.live_state import LiveView
from tieline_edge.sync.reconciliation import Reconciliation
from tieline_edge.sync.reporter import Reporter
from tieline_edge.sync.sinks import ConfigSink, Fetch, OfferRefusedError, RunningState, Sinks
from tieline_edge.sync.trusted import trusted_keys
from tieline_edge.sync.uplink import Uplink

_MAX_MANIFEST_BYTES = 1024 * 1024


class PlanTaker:
    """Plans go to the plan book, through the cycle."""

    def __init__(self, cycle: ControlCycle) -> None:
        self._cycle = cycle

    async def offer(self, plan: Plan, sha256: str) -> None:
        """Take a plan; it is on disk when this returns."""
        await self._cycle.take_plan(plan, sha256)


class PolicyTaker:
    """Policies change the rules."""

    def __init__(self, cycle: ControlCycle) -> None:
        self._cycle = cycle

    async def offer(self, policy: Policy, _sha256: str) -> None:
        """Take a policy; the downlink keeps it and offers it again at the next start."""
        try:
            self._cycle.take_policy(policy)
        except BadInputError as error:
            raise OfferRefusedError("content", str(error)) from error


class CommandTaker:
    """Commands go to the command book, through the cycle."""

    def __init__(self, cycle: ControlCycle) -> None:
        self._cycle = cycle

    async def offer(self, command: Command) -> CommandReport:
        """Judge a command."""
        return await self._cycle.take_command(command)


class RequestTaker:
    """Questions why go to the trace, everything else to reconciliation."""

    def __init__(self, reconciliation: Reconciliation, explanations: Explanations) -> None:
        self._reconciliation = reconciliation
        self._explanations = explanations

    async def offer(self, request: AnyRequest) -> None:
        """Put it in line; it is answered over the durable connection."""
        if isinstance(request, ExplainRequest):
            await self._explanations.offer(request)
        else:
            await self._reconciliation.offer(request)


class ModelTaker:
    """Models go to the forecaster once it has started."""

    def __init__(self) -> None:
        self._ready: Forecaster | None = None
        #: Set when a model was installed: whoever issues forecasts clears it and lets the new one speak.
        self.installed = asyncio.Event()

    def serve(self, forecaster: Forecaster) -> None:
        """From now on models are taken by this one."""
        self._ready = forecaster

    async def offer(self, point: PointId, manifest: bytes, sha256: str, fetch: Fetch) -> None:
        """Pull the files a manifest names and install the model."""
        forecaster = self._ready
        if forecaster is None:
            raise TransientError("the forecaster has not started yet")
        if point != forecaster.point:
            raise OfferRefusedError("point", f"{point} is not forecast here, {forecaster.point} is")
        named = ModelManifest.from_bytes(manifest, "model manifest", _MAX_MANIFEST_BYTES)
        if named.point != point:
            raise OfferRefusedError("point", f"the model is for {named.point}, it was offered for {point}")
        onnx = await fetch(named.onnx_sha256, MAX_ONNX_BYTES)
        seed = None if named.seed is None else await fetch(named.seed.sha256, MAX_SEED_BYTES)
        await forecaster.install(manifest, onnx, seed, sha256)
        self.installed.set()


@dataclass(frozen=True, slots=True)
class Lanes:
    """Everything that talks to the hub."""

    uplink: Uplink
    downlink: Downlink
    durable: DurableLane
    live: LiveLane
    models: ModelTaker
    reporter: Reporter


def build(parts: Composition, config: ConfigSink | None = None) -> Lanes:
    """Connect the agent's parts with the lanes; nothing runs yet.

    Args:
        parts: The agent.
        config: Who takes another configuration; None = nobody.

    Raises:
        tieline_core.errors.BadInputError: When a hub key or a counter file is unreadable.
    """
    settings, folder = parts.settings, parts.settings.state_dir
    uplink = Uplink(parts.outbox, parts.clock, SOFTWARE, parts.boot_id)
    models = ModelTaker()
    reconciliation = Reconciliation(parts.outbox, parts.clock)
    explanations = Explanations(settings.edge_id, parts.clock, partial(explained, parts))
    sinks = Sinks(
        plan=PlanTaker(parts.cycle),
        policy=PolicyTaker(parts.cycle),
        model=models if settings.forecast.enabled else None,
        command=CommandTaker(parts.cycle),
        request=RequestTaker(reconciliation, explanations),
        config=config,
    )
    downlink = Downlink(
        parts.outbox,
        parts.clock,
        trusted_keys(settings.hub.public_keys),
        uplink.nonces,
        Artifacts(parts.paths.artifacts, settings.hub.http, ca_file=settings.hub.http_ca_file),
        folder,
        sinks,
    )
    if parts.site.overruled is not None:
        sha256, reason = parts.site.overruled
        downlink.overruled("config", sha256, reason)
        parts.outlet.tell(Severity.ACTION, "config.overruled", reason, data={"sha256": sha256})
    reporter = Reporter(
        parts.outbox,
        downlink,
        parts.clock,
        partial(running_state, parts),
        SOFTWARE,
        parts.boot_id,
        partial(autonomy_of, parts),
    )
    sides: list[Conversation] = [uplink, downlink, reporter, reconciliation, explanations]
    link = durable_link(settings.hub.mqtt, settings.edge_id)
    link.on_takeover = partial(parts.outbox.alarm, "link.taken_over")
    durable = DurableLane(link, sides)
    numbers = Counters(folder / "live.json")
    live = LiveLane(
        live_link(settings.hub.mqtt, settings.edge_id),
        settings.edge_id,
        parts.clock,
        numbers,
        lambda: live_view(parts),
        parts.outbox.alarm,
        LiveSettings(host_id=settings.hub.host_id),
    )
    for text in (*downlink.damage, *((numbers.damage,) if numbers.damage else ())):
        parts.outlet.tell(Severity.ALARM, "edge.state_damaged", text)
    return Lanes(uplink, downlink, durable, live, models, reporter)


async def explained(parts: Composition, request: ExplainRequest) -> str:
    """The words the local page would say.

    Raises:
        tieline_core.errors.BadInputError: When there is no answer; it says what there is.
    """
    asked = {"device": str(request.device_id)} | ({} if request.at is None else {"at": request.at.isoformat()})
    if request.replay:
        asked["replay"] = "1"
    now, zone = parts.clock.now(), ZoneInfo(parts.settings.site.time_zone)
    await asyncio.to_thread(parts.trace.flush)
    return str((await asyncio.to_thread(why.answer, parts.paths.trace, asked, now, zone))["text"])


def running_state(parts: Composition) -> RunningState:
    """What the agent knows of itself, for the reported state."""
    standing = parts.cycle.standing
    return RunningState(
        ladder=standing.step,
        ladder_reason=standing.reason[:200],
        plan_id=None if standing.held is None else standing.held.plan.plan_id,
        monitor_only=parts.monitor_only,
        dry_run=parts.settings.dry_run,
        tagged=tuple(sorted(parts.tags.tagged)),
        devices_offline=tuple(sorted(device for device, handle in parts.handles.items() if not handle.online)),
        shed=parts.cycle.shed,
        commands=parts.commands.reports(),
        config_sha256=parts.site.config_sha256,
    )


def live_view(parts: Composition) -> LiveView:
    """What is true now, for the live lane."""
    snapshot = parts.image.freeze(parts.clock.now())
    derived = {reading.point: reading for reading in parts.cycle.derived}
    return LiveView(
        readings={**snapshot.readings, **derived},
        devices={device: handle.spec.role.value for device, handle in parts.handles.items()},
        offline=frozenset(device for device, handle in parts.handles.items() if not handle.online),
        node={
            "software": SOFTWARE,
            "ladder_step": int(parts.cycle.standing.step),
            "ladder_reason": parts.cycle.standing.reason,
            "shed_loads": len(parts.cycle.shed),
            "monitor_only": int(parts.monitor_only),
            "dry_run": int(parts.settings.dry_run),
            "tagged_devices": len(parts.tags.tagged),
        },
    )
