"""The agent and a scripted hub over a real broker: what is signed is taken, what cannot be is refused in words."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from deploy.ports import free_port
from tests.certificates import clean_certificate
from tests.conftest import Broker
from tieline_core import topics
from tieline_core.clock import SystemClock
from tieline_core.errors import TransientError
from tieline_core.ids import DeviceId, EdgeId, PointId
from tieline_core.messages.command import Command, CommandReport, CommandState
from tieline_core.messages.desired import Desired, LadderStep, Reported
from tieline_core.messages.plan import Plan
from tieline_core.messages.policy import Policy
from tieline_core.messages.telemetry import Hello, HelloAnswer
from tieline_core.model_manifest import ModelManifest
from tieline_core.signing import EnvelopeType, Signer
from tieline_edge.agent import Agent
from tieline_edge.control.cycle import ControlCycle
from tieline_edge.lanes import ModelTaker, PolicyTaker
from tieline_edge.settings import EdgeSettings, MqttEndpoint
from tieline_edge.shedding.rule import VitalLoadError
from tieline_edge.sync.mqtt_session import MqttSession
from tieline_edge.sync.sinks import OfferRefusedError
from tieline_edge.sync.transport import MqttLink

EDGE = EdgeId("harbour")


def settings(folder: Path, broker: Broker, http: int, key: str) -> EdgeSettings:
    return EdgeSettings.model_validate(
        {
            "edge_id": EDGE,
            "state_dir": folder,
            "site": {"name": "Harbour", "rated_va": 630e3},
            "hub": {
                "mqtt": {"host": broker.host, "port": broker.port, "insecure": True},
                "http": f"http://127.0.0.1:{http}",
                "public_keys": [key],
            },
            "cycle": {"period_s": 0.05, "floor_wall_s": 0.05},
            "metrics": {"port": 0},
            "forecast": {"enabled": False},
            "devices": [
                {
                    "id": "bat1",
                    "catalog": "sunspec-storage-704",
                    "modbus": {"host": "127.0.0.1", "port": free_port(), "timeout_s": 0.2},
                    "p_min_w": -60e3,
                    "p_max_w": 60e3,
                    "energy_wh": 150e3,
                }
            ],
        }
    )


def plan(now: datetime) -> Plan:
    device = {"device_id": "bat1", "mode": "setpoint_w", "values_w": [5e3] * 8}
    return Plan.model_validate(
        {
            "plan_id": "plan-001",
            "edge_id": EDGE,
            "issued_at": now,
            "start": now - timedelta(minutes=1),
            "step_s": 900,
            "devices": [device],
            "certificate": clean_certificate(now),
        }
    )


class Hub:
    """Answers hellos, serves artifacts, signs what it is told to."""

    def __init__(self, session: MqttSession) -> None:
        self.session = session
        self.signer = Signer(Signer.new_private())
        self.artifacts: dict[str, bytes] = {}
        self.nonce = ""

    def seal(self, kind: EnvelopeType, payload: bytes, nonce: str | None = None) -> bytes:
        now = datetime.now(UTC)  # noqa: TID251 - the agent under test runs on the system's clock
        valid = (now - timedelta(minutes=1), now + timedelta(hours=1))
        return self.signer.seal(kind, EDGE, payload, now=now, valid=valid, nonce=nonce)

    def offer(self, made: Plan) -> None:
        envelope = self.seal(EnvelopeType.PLAN, made.to_bytes())
        sha256 = hashlib.sha256(envelope).hexdigest()
        self.artifacts[sha256] = envelope
        desired = Desired(edge_id=EDGE, plan=sha256)
        self.session.send(topics.desired(EDGE), self.seal(EnvelopeType.DESIRED, desired.to_bytes(), self.nonce))

    def command(self, made: Command) -> None:
        self.session.send(topics.command(EDGE), self.seal(EnvelopeType.COMMAND, made.to_bytes()))

    async def hello(self) -> None:
        while not self.nonce:
            message = await self.session.receive()
            if message.topic == topics.hello(EDGE):
                hello = Hello.from_bytes(message.payload, message.topic)
                self.nonce = hello.nonce
                answer = HelloAnswer(edge_id=EDGE, nonce=hello.nonce, epoch=1, watermarks=dict.fromkeys(hello.streams, 0))
                self.session.send(topics.answer(EDGE), answer.to_bytes())

    async def reported(self, what: str) -> Reported:
        """The next report in which the named field says something."""
        while True:
            message = await self.session.receive()
            if message.topic == topics.reported(EDGE):
                report = Reported.from_bytes(message.payload, message.topic)
                if getattr(report, what):
                    return report

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        body = self.artifacts.get(request.rsplit("/", 1)[-1])
        head = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        if body is not None:
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
        writer.write(head + (body or b""))
        await writer.drain()
        writer.close()


@asynccontextmanager
async def hub_at(broker: Broker, http: int) -> AsyncIterator[Hub]:
    link = MqttLink(MqttEndpoint(host=broker.host, port=broker.port, insecure=True), "hub")
    async with link.connect() as session:
        hub = Hub(session)
        await session.subscribe(topics.hello(EDGE), topics.reported(EDGE))
        server = await asyncio.start_server(hub.serve, "127.0.0.1", http)
        async with server:
            yield hub


@pytest.mark.broker
async def test_a_signed_plan_is_followed_and_a_signed_command_is_answered(broker: Broker, tmp_path: Path) -> None:
    http = free_port()
    async with asyncio.timeout(60.0), hub_at(broker, http) as hub:
        agent = Agent(settings(tmp_path, broker, http, hub.signer.public.hex()), SystemClock())
        async with asyncio.TaskGroup() as group:
            group.create_task(agent.run())
            await hub.hello()
            now = datetime.now(UTC)  # noqa: TID251 - the agent under test runs on the system's clock
            hub.offer(plan(now))
            report = await hub.reported("plan_id")
            assert report.plan_id == "plan-001"
            assert report.ladder is LadderStep.CURRENT_PLAN
            assert report.plan_sha256 in hub.artifacts
            hub.command(
                Command(
                    command_id="command-1",
                    edge_id=EDGE,
                    device_id=DeviceId("bat1"),
                    action=cast("Any", "setpoint_w"),
                    value_w=999e3,
                    expires_at=now + timedelta(minutes=5),
                    issued_by="ada",
                    issued_at=now,
                    reason="a setpoint beyond the rating",
                )
            )
            report = await hub.reported("commands")
            assert report.commands[0].state is CommandState.REFUSED
            assert "outside" in report.commands[0].text
            agent.stop()


class Refusing:
    """A cycle that takes no policy."""

    def take_policy(self, policy: Policy) -> None:
        raise VitalLoadError(DeviceId("load10"), 3)

    def take_command(self, command: Command) -> CommandReport:
        raise AssertionError(command)


async def test_a_policy_that_could_shed_a_vital_load_is_refused() -> None:
    policy = Policy(policy_id="policy-1", edge_id=EDGE)
    with pytest.raises(VitalLoadError):
        await PolicyTaker(cast("ControlCycle", Refusing())).offer(policy, "a" * 64)


class Forecasts:
    """A forecaster of one point."""

    point = PointId("harbour/site/load_w")

    def __init__(self) -> None:
        self.installed: list[str] = []

    async def install(self, _manifest: bytes, _onnx: bytes, _seed: bytes | None, sha256: str) -> None:
        self.installed.append(sha256)


async def test_models_wait_for_the_forecaster_and_are_taken_for_its_point_only() -> None:
    async def fetch(sha256: str, max_bytes: int) -> bytes:
        raise AssertionError((sha256, max_bytes))

    taker = ModelTaker()
    with pytest.raises(TransientError, match="not started"):
        await taker.offer(Forecasts.point, b"{}", "a" * 64, fetch)
    taker.serve(cast("Any", Forecasts()))
    with pytest.raises(OfferRefusedError, match="is not forecast here"):
        await taker.offer(PointId("harbour/site/pv_w"), b"{}", "a" * 64, fetch)
    assert not taker.installed.is_set()


async def test_a_model_that_was_installed_is_let_speak_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fetch(_sha256: str, _max_bytes: int) -> bytes:
        return b"onnx"

    named = SimpleNamespace(point=Forecasts.point, onnx_sha256="b" * 64, seed=None)
    monkeypatch.setattr(ModelManifest, "from_bytes", lambda *_: named)
    taker, forecaster = ModelTaker(), Forecasts()
    taker.serve(cast("Any", forecaster))
    await taker.offer(Forecasts.point, b"{}", "a" * 64, fetch)
    assert forecaster.installed == ["a" * 64]
    assert taker.installed.is_set()
