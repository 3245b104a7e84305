"""A hub as a process with a small network, an edge that speaks, and a browser that notes everything that goes wrong.

Browser tests need chromium. ``deploy/system-packages.sh`` installs it when it may (root); in CI, or as root, a missing one
is an error. Where it is missing on a developer's machine the tests are deselected, and the summary says so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import paho.mqtt.client as paho
import pytest
import yaml
from paho.mqtt.enums import CallbackAPIVersion
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from deploy.ports import free_port
from tests.conftest import Broker, make_broker
from tieline_cloud.__main__ import main
from tieline_core import topics
from tieline_core.frame import Frame, encode, encode_readings, encode_records
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.desired import Autonomy, LadderStep, Reported
from tieline_core.messages.telemetry import Event, FrameKind, Hello, HelloAnswer, Severity, Stream, StreamState
from tieline_core.quantities import Reading

VILLAGE = Path(__file__).parents[1] / "gridmodel" / "village.json"
HARBOUR = EdgeId("harbour")
#: Wall seconds between two words of the edge; the console calls one silent after ten.
BEAT_S = 1.0
VALUES = {"tr1/p_w": 780e3, "tr1/q_var": 90e3, "tr1/loading_pct": 127.0, "site/load_w": 640e3, "site/storage_w": -120e3}


def chromium() -> str | None:
    """Path of the browser, if it is installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


def _may_be_missing() -> bool:
    return chromium() is None and not os.environ.get("CI") and os.geteuid() != 0


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect browser tests where the browser may be missing and is."""
    if not _may_be_missing():
        return
    away = [item for item in items if item.get_closest_marker("browser")]
    config.hook.pytest_deselected(items=away)
    items[:] = [item for item in items if item not in away]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why they were deselected."""
    if _may_be_missing():
        terminalreporter.write_line("browser tests were deselected: chromium is not installed (see deploy/system-packages.sh)")


def now() -> datetime:
    """A real process runs on wall time."""
    return datetime.now(UTC)  # noqa: TID251 (a real process runs on wall time)


class SpeakingEdge:
    """A scripted edge: greets, sends readings and an alarm on the durable lane, and reports every second."""

    def __init__(self, broker: Broker) -> None:
        self._answered = threading.Event()
        self._stop = threading.Event()
        self._epoch = 0
        self._seq = 0
        self._thread = threading.Thread(target=self._speak, name="edge")
        self._client = paho.Client(CallbackAPIVersion.VERSION2, f"{HARBOUR}-durable")
        self._client.on_message = self._hear
        self._client.connect(broker.host, broker.port)

    def __enter__(self) -> Self:
        self._client.loop_start()
        self._client.subscribe(topics.answer(HARBOUR), qos=1)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._client.disconnect()
        self._client.loop_stop()

    def _hear(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        self._epoch = HelloAnswer.from_bytes(bytes(message.payload), message.topic).epoch
        self._answered.set()

    def _speak(self) -> None:
        while not self._answered.wait(BEAT_S) and not self._stop.is_set():
            streams = {stream: StreamState(next_seq=1, oldest_seq=1, acked_seq=0) for stream in Stream}
            word = Hello(
                edge_id=HARBOUR, epoch=0, boot_id="boot-1", nonce="n" * 16, streams=streams, software="0.1.0", at=now()
            )
            self._client.publish(topics.hello(HARBOUR), word.to_bytes(), qos=1)
        self._alarm()
        while not self._stop.is_set():
            self._measure()
            self._report()
            self._stop.wait(BEAT_S)

    def _alarm(self) -> None:
        text = "transformer at 127 %: 90 kW shed"
        event = Event(event_id="event-0001", edge_id=HARBOUR, severity=Severity.ALARM, code="shed.thermal", text=text, at=now())
        self._send(Stream.ALARM, 1, FrameKind.RECORDS, encode_records([event]))

    def _measure(self) -> None:
        self._seq += 1
        at = now()
        readings = [Reading(PointId(f"{HARBOUR}/{name}"), value, at) for name, value in VALUES.items()]
        self._send(Stream.MEASURE, self._seq, FrameKind.READINGS, encode_readings(readings))

    def _send(self, stream: Stream, seq: int, kind: FrameKind, body: bytes) -> None:
        payload = encode(Frame(HARBOUR, self._epoch, stream, seq, kind, body))
        self._client.publish(topics.frame(HARBOUR, stream), payload, qos=1)

    def _report(self) -> None:
        word = Reported(
            edge_id=HARBOUR,
            at=now(),
            software="0.1.0",
            boot_id="boot-1",
            monitor_only=False,
            ladder=LadderStep.CURRENT_PLAN,
            ladder_reason="",
            shed=("load01",),
            tagged=("bat01",),
            autonomy=Autonomy(hours=61.5, limited_by="schedule"),
        )
        self._client.publish(topics.reported(HARBOUR), word.to_bytes(), qos=1, retain=True)


@dataclass
class RunningHub:
    """A hub process on a port of its own that tests may kill and start again."""

    config: Path
    url: str
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start and wait until it says that it is ready."""
        command = [sys.executable, "-m", "tieline_cloud", "serve", str(self.config), "--log-level", "WARNING"]
        with (self.config.parent / "hub.log").open("a", encoding="utf-8") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            pytest.fail(f"the hub did not start: {(self.config.parent / 'hub.log').read_text(encoding='utf-8')}")
        assert json.loads(line)["url"] == self.url

    def kill(self) -> None:
        """SIGKILL, no goodbye."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


@contextmanager
def running_hub(folder: Path, broker: Broker) -> Iterator[RunningHub]:
    """A hub with the village as its network and one edge in its settings."""
    assert main(["keygen", str(folder / "keys")]) == 0
    battery = {"p_charge_max_w": 60000, "p_discharge_max_w": 60000, "energy_wh": 150000}
    port = free_port()
    tree = {
        "data_dir": "data",
        "signing_key": "keys/hub.key",
        "listen": {"port": port},
        "mqtt": {"host": broker.host, "port": broker.port, "insecure": True},
        "grid": {"file": str(VILLAGE), "estimate_every_s": 0.5},
        "edges": {"harbour": {"rated_va": 630000, "batteries": {"bat1": battery}}},
        "admitted_nodes": ["plant/press"],
    }
    config = folder / "hub.yaml"
    config.write_text(yaml.safe_dump(tree), encoding="utf-8")
    hub = RunningHub(config, f"http://127.0.0.1:{port}")
    try:
        hub.start()
        yield hub
    finally:
        hub.kill()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """A real hub on a real broker, with an edge that speaks."""
    folder = tmp_path_factory.mktemp("hub")
    broker = make_broker(folder)
    broker.start()
    try:
        with running_hub(folder, broker) as running, SpeakingEdge(broker):
            yield running
    finally:
        broker.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless chromium of the system."""
    program = chromium()
    if program is None:
        pytest.fail("chromium is not installed; deploy/system-packages.sh installs it, and as root or in CI it must be there")
    arguments = ["--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=arguments)
        yield running
        running.close()


@dataclass
class WatchedPage:
    """A page and everything it complained about."""

    page: Page
    url: str
    errors: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Note console errors, broken security policy and requests to other hosts."""
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.errors.append(f"pageerror: {error}"))
        self.page.on("request", self._on_request)
        self.page.add_init_script(
            "addEventListener('securitypolicyviolation', (e) => console.error(`CSP ${e.violatedDirective} ${e.blockedURI}`))"
        )

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith((f"{self.url}/", "data:")):
            self.elsewhere.append(request.url)

    def pixels(self, red: int, green: int, blue: int) -> int:
        """Pixels of the network picture in one colour, after the next two paints."""
        count: int = self.page.evaluate(
            """async ([r, g, b]) => {
              await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
              const canvas = document.querySelector('tl-network canvas');
              const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', { willReadFrequently: true });
              copy.drawImage(canvas, 0, 0);
              const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
              let count = 0;
              for (let i = 0; i < data.length; i += 4) if (data[i] === r && data[i + 1] === g && data[i + 2] === b) count += 1;
              return count;
            }""",
            [red, green, blue],
        )
        return count


@pytest.fixture
def watched(browser: Browser, hub: RunningHub) -> Iterator[WatchedPage]:
    """The overview in a fresh context, light, and at the size of a desk screen."""
    context = browser.new_context(viewport={"width": 1500, "height": 950}, color_scheme="light")
    context.set_default_timeout(15_000)
    watching = WatchedPage(context.new_page(), hub.url)
    watching.watch()
    watching.page.goto(f"{hub.url}/")
    yield watching
    context.close()
