"""The agent: one process, one TaskGroup, a clean end."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack, closing
from datetime import datetime, timedelta
from typing import Any, Final

from tieline_core.clock import Clock
from tieline_core.errors import TielineError, TransientError
from tieline_core.messages.telemetry import IssuedForecast, Severity
from tieline_core.timegrid import floor_to
from tieline_edge.bootstrap import SOFTWARE, Composition, compose, make_clock
from tieline_edge.commissioning.orders import Orders, tag_orders
from tieline_edge.commissioning.reload import SiteTaker
from tieline_edge.commissioning.site_in_force import SiteInForce
from tieline_edge.commissioning.token import new_token
from tieline_edge.control.pace import Pace
from tieline_edge.control.rehearsal import DRY_RUN
from tieline_edge.forecasting.forecaster import Forecaster
from tieline_edge.forecasting.history import HistoryStore
from tieline_edge.forecasting.store import ModelStore
from tieline_edge.forecasting.trial import try_in_child
from tieline_edge.lanes import Lanes, build
from tieline_edge.local_pages import Local, LocalPages
from tieline_edge.outbox.store import Outbox
from tieline_edge.pages import Pages
from tieline_edge.pollers import Pollers
from tieline_edge.service import Notifier, check_watchdog
from tieline_edge.settings import EdgeSettings
from tieline_edge.state_lock import hold_state

_LOG = logging.getLogger(__name__)
#: Wall time for letting go of devices and recording the last events at the end.
_FAREWELL_S: Final = 3.0
#: Longest wall time the first cycle waits for devices that rules watch, and for all others: a third of them may be dead.
_FIRST_WATCHED_S: Final = 2.0
_FIRST_OTHERS_S: Final = 0.8
#: Issue this long after a step's start, so that its last readings are in [s].
_AFTER_STEP_S: Final = 5.0


class Agent:
    """Everything an edge does, from start to a clean end.

    Args:
        site: The configuration, or only its settings.
        clock: The clock; None makes the one the configuration names.
    """

    def __init__(self, site: SiteInForce | EdgeSettings, clock: Clock | None = None) -> None:
        self._site = site if isinstance(site, SiteInForce) else SiteInForce(site)
        self._settings = settings = self._site.settings
        self._clock = clock or make_clock(settings)
        self._began_s = time.monotonic()
        self._ready_s: float | None = None
        self._stop = asyncio.Event()
        self.ready = asyncio.Event()
        self.forecaster: Forecaster | None = None
        self._issued: IssuedForecast | None = None
        self._systemd = Notifier(None)
        #: Port of the status pages once they are served.
        self.port: int | None = None

    def stop(self) -> None:
        """Ask for a clean end."""
        self._stop.set()

    async def run(self) -> None:
        """Run until :meth:`stop`, SIGTERM or SIGINT.

        Raises:
            tieline_core.errors.TielineError: When the configuration cannot be run.
        """
        cycle = self._settings.cycle
        check_watchdog(max(cycle.floor_wall_s, cycle.period_s / max(self._clock.speed(), 1e-9)))
        async with AsyncExitStack() as stack:
            self._systemd = stack.enter_context(closing(Notifier.of_environment()))
            stack.enter_context(hold_state(self._settings.state_dir, "the running agent"))
            path = self._settings.state_dir / "outbox.sqlite"
            outbox = await stack.enter_async_context(
                Outbox.open(path, self._settings.edge_id, self._settings.outbox, self._clock)
            )
            parts = self._composed(outbox)
            stack.enter_context(closing(parts.trace))
            parts.cycle.restore()
            await self._serve(parts)

    def _composed(self, outbox: Outbox) -> Composition:
        """The parts; a configuration of the hub that cannot be started must not keep the site from running."""
        try:
            return compose(self._site, self._clock, outbox)
        except Exception as error:
            local = self._site.fallen_back(error)
            if local is None:
                raise
            _LOG.error("the configuration of the hub cannot be started, the file at the site runs: %s", error)
            self._site, self._settings = local, local.settings
            return compose(local, self._clock, outbox)

    async def _serve(self, parts: Composition) -> None:
        pollers = Pollers(parts.handles, parts.context, self._settings.cycle)
        lanes = build(parts, SiteTaker(parts, pollers))
        await lanes.downlink.restore()
        async with asyncio.TaskGroup() as group:
            outlet = group.create_task(parts.outlet.run(), name="outlet")
            running = [
                group.create_task(pollers.run(), name="pollers"),
                group.create_task(lanes.durable.run(), name="durable-lane"),
                group.create_task(lanes.downlink.follow(), name="downlink"),
                group.create_task(lanes.live.run(), name="live-lane"),
            ]
            running.append(group.create_task(parts.trace.run(), name="trace"))
            running += [group.create_task(pages, name="pages") for pages in self._serve_pages(parts, lanes)]
            if self._settings.forecast.enabled:
                running.append(group.create_task(self._forecast(parts, lanes), name="forecast"))
            control = group.create_task(self._control(parts), name="control")
            await self._until_stopped()
            _LOG.info("stopping")
            # Devices are let go first, while their connections stand; what that causes is still recorded.
            await _end(control)
            for task in running:
                await _end(task)
            await parts.outlet.drain(_FAREWELL_S)
            await _end(outlet)

    async def _until_stopped(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        try:
            await self._stop.wait()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _listening(self, port: int) -> None:
        self.port = port

    async def _control(self, parts: Composition) -> None:
        """The control loop; it alone feeds the watchdog."""
        cycle = self._settings.cycle
        if parts.monitor_only:
            text = "no hub key is configured: this edge measures, records and sends, and writes to no device"
            parts.outlet.tell(Severity.ACTION, "edge.monitor_only", text)
        if self._settings.dry_run:
            parts.outlet.tell(Severity.ACTION, "edge.dry_run", f"{DRY_RUN}; what would be written is told and traced")
        await self._first_polls(parts)
        try:
            async with parts.executor, Pace(self._clock, cycle, parts.image.crossed, parts.cycle.stats.pace) as pace:
                while True:
                    await parts.cycle.run_once(parts.executor)
                    if self._ready_s is None:
                        self._ready_s = time.monotonic() - self._began_s
                        self.ready.set()
                        self._systemd.tell("READY=1")
                        parts.outlet.tell(Severity.INFORMATION, "edge.started", f"{SOFTWARE} started in {self._ready_s:.1f} s")
                    self._systemd.tell("WATCHDOG=1")
                    await pace.wait()
        finally:
            self._systemd.tell("STOPPING=1")
            try:
                async with asyncio.timeout(_FAREWELL_S):
                    await parts.executor.release_all()
            except TimeoutError:
                _LOG.warning("not every device could be released in time; their own timers do it")
            await parts.cycle.close()

    @staticmethod
    async def _first_polls(parts: Composition) -> None:
        """Give every polled device the chance to answer once, so that the first decisions know the field."""
        polled = [handle for handle in parts.handles.values() if handle.settings.mqtt is None]
        watched, begun_s = parts.cycle.watched, time.monotonic()
        while silent := {one.id for one in polled if one.counters.polls + one.counters.failures == 0}:
            if time.monotonic() - begun_s >= (_FIRST_OTHERS_S if silent.isdisjoint(watched) else _FIRST_WATCHED_S):
                _LOG.info("control starts without %d of %d devices, they have not answered yet", len(silent), len(polled))
                break
            await asyncio.sleep(0.02)

    async def _forecast(self, parts: Composition, lanes: Lanes) -> None:
        """Issue at once, at every period and when a new model was installed; feed the history with what the cycle derives."""
        async with HistoryStore(parts.paths.history) as history:
            if history.damage is not None:
                parts.outlet.tell(Severity.ALARM, "edge.state_damaged", history.damage)
            forecaster = Forecaster(parts.load_point, ModelStore(parts.paths.models, trial=try_in_child), history)
            await forecaster.start()
            self.forecaster = forecaster
            lanes.models.serve(forecaster)
            parts.outlet.taps.append(forecaster.add)
            step = timedelta(seconds=self._settings.forecast.issue_every_s)
            while True:
                now = self._clock.now()
                await self._issue(parts, forecaster, now)
                await self._until_due_or_new((floor_to(now, step) + step - now).total_seconds() + _AFTER_STEP_S, lanes)

    async def _until_due_or_new(self, seconds: float, lanes: Lanes) -> None:
        async with asyncio.TaskGroup() as group:
            waits = [
                group.create_task(self._clock.sleep(seconds), name="forecast due"),
                group.create_task(lanes.models.installed.wait(), name="forecast by a new model"),
            ]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        lanes.models.installed.clear()

    async def _issue(self, parts: Composition, forecaster: Forecaster, now: datetime) -> None:
        forecast = await forecaster.issue(now)
        if forecast is None:
            return
        self._issued = forecast
        await parts.cycle.take_forecast(forecast)
        try:
            await parts.outbox.record_forecast(forecast)
        except TransientError as error:
            _LOG.warning("forecast of %s not recorded: %s", forecast.issued_at, error)

    def _forecast_words(self) -> str:
        if not self._settings.forecast.enabled:
            return "switched off"
        if self.forecaster is None:
            return "starting"
        return self.forecaster.fallback_reason or f"by model {str(self.forecaster.model_sha256)[:12]}"

    def _local(self) -> Local:
        return Local(self._ready_s, self._forecast_words(), self._issued)

    def _serve_pages(self, parts: Composition, lanes: Lanes) -> list[Coroutine[Any, Any, None]]:
        settings, made = self._settings.metrics, LocalPages(parts, lanes, self._local)
        serving: list[Coroutine[Any, Any, None]] = []
        if settings.port:
            orders = Orders(new_token(parts.paths.token), tag_orders(parts.tags, parts.executor, self._clock))
            pages = Pages(settings.port, made.loopback(), orders.answer)

            def listening(port: int) -> None:
                orders.renew(new_token(parts.paths.token))
                self._listening(port)

            serving.append(pages.serve(parts.outlet.tell, listening))
        if settings.lan is not None:
            where = f"{settings.lan.address}:{settings.lan.port}"
            text = f"the status page is served on {where} without TLS and without a password: whoever reaches it can read it"
            parts.outlet.tell(Severity.ACTION, "page.lan", text)
            serving.append(Pages(settings.lan.port, made.read_only(), host=str(settings.lan.address)).serve(parts.outlet.tell))
        return serving


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end; an error of its last breath is told, not raised over the others."""
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        current = asyncio.current_task()
        if current is not None and current.cancelling():
            raise
    except TielineError as error:
        _LOG.warning("%s ended with: %s", task.get_name(), error)
