"""A PostgreSQL server of a test's own: Debian's binaries, a temporary folder, loopback."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from deploy.ports import free_port

#: What a ledger relies on stays as it is in production: fsync, full_page_writes and synchronous_commit are on.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "64MB",
    "max_wal_size": "1GB",
    "logging_collector": "off",
}


def programs() -> Path:
    """Folder of the newest server's programs.

    Raises:
        RuntimeError: No server is installed.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    program = shutil.which("initdb")
    if program is None:
        raise RuntimeError("no PostgreSQL server: install the package postgresql (deploy/system-packages.sh test does)")
    return Path(program).parent


@dataclass
class PostgresServer:
    """A server tests may kill and start again; :meth:`database` gives each test a database of its own."""

    folder: Path
    port: int
    settings: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    _names: Iterator[int] = field(default_factory=count)

    @property
    def _user(self) -> dict[str, Any]:
        """PostgreSQL refuses to run as root; the package brings its own user."""
        return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}

    def initialise(self) -> None:
        """Make the cluster; its own files need no sync, what tests commit does."""
        if os.getuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        command = [str(programs() / "initdb"), "-D", str(self.folder / "data"), "-U", "postgres", "-A", "trust"]
        options = ["-E", "UTF8", "--no-locale", "--no-sync", "--no-instructions"]
        subprocess.run([*command, *options], check=True, capture_output=True, cwd=self.folder, **self._user)

    def start(self) -> None:
        """Start and wait until it takes connections."""
        assert self.process is None
        command = [str(programs() / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)]
        command += [part for name, value in self.settings.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, **self._user)
        deadline = time.monotonic() + 30
        while subprocess.run(
            [programs() / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False
        ).returncode:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL does not start:\n{(self.folder / 'server.log').read_text()[-2000:]}")

    def kill(self) -> None:
        """SIGKILL to every process of the server, as near to a pulled plug as a process can come."""
        assert self.process is not None
        pid = self.process.pid
        children = [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        self.process.kill()
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self.process.wait()
        self.process = None
        while any(Path(f"/proc/{child}/cwd").exists() and self._runs(child) for child in children):
            time.sleep(0.01)

    @staticmethod
    def _runs(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except (FileNotFoundError, ProcessLookupError):
            return False

    def stop(self) -> None:
        """Fast shut-down."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(30)
            self.process = None

    def url(self, database: str) -> str:
        """What a hub's settings would say."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    @contextmanager
    def database(self) -> Iterator[str]:
        """URL of a new, empty database."""
        import psycopg

        name = f"t{next(self._names)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield self.url(name)
        finally:
            with suppress(psycopg.Error), psycopg.connect(self.url("postgres"), autocommit=True) as connection:
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@contextmanager
def postgres_server(**settings: str) -> Iterator[PostgresServer]:
    """A running server, removed with everything in it afterwards."""
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="tieline-postgres-"))
    server = PostgresServer(folder, port, SETTINGS | settings)
    try:
        server.initialise()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
