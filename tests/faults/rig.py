"""Broker, hub and senders as real processes, with links between them that can be made to fail.

::

    sender h0 --link--+
    sender h1 --link--+-- mosquitto --hub link-- tieline-cloud serve (DuckDB)
    sender h2 --link--+

Everything is asyncio in the caller's loop except the processes. The hub is the product's command line; the senders run the
product's outbox and durable lane without field devices (:mod:`tests.faults.sender`).
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx
import numpy as np
import yaml

from deploy.ports import free_port
from tests.conftest import Broker, make_broker
from tests.faults.export_file import hashes_of_file, hashes_of_rows
from tests.faults.journal import Comparison, Hashes, Journal, compare
from tests.faults.programs import Program, RigError, Sender
from tests.faults.proxy import Proxy

_POLL_S: Final = 0.05
_MOST_MISDATED: Final = 10_000
_SPAN: Final = {"from": "2000-01-01T00:00:00Z", "to": "2200-01-01T00:00:00Z"}


@dataclass(frozen=True, slots=True)
class Layout:
    """What a rig consists of.

    Attributes:
        edges: Number of senders.
        sender: Arguments of every sender, see :mod:`tests.faults.sender`.
        seed: Of readings and links.
        persistent_broker: The broker keeps retained messages and sessions on the disk.
        future_s: How far ahead of the hub's clock an instant is believed; the product's default.
    """

    edges: int = 2
    sender: tuple[str, ...] = ()
    seed: int = 1
    persistent_broker: bool = False
    future_s: float = 300.0


class Rig:
    """Starts on entry, ends everything on exit.

    Attributes:
        senders: By edge name.
        hub: The hub's process.
        hub_link: The link between broker and hub.
    """

    def __init__(self, folder: Path, layout: Layout = Layout()) -> None:
        self.folder = folder
        self.layout = layout
        self.broker: Broker = make_broker(folder)
        self.senders: dict[str, Sender] = {}
        self.api = f"http://127.0.0.1:{free_port()}"
        self._stack = AsyncExitStack()
        self._http = httpx.AsyncClient(timeout=20.0, trust_env=False)
        self._exports = 0

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sender in self.senders.values():
            sender.program.end()
        if hasattr(self, "hub"):
            self.hub.end()
        self.broker.kill()
        await self._http.aclose()
        await self._stack.aclose()

    async def _start(self) -> None:
        if self.layout.persistent_broker:
            self._keep_broker_state()
        await asyncio.to_thread(self.broker.start)
        target = (self.broker.host, self.broker.port)
        self.hub_link = await self._stack.enter_async_context(Proxy(target, self.layout.seed))
        self._write_hub_config()
        self.hub = Program(
            "hub",
            [sys.executable, "-m", "tieline_cloud", "serve", str(self.folder / "hub.yaml")],
            self.folder / "logs/hub.log",
        )
        self.hub.start()
        for number in range(self.layout.edges):
            await self.add_sender(f"h{number}")
        for sender in self.senders.values():
            sender.start()
        await self.ready()

    def _keep_broker_state(self) -> None:
        state = self.folder / "broker-state"
        state.mkdir()
        state.chmod(0o777)
        conf = Path(self.broker.command[-1])
        lines = f"persistence true\npersistence_location {state}/\nautosave_on_changes true\nautosave_interval 1\n"
        # A broker that is started as root drops its rights, and then cannot write into the folder of a test.
        user = "user root\n" if os.geteuid() == 0 else ""
        conf.write_text(conf.read_text("utf-8").replace("persistence false\n", lines + user), encoding="utf-8")

    def _write_hub_config(self) -> None:
        self.set_clock("hub", 0.0)
        key = self.folder / "keys/hub.key"
        if not key.exists():
            key.parent.mkdir()
            key.write_bytes(bytes(range(32)))
            key.chmod(0o600)
        rules = self.folder / "rules.yaml"
        everything = {"name": "everything", "quantities": ["*"], "future_s": self.layout.future_s}
        rules.write_text(yaml.safe_dump({"version": 1, "classes": [everything]}), encoding="utf-8")
        tree = {
            "data_dir": str(self.folder / "hub"),
            "signing_key": str(key),
            "listen": {"port": int(self.api.rsplit(":", 1)[1])},
            "mqtt": {"host": "127.0.0.1", "port": self.hub_link.port, "insecure": True},
            "clock": {"source": "file", "path": str(self.clock_file("hub"))},
            "planning": {"enabled": False},
            "quality": {"rules": str(rules)},
        }
        (self.folder / "hub.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")

    async def add_sender(self, edge: str, name: str | None = None) -> Sender:
        """Prepare a sender with its own outbox, link and clock, not started; a second one of an edge needs another name."""
        name = name or edge
        folder = self.folder / name
        folder.mkdir()
        self.set_clock(name, 0.0)
        seed = self.layout.seed
        link = Proxy((self.broker.host, self.broker.port), seed * 100 + len(self.senders))
        await self._stack.enter_async_context(link)
        command = [sys.executable, "-m", "tests.faults.sender", "--edge", edge, "--folder", str(folder)]
        command += ["--port", str(link.port), "--clock", str(self.clock_file(name)), "--seed", str(seed)]
        program = Program(name, [*command, *self.layout.sender], self.folder / f"logs/{name}.log")
        sender = Sender(name, folder, program, link, Journal(folder / "journal", seed, edge))
        self.senders[name] = sender
        return sender

    # Clocks

    def clock_file(self, name: str) -> Path:
        """Where the clock of the hub or of an edge is published."""
        return self.folder / f"clock-{name}.json"

    def set_clock(self, name: str, offset_s: float) -> None:
        """Step the wall clock of the hub or of an edge: from now on it is off by this much."""
        segment = {"wall_unix_s": 0.0, "sim_unix_s": offset_s, "speed": 1.0}
        new = self.clock_file(name).with_suffix(".new")
        new.write_text(json.dumps({"version": 1, "segments": [segment]}), encoding="utf-8")
        new.replace(self.clock_file(name))

    # Hub

    async def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """One call of the hub's API.

        Raises:
            ConnectionError: The hub does not answer.
            RigError: It answers with an error.
        """
        return (await self._call(path, body)).json()

    async def _call(self, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        method = "GET" if body is None else "POST"
        try:
            answer = await self._http.request(method, f"{self.api}{path}", json=body)
        except httpx.TransportError as error:
            raise ConnectionError(f"{method} {path}: {error!r}") from error
        if answer.is_error:
            raise RigError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer

    async def health(self) -> dict[str, Any]:
        """The parts of the hub's health; empty while it does not answer."""
        try:
            parts: dict[str, Any] = (await self.ask("/v1/health"))["parts"]
        except OSError:
            return {}
        return parts

    async def ready(self, seconds: float = 60.0) -> None:
        """Return when the hub answers and is connected with the broker."""

        async def up() -> bool:
            if not self.hub.alive:
                raise RigError(f"the hub has ended; see {self.hub.log}:\n{self.hub.log.read_text('utf-8')[-2000:]}")
            return bool((await self.health()).get("durable_lane", {}).get("ok"))

        await self.until("the hub", up, seconds)

    async def metric(self, name: str, **labels: str) -> float:
        """One sample of the hub's metrics; 0 when it has none."""

        text = (await self._call("/metrics")).text
        wanted = name + ("{" + ",".join(f'{key}="{word}"' for key, word in labels.items()) + "}" if labels else "")
        for line in text.splitlines():
            if line.rsplit(" ", 1)[0] == f"tieline_hub_{wanted}":
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    async def kill_hub(self) -> None:
        """SIGKILL."""
        await asyncio.to_thread(self.hub.end)

    async def restart_hub(self) -> None:
        """SIGKILL and a new process; returns at once, see :meth:`ready`."""
        await self.kill_hub()
        self.hub.start()

    # Broker

    async def restart_broker(self) -> None:
        """SIGKILL and a new process on the same port."""
        self.broker.kill()
        await asyncio.to_thread(self.broker.start)

    # Judgement

    async def until(self, what: str, holds: Callable[[], Any], seconds: float) -> None:
        """Wait until something holds.

        Raises:
            RigError: It does not in time.
        """
        deadline_s = time.monotonic() + seconds
        while True:
            answer = holds()
            if asyncio.iscoroutine(answer):
                answer = await answer
            if answer:
                return
            if time.monotonic() > deadline_s:
                raise RigError(f"waited {seconds:g} s for {what}\n{self.situation()}")
            await asyncio.sleep(_POLL_S)

    def situation(self) -> str:
        """How everybody stands, for a person who looks for the reason."""
        rows = [f"hub {'alive' if self.hub.alive else 'dead'}"]
        for name, sender in self.senders.items():
            rows.append(f"{name} {'alive' if sender.program.alive else 'dead'} {sender.status()}")
        return "\n".join(rows)

    def go(self, *edges: str) -> None:
        """Let these senders record; all when none is named."""
        for edge in edges or self.senders:
            self.senders[edge].say("go")

    async def flows(self, edge: str, frames: int = 10, seconds: float = 60.0) -> None:
        """Wait until a sender has recorded this many batches more."""
        journal = self.senders[edge].journal
        journal.read_on()
        wanted = len(journal.done) + frames

        def enough() -> bool:
            journal.read_on()
            return len(journal.done) >= wanted

        await self.until(f"{frames} batches of {edge}", enough, seconds)

    async def dies(self, edge: str, seconds: float = 60.0) -> None:
        """Wait until a sender has killed itself."""
        program = self.senders[edge].program
        await self.until(f"{edge} to die", lambda: not program.alive, seconds)
        assert await asyncio.to_thread(program.end) == -signal.SIGKILL

    async def hush(self, seconds: float = 60.0) -> None:
        """Stop recording everywhere and wait until everything recorded is acknowledged."""
        for sender in self.senders.values():
            sender.say("pause")
        await self.drained(seconds)

    async def drained(self, seconds: float = 60.0) -> None:
        """Wait until every sender is quiet and nothing waits in an outbox."""
        for sender in self.senders.values():
            await self.until(f"{sender.edge} to drain", sender.settled, seconds)

    async def stored(self) -> Hashes:
        """Hashes of all rows in the hub's ledger: its export, and what it put aside because it did not believe the instant."""
        return np.concatenate([await self._exported(), await self._misdated()])

    async def _misdated(self) -> Hashes:
        rows = await self.ask(f"/v1/quality/misdated?limit={_MOST_MISDATED}")
        if len(rows) == _MOST_MISDATED:
            raise RigError(f"more than {_MOST_MISDATED} readings were put aside: they cannot be compared")
        return hashes_of_rows(rows)

    async def _exported(self) -> Hashes:
        self._exports += 1
        out = self.folder / f"export-{self._exports}.parquet"
        job = await self.ask("/v1/jobs", {"kind": "export", "params": {**_SPAN, "out": str(out)}})
        deadline_s = time.monotonic() + 60
        while job["state"] in ("queued", "running"):
            if time.monotonic() > deadline_s:
                raise RigError(f"the export does not end: {job}")
            await asyncio.sleep(0.02)
            job = await self.ask(f"/v1/jobs/{job['job_id']}")
        if job["state"] != "done":
            raise RigError(f"export: {job}")
        try:
            return await asyncio.to_thread(hashes_of_file, out)
        finally:
            out.unlink()

    async def compare(self) -> Comparison:
        """What was recorded against what is stored."""
        journals = [sender.journal for sender in self.senders.values()]
        for journal in journals:
            journal.read_on()
        return compare(journals, await self.stored())

    async def verdict(self, seconds: float = 60.0) -> Comparison:
        """Quiet, then the comparison; the senders stay paused."""
        await self.hush(seconds)
        return await self.compare()

    def copy_hub_data(self, to: Path) -> None:
        """Copy the data of a hub that is not running."""
        assert not self.hub.alive
        if to.exists():
            shutil.rmtree(to)
        shutil.copytree(self.folder / "hub", to)

    def put_hub_data_back(self, copy: Path) -> None:
        """Restore the data of a hub that is not running."""
        assert not self.hub.alive
        shutil.rmtree(self.folder / "hub")
        shutil.copytree(copy, self.folder / "hub")
