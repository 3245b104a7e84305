"""An edge whose pollers run and whose loop goes on, and a hub's key that publishes configurations for it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from tests.edge.commissioning.site import battery, load, tree
from tests.edge.drivers.field import ModbusServer
from tieline_core.clock import SystemClock
from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.site_config import SiteConfiguration
from tieline_core.signing import EnvelopeType, Signer
from tieline_edge.bootstrap import Composition, compose
from tieline_edge.commissioning.reload import SiteTaker
from tieline_edge.commissioning.site_in_force import SiteInForce, site_in_force
from tieline_edge.outbox.store import Outbox
from tieline_edge.pollers import Pollers

EDGE = EdgeId("harbour")
NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)


class Site:
    """A site file, a key that signs for it, and what both servers saw."""

    def __init__(self, folder: Path, old: ModbusServer, new: ModbusServer) -> None:
        self.folder, self.old, self.new = folder, old, new
        self.signer = Signer(Signer.new_private())
        self.path = folder / "site.yaml"
        self.tree = tree(folder, [battery(old.port), load(old.port)])
        self.tree["hub"]["public_keys"] = [self.signer.public.hex()]
        self.write(self.tree)
        self.published = 0

    def write(self, made: dict[str, Any]) -> None:
        self.path.write_text(yaml.safe_dump(made, sort_keys=False), encoding="utf-8")

    def with_devices(self, *devices: dict[str, Any], **rest: Any) -> dict[str, Any]:
        return {**self.tree, "devices": list(devices), **rest}

    def publish(self, made: dict[str, Any]) -> tuple[SiteConfiguration, str, bytes]:
        self.published += 1
        configuration = SiteConfiguration(
            config_id=f"config-{self.published:04}",
            edge_id=EDGE,
            issued_by="tests",
            issued_at=NOW,
            text=yaml.safe_dump(made, sort_keys=False),
        )
        valid = (NOW, NOW + timedelta(days=1))
        envelope = self.signer.seal(EnvelopeType.CONFIG, EDGE, configuration.to_bytes(), now=NOW, valid=valid)
        return configuration, hashlib.sha256(envelope).hexdigest(), envelope


class Running:
    """An edge without its loop: pollers run, devices are driven by hand."""

    def __init__(self, parts: Composition, taker: SiteTaker) -> None:
        self.parts, self.taker = parts, taker

    async def online(self, *devices: DeviceId) -> None:
        async with asyncio.timeout(30.0):
            while not all(self.parts.handles[device].online for device in devices):  # noqa: ASYNC110 (a counter has no event)
                await asyncio.sleep(0.01)


async def control(parts: Composition) -> None:
    """The loop goes on all the while, over every change."""
    while True:
        await parts.cycle.run_once(parts.executor)
        await asyncio.sleep(0.02)


@asynccontextmanager
async def edge(site: Site, found: SiteInForce | None = None) -> AsyncIterator[Running]:
    found = found or site_in_force(site.path)
    clock = SystemClock()
    found.settings.state_dir.mkdir(exist_ok=True)
    async with Outbox.open(found.settings.state_dir / "outbox.sqlite", EDGE, found.settings.outbox, clock) as outbox:
        parts = compose(found, clock, outbox)
        pollers = Pollers(parts.handles, parts.context, found.settings.cycle)
        running = asyncio.create_task(pollers.run())
        try:
            async with parts.executor, asyncio.TaskGroup() as group:
                loop = group.create_task(control(parts))
                made = Running(parts, SiteTaker(parts, pollers))
                await made.online(*parts.handles)
                yield made
                loop.cancel()
        finally:
            running.cancel()
            await asyncio.wait([running])
            parts.trace.close()
