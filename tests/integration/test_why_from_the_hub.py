"""Why, from the hub's API to the trace of an edge and back, over a real broker."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import Broker
from tests.integration.test_reconciliation import EDGE, PRIVATE, hub
from tieline_cloud.fleet.explain import Explainer
from tieline_cloud.fleet.reconcile import NoReplyError, RequestRefusedError
from tieline_cloud.store.memory_store import MemoryStore
from tieline_core.clock import SystemClock
from tieline_core.ids import DeviceId
from tieline_core.signing import Signer
from tieline_edge.control.arbiter import decide
from tieline_edge.control.claims import Band, Claim
from tieline_edge.control.facts import DeviceFacts, SiteFacts
from tieline_edge.control.memory import ArbiterMemory
from tieline_edge.control.replay import Asked
from tieline_edge.control.trace import Trace
from tieline_edge.drivers.capabilities import Capability, DeviceSpec, Role
from tieline_edge.lanes import RequestTaker, explained
from tieline_edge.outbox.store import Outbox
from tieline_edge.settings import MqttEndpoint, OutboxSettings
from tieline_edge.sync.artifacts import Artifacts
from tieline_edge.sync.downlink import Downlink
from tieline_edge.sync.durable import DurableLane, durable_link
from tieline_edge.sync.explanation import Explanations
from tieline_edge.sync.reconciliation import Reconciliation
from tieline_edge.sync.sinks import Sinks
from tieline_edge.sync.trusted import trusted_keys
from tieline_edge.sync.uplink import Uplink

pytestmark = pytest.mark.broker
BAT = DeviceId("bat1")


def kept(path: Path, now: datetime) -> Trace:
    trace = Trace.open(path)
    specs = {BAT: DeviceSpec(BAT, Role.STORAGE, frozenset({Capability.HOLD_POWER}), None, -6e3, 6e3, 1e4)}
    far = datetime(2100, 1, 1, tzinfo=UTC)
    claims = (Claim(BAT, Band.OPERATOR, "command-1", "asked by ada", setpoint_w=-2e3, expires_at=far),)
    facts = SiteFacts({BAT: DeviceFacts(0.0, 50.0, ages_s={"p_w": 0.1, "soc_pct": 0.1})})
    asked = Asked(specs, claims, ArbiterMemory(), facts, now, 180.0)
    trace.decided(decide(specs, claims, ArbiterMemory(), facts, now, 180.0).by_device, asked, now)
    return trace


async def test_the_hub_hears_why_from_the_trace_of_the_edge(broker: Broker, tmp_path: Path) -> None:
    clock = SystemClock()
    trace = kept(tmp_path / "trace.sqlite", clock.now())
    parts: Any = SimpleNamespace(
        clock=clock,
        trace=trace,
        paths=SimpleNamespace(trace=tmp_path / "trace.sqlite"),
        settings=SimpleNamespace(site=SimpleNamespace(time_zone="Europe/Berlin")),
    )
    settings = OutboxSettings(commit_interval_s=0.0)
    async with (
        hub(broker, tmp_path, MemoryStore()) as serving,
        Outbox.open(tmp_path / "outbox.sqlite", EDGE, settings, clock) as outbox,
    ):
        uplink = Uplink(outbox, clock, "tieline-edge 0", "boot-1")
        explanations = Explanations(EDGE, clock, lambda request: explained(parts, request))
        reconciliation = Reconciliation(outbox, clock)
        sinks = Sinks(request=RequestTaker(reconciliation, explanations))
        keys = trusted_keys([Signer(PRIVATE).public.hex()])
        artifacts = Artifacts(tmp_path / "artifacts", "http://127.0.0.1:9")
        downlink = Downlink(outbox, clock, keys, uplink.nonces, artifacts, tmp_path, sinks)
        endpoint = MqttEndpoint(host=broker.host, port=broker.port, insecure=True)
        lane = DurableLane(durable_link(endpoint, EDGE), [uplink, downlink, reconciliation, explanations])
        explainer = Explainer(serving.requests, silence_s=20.0)
        with pytest.raises(NoReplyError):
            await Explainer(serving.requests, silence_s=0.1).ask(EDGE, BAT, None, replay=False)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(lane.run())
            async with asyncio.timeout(60):
                while not uplink.online:  # noqa: ASYNC110 - the state of a network lane
                    await asyncio.sleep(0.02)
            reply = await explainer.ask(EDGE, BAT, None, replay=True)
            assert "hold -2 kW (discharge)" in reply.text
            assert "operator (command-1): hold -2000 W, asked by ada" in reply.text
            assert "the arbiter answers the same" in reply.text
            with pytest.raises(RequestRefusedError, match=r"did you mean bat1\? There is: bat1"):
                await explainer.ask(EDGE, DeviceId("bat11"), None, replay=False)
            with pytest.raises(RequestRefusedError, match="nothing is kept about bat1 up to then"):
                await explainer.ask(EDGE, BAT, datetime(2016, 1, 1, tzinfo=UTC), replay=False)
            running.cancel()
    trace.close()
