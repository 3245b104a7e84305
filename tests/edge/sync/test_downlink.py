"""The downlink: what is verified is taken, everything else is refused by name and the old stays."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tieline_core import topics
from tieline_core.clock import ManualClock
from tieline_core.errors import BadInputError, TransientError
from tieline_core.frame import decode_records
from tieline_core.ids import DeviceId, EdgeId, PointId
from tieline_core.messages.command import Action, Command, CommandReport, CommandState
from tieline_core.messages.desired import Autonomy, Desired
from tieline_core.messages.plan import Certificate, Plan, Verdict
from tieline_core.messages.policy import Policy
from tieline_core.messages.site_config import SiteConfiguration
from tieline_core.messages.telemetry import Event, Stream
from tieline_core.signing import EnvelopeType, Signer, key_id
from tieline_edge.outbox.store import Outbox
from tieline_edge.settings import OutboxSettings
from tieline_edge.sync.artifacts import Artifacts
from tieline_edge.sync.downlink import Downlink
from tieline_edge.sync.mqtt_session import Message
from tieline_edge.sync.reporter import Reporter
from tieline_edge.sync.sinks import Fetch, OfferRefusedError, RunningState, Sinks
from tieline_edge.sync.trusted import trusted_keys

EDGE = EdgeId("harbour")
START = datetime(2016, 12, 7, 17, 30, tzinfo=UTC)
VALID = (START - timedelta(hours=1), START + timedelta(hours=24))
NONCE = "n" * 32
POINT = PointId("harbour/site/load_w")


@dataclass
class Recorder:
    """Takes everything, unless told to refuse."""

    plans: list[Plan] = field(default_factory=list)
    policies: list[Policy] = field(default_factory=list)
    models: list[tuple[PointId, bytes, bytes]] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    configs: list[SiteConfiguration] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    refuse: bool = False

    def sinks(self) -> Sinks:
        recorder = self

        class Plans:
            async def offer(self, plan: Plan, sha256: str) -> None:
                if recorder.refuse:
                    raise OfferRefusedError("devices", "device bat9 is unknown here")
                recorder.plans.append(plan)
                recorder.order.append("plan")

        class Policies:
            async def offer(self, policy: Policy, sha256: str) -> None:
                recorder.policies.append(policy)

        class Models:
            async def offer(self, point: PointId, manifest: bytes, sha256: str, fetch: Fetch) -> None:
                blob = await fetch(manifest.decode(), 1000)
                recorder.models.append((point, manifest, blob))

        class Commands:
            async def offer(self, command: Command) -> CommandReport:
                recorder.commands.append(command)
                return CommandReport(command_id=command.command_id, state=CommandState.ACCEPTED, at=START)

        class Configs:
            async def offer(self, configuration: SiteConfiguration, sha256: str, envelope: bytes) -> None:
                assert hashlib.sha256(envelope).hexdigest() == sha256
                if recorder.refuse:
                    raise OfferRefusedError("fixed", "hub.public_keys: changes with a restart only")
                recorder.configs.append(configuration)
                recorder.order.append("config")

        return Sinks(Plans(), Policies(), Models(), Commands(), config=Configs())


@dataclass
class Hub:
    """Signs, and serves artifacts over real HTTP."""

    address: str
    files: dict[str, bytes]
    asked: list[str]
    signer: Signer = field(default_factory=lambda: Signer(Signer.new_private()))
    edge: EdgeId = EDGE

    def put(self, data: bytes) -> str:
        name = hashlib.sha256(data).hexdigest()
        self.files[name] = data
        return name

    def seal(self, kind: EnvelopeType, payload: bytes, nonce: str | None = None) -> bytes:
        return self.signer.seal(kind, self.edge, payload, now=START, valid=VALID, nonce=nonce)

    def plan(self, plan_id: str = "plan-0001") -> str:
        return self.put(self.seal(EnvelopeType.PLAN, plan(plan_id).to_bytes()))

    def desired(self, nonce: str = NONCE, **wanted: object) -> Message:
        body = Desired.model_validate({"edge_id": EDGE, **wanted}).to_bytes()
        return Message(topics.desired(EDGE), self.seal(EnvelopeType.DESIRED, body, nonce), 1, False)

    def command(self, command_id: str = "command-1") -> Message:
        return Message(topics.command(EDGE), self.seal(EnvelopeType.COMMAND, command(command_id).to_bytes()), 1, False)


def plan(plan_id: str) -> Plan:
    certificate = Certificate(
        verdict=Verdict.CLEAN, max_loading_pct={"p10": 1.0, "p50": 2.0, "p90": 3.0}, max_loading_element="tr1", min_vm_pu=0.98,
        max_vm_pu=1.01, optimality_gap=0.0, objective_eur=1.0, objective_without_eur=2.0, iterations=1, input_sha256={},
        solver="test", checked_at=START,
    )  # fmt: skip
    return Plan(
        plan_id=plan_id, edge_id=EDGE, issued_at=START, start=START, step_s=900, devices=(), certificate=certificate
    )  # fmt: skip


def command(command_id: str) -> Command:
    return Command(
        command_id=command_id, edge_id=EDGE, device_id=DeviceId("load01"), action=Action.OPEN,
        expires_at=START + timedelta(minutes=5), issued_by="op", issued_at=START, reason="a test",
    )  # fmt: skip


@pytest.fixture
def hub() -> Iterator[Hub]:
    files: dict[str, bytes] = {}
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            data = files.get(self.path.removeprefix("/v1/artifacts/"))
            self.send_response(404 if data is None else 200)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the standard library's name)
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield Hub(f"http://127.0.0.1:{server.server_address[1]}", files, asked)
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Edge:
    """A downlink with everything around it."""

    downlink: Downlink
    outbox: Outbox
    taken: Recorder
    clock: ManualClock

    async def hear(self, message: Message) -> None:
        await self.downlink.take(message)
        if self.downlink._wanted is not None:
            await self.downlink._bring_about()

    async def alarms(self) -> list[str]:
        frames = await self.outbox.next_frames(Stream.ALARM, 0, 100)
        records = [record for frame in frames for record in decode_records(frame.body)]
        return [record.text for record in records if isinstance(record, Event)]

    @property
    def checks(self) -> list[tuple[str, str]]:
        return [(refusal.what, refusal.check) for refusal in self.downlink.refusals]


@asynccontextmanager
async def edge_at(folder: Path, hub: Hub, *, keys: bool = True) -> AsyncIterator[Edge]:
    clock, taken = ManualClock(START), Recorder()
    async with Outbox.open(folder / "outbox.sqlite", EDGE, OutboxSettings(commit_interval_s=0.0), clock) as outbox:
        await outbox.relabel(1)
        trusted = trusted_keys([hub.signer.public.hex()] if keys else [])
        artifacts = Artifacts(folder / "artifacts", hub.address, timeout_s=5)
        nonces: deque[str] = deque([NONCE], maxlen=8)
        yield Edge(Downlink(outbox, clock, trusted, nonces, artifacts, folder, taken.sinks()), outbox, taken, clock)


async def test_a_desired_plan_policy_and_model_are_pulled_verified_and_taken(tmp_path: Path, hub: Hub) -> None:
    blob = hub.put(b"onnx bytes")
    policy = hub.put(hub.seal(EnvelopeType.POLICY, Policy(policy_id="policy-1", edge_id=EDGE).to_bytes()))
    model = hub.put(hub.seal(EnvelopeType.MODEL, blob.encode()))
    wanted: dict[str, Any] = {"plan": hub.plan(), "policy": policy, "models": {POINT: model}}
    async with edge_at(tmp_path, hub) as edge:
        await edge.hear(hub.desired(**wanted))
        assert [held.plan_id for held in edge.taken.plans] == ["plan-0001"]
        assert [held.policy_id for held in edge.taken.policies] == ["policy-1"]
        assert edge.taken.models == [(POINT, blob.encode(), b"onnx bytes")]
        assert edge.downlink.installed.models == {POINT: model}
        assert edge.checks == []
        asked = len(hub.asked)
        await edge.hear(hub.desired(**wanted))
        assert len(hub.asked) == asked


def configuration(hub: Hub, text: str = "edge_id: harbour\n", edge: EdgeId = EDGE) -> str:
    made = SiteConfiguration(config_id="config-01", edge_id=edge, issued_by="op", issued_at=START, text=text)
    return hub.put(hub.seal(EnvelopeType.CONFIG, made.to_bytes()))


async def test_a_configuration_comes_before_the_plan_for_its_devices_and_is_not_offered_twice(tmp_path: Path, hub: Hub) -> None:
    wanted: dict[str, Any] = {"plan": hub.plan(), "config": configuration(hub)}
    async with edge_at(tmp_path, hub) as edge:
        await edge.hear(hub.desired(**wanted))
        assert edge.taken.order == ["config", "plan"]
        assert edge.downlink.installed.config == wanted["config"]
    async with edge_at(tmp_path, hub) as edge:
        await edge.downlink.restore()
        await edge.hear(hub.desired(**wanted))
        assert edge.taken.configs == [], "it is in force from the start, and named by its hash"


async def test_a_configuration_that_is_refused_is_reported_and_the_plan_is_taken_all_the_same(tmp_path: Path, hub: Hub) -> None:
    async with edge_at(tmp_path, hub) as edge:
        for sha256, check in (
            (configuration(hub, edge=EdgeId("mill")), "content"),
            (hub.put(hub.seal(EnvelopeType.POLICY, b"{}")), "type"),
            (hub.put(hub.seal(EnvelopeType.CONFIG, b"{}")), "content"),
        ):
            await edge.hear(hub.desired(config=sha256))
            assert edge.checks[-1] == ("config", check)
        edge.taken.refuse = True
        fixed = configuration(hub)
        await edge.hear(hub.desired(config=fixed))
        assert edge.checks[-1] == ("config", "fixed")
        assert edge.downlink.refusals[-1].sha256 == fixed
        assert edge.downlink.installed.config is None
        edge.downlink.overruled("config", fixed, "the file at the site was edited")
        assert edge.checks[-1] == ("config", "local")


async def test_after_a_restart_without_a_hub_the_plan_is_offered_again_from_disk(tmp_path: Path, hub: Hub) -> None:
    async with edge_at(tmp_path, hub) as edge:
        await edge.hear(hub.desired(plan=hub.plan()))
    hub.files.clear()
    asked = len(hub.asked)
    async with edge_at(tmp_path, hub) as edge:
        await edge.downlink.restore()
        assert [held.plan_id for held in edge.taken.plans] == ["plan-0001"]
        assert len(hub.asked) == asked


async def test_a_disk_that_takes_no_alarm_of_a_refused_plan_does_not_keep_the_edge_from_starting(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with edge_at(tmp_path, hub) as edge:
        await edge.hear(hub.desired(plan=hub.plan()))

    async def refuse(*_args: object) -> None:
        raise TransientError("outbox: nothing was kept")

    async with edge_at(tmp_path, hub) as edge:
        await edge.clock.advance(30 * 86_400.0)
        monkeypatch.setattr(edge.outbox, "alarm", refuse)
        await edge.downlink.restore()
        assert edge.taken.plans == []
        assert [refusal.what for refusal in edge.downlink.refusals] == ["plan"]


def tampered(message: Message) -> Message:
    return Message(message.topic, message.payload.replace(b'"payload":"', b'"payload":"AA'), message.qos, message.retain)


@pytest.mark.parametrize(
    ("kind", "check"),
    [("tampered", "signature"), ("garbage", "format"), ("other edge", "edge"), ("other type", "type"), ("expired", "validity"),
     ("other key", "key"), ("nonce", "nonce"), ("replay", "replay")],
)  # fmt: skip
async def test_a_desired_state_that_must_not_be_obeyed_is_refused_and_the_old_stays(
    tmp_path: Path, hub: Hub, kind: str, check: str
) -> None:
    async with edge_at(tmp_path, hub) as edge:
        older = hub.desired(plan=hub.plan("plan-old1"))
        first = hub.plan()
        await edge.hear(hub.desired(plan=first))
        message = hub.desired(plan=hub.plan("plan-0002"))
        match kind:
            case "tampered":
                message = tampered(message)
            case "garbage":
                message = Message(message.topic, b"{" * 100, 1, False)
            case "other edge":
                hub.edge = EdgeId("mill")
                message = hub.desired(plan=first)
            case "other type":
                message = Message(message.topic, hub.command().payload, 1, False)
            case "expired":
                await edge.clock.advance(3 * 86_400)
            case "other key":
                hub.signer = Signer(Signer.new_private())
                message = hub.desired(plan=first)
            case "nonce":
                message = hub.desired("x" * 32, plan=first)
            case "replay":
                message = older
        await edge.hear(message)
        assert edge.checks == [("desired", check)]
        assert edge.downlink.installed.plan == first
        assert [held.plan_id for held in edge.taken.plans] == ["plan-0001"]
        (text,) = await edge.alarms()
        assert "Refused desired" in text


async def test_a_counter_survives_the_restart_so_that_nothing_old_is_obeyed(tmp_path: Path, hub: Hub) -> None:
    older = hub.command("command-0")
    async with edge_at(tmp_path, hub) as edge:
        await edge.hear(hub.command("command-1"))
    async with edge_at(tmp_path, hub) as edge:
        await edge.hear(older)
        assert edge.checks == [("command", "replay")]
        assert edge.taken.commands == []


async def test_the_retained_desired_state_of_before_is_waited_out_without_alarm(tmp_path: Path, hub: Hub) -> None:
    async with edge_at(tmp_path, hub) as edge:
        stale = hub.desired("old-nonce-of-another-process", plan=hub.plan())
        await edge.hear(Message(stale.topic, stale.payload, 1, True))
        assert (edge.checks, edge.taken.plans) == ([], [])


@pytest.mark.parametrize(("kind", "check"), [("plan of another edge", "edge"), ("policy as plan", "type"), ("swapped", "hash")])
async def test_an_artifact_that_is_not_what_was_signed_for_is_refused(tmp_path: Path, hub: Hub, kind: str, check: str) -> None:
    async with edge_at(tmp_path, hub) as edge:
        name = hub.plan()
        if kind == "swapped":
            hub.files[name] = hub.files[hub.plan("plan-0002")]
        elif kind == "policy as plan":
            name = hub.put(hub.seal(EnvelopeType.POLICY, Policy(policy_id="policy-1", edge_id=EDGE).to_bytes()))
        else:
            hub.edge = EdgeId("mill")
            name = hub.plan("plan-mill")
            hub.edge = EDGE
        await edge.hear(hub.desired(plan=name))
        assert edge.checks == [("plan", check)]
        assert edge.taken.plans == []
        asked = len(hub.asked)
        await edge.hear(hub.desired(plan=name))
        assert len(hub.asked) == asked


async def test_what_a_sink_refuses_is_reported_with_its_check(tmp_path: Path, hub: Hub) -> None:
    async with edge_at(tmp_path, hub) as edge:
        edge.taken.refuse = True
        await edge.hear(hub.desired(plan=hub.plan()))
        assert edge.checks == [("plan", "devices")]
        assert edge.downlink.installed.plan is None


async def test_a_missing_artifact_is_tried_again_and_keeps_no_other_away(tmp_path: Path, hub: Hub) -> None:
    async with edge_at(tmp_path, hub) as edge:
        name = hub.plan()
        body = hub.files.pop(name)
        policy = hub.put(hub.seal(EnvelopeType.POLICY, Policy(policy_id="policy-1", edge_id=EDGE).to_bytes()))
        with pytest.raises(TransientError, match="404"):
            await edge.hear(hub.desired(plan=name, policy=policy))
        assert edge.downlink.installed.policy == policy
        hub.files[name] = body
        await edge.downlink._bring_about()
        assert edge.downlink.installed.plan == name


async def test_too_large_an_artifact_is_not_read_to_its_end(tmp_path: Path, hub: Hub) -> None:
    name = hub.put(b"x" * 10_000)
    with pytest.raises(OfferRefusedError, match="more than 1000 bytes"):
        await Artifacts(tmp_path, hub.address).get(name, 1000)


async def test_a_command_is_handed_over_once_however_often_it_comes(tmp_path: Path, hub: Hub) -> None:
    async with edge_at(tmp_path, hub) as edge:
        message = hub.command()
        await edge.hear(message)
        await edge.hear(message)
        assert [held.command_id for held in edge.taken.commands] == ["command-1"]
        assert edge.downlink.counters.repeated == 1


async def test_retained_and_expired_commands_are_refused(tmp_path: Path, hub: Hub) -> None:
    async with edge_at(tmp_path, hub) as edge:
        await edge.hear(Message(topics.command(EDGE), hub.command("command-1").payload, 1, True))
        late = hub.command("command-2")
        await edge.clock.advance(600)
        await edge.hear(late)
        assert edge.checks == [("command", "format"), ("command", "validity")]
        assert edge.taken.commands == []


async def test_an_edge_without_keys_obeys_nobody_and_says_so(tmp_path: Path, hub: Hub) -> None:
    async with edge_at(tmp_path, hub, keys=False) as edge:
        await edge.hear(hub.desired(plan=hub.plan()))
        await edge.hear(hub.command())
        assert (edge.taken.plans, edge.taken.commands, edge.checks) == ([], [], [])
        report = await Reporter(edge.outbox, edge.downlink, edge.clock, RunningState, "tieline-edge 0", "boot").report()
        assert report.monitor_only


async def test_the_report_names_what_is_in_force_and_what_was_refused(tmp_path: Path, hub: Hub) -> None:
    async with edge_at(tmp_path, hub) as edge:
        name = hub.plan()
        await edge.hear(hub.desired(plan=name))
        await edge.hear(Message(topics.command(EDGE), b"garbage", 1, False))
        report = await Reporter(edge.outbox, edge.downlink, edge.clock, RunningState, "tieline-edge 0", "boot").report()
        assert (report.plan_sha256, report.monitor_only) == (name, False)
        assert [refusal.check for refusal in report.refusals] == ["format"]
        assert report.desired_counter > 0
        assert report.backlog[Stream.ALARM].frames == 1


async def test_autonomy_is_computed_only_for_what_is_published(tmp_path: Path, hub: Hub) -> None:
    asked: list[Autonomy] = []

    def autonomy() -> Autonomy:
        asked.append(Autonomy(hours=3.0, limited_by="schedule", parts={"schedule": 3.0}))
        return asked[-1]

    async with edge_at(tmp_path, hub) as edge:
        reporter = Reporter(edge.outbox, edge.downlink, edge.clock, RunningState, "tieline-edge 0", "boot", autonomy)
        reporter._news()
        assert not asked
        report = await reporter.report()
        assert report.autonomy is not None
        assert (report.autonomy.hours, len(asked)) == (3.0, 1)


def test_keys_of_the_configuration_are_checked_by_name() -> None:
    public = Signer(Signer.new_private()).public
    assert trusted_keys([public.hex()]) == {key_id(public): public}
    for text in ("zz", "00"):
        with pytest.raises(BadInputError, match=r"hub\.public_keys\[0\]"):
            trusted_keys([text])
