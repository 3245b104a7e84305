"""A real VictoriaMetrics on loopback that tests may kill and start again."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

from deploy.ports import free_port
from tests.conftest import wait_for_port


@dataclass
class VictoriaMetrics:
    """One server process with its own storage."""

    port: int
    folder: Path
    program: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [
            self.program,
            f"-httpListenAddr=127.0.0.1:{self.port}",
            f"-storageDataPath={self.folder}",
            "-retentionPeriod=100y",
            "-search.latencyOffset=0s",
            "-search.disableCache",
            "-dedup.minScrapeInterval=1ms",
            "-memory.allowedBytes=200MB",
            "-loggerLevel=ERROR",
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_port(self.port, self.process, 30)

    def kill(self) -> None:
        """SIGKILL, no flush."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def count(self, selector: str = '{__name__=~"tieline_.*"}') -> int:
        """Samples held, each point and instant once."""
        form = urlencode({"match[]": selector}).encode()
        rows = 0
        with urlopen(Request(f"{self.url}/api/v1/export/csv?format=__timestamp__:unix_ms", form), timeout=60) as answer:  # noqa: S310 (our own process on loopback)
            for block in iter(lambda: answer.read(1 << 20), b""):
                rows += block.count(b"\n")
        return rows

    def until_count(self, expected: int, seconds: float = 30.0, selector: str = '{__name__=~"tieline_.*"}') -> int:
        """Count, waiting until what was accepted can be read."""
        deadline, wake = time.monotonic() + seconds, threading.Event()
        while (found := self.count(selector)) != expected and time.monotonic() < deadline:
            wake.wait(0.2)
        return found


@pytest.fixture
def victoria_metrics(tmp_path: Path) -> Iterator[VictoriaMetrics]:
    """A running VictoriaMetrics, fresh for each test."""
    program = shutil.which("victoria-metrics")
    if program is None:
        pytest.fail("victoria-metrics is not installed; it is the apt package victoria-metrics")
    server = VictoriaMetrics(free_port(), tmp_path / "victoria-metrics", program)
    server.start()
    yield server
    server.kill()
