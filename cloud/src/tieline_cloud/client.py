"""Talks to a running hub for the command line: posts jobs and follows them with a progress bar."""

from __future__ import annotations

import time
import urllib.parse
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from tieline_core.errors import BadInputError, PermanentError, TransientError

DEFAULT_URL: Final = "http://127.0.0.1:8600"
_POLL_S: Final = 0.2
_TIMEOUT_S: Final = 30.0


class HubAwayError(TransientError):
    """Nobody answers at the hub's address."""


class HubRefusedError(PermanentError):
    """The hub answered with a problem."""


class HubClient:
    """A connection to the hub's API.

    Args:
        url: Base address of the hub.
        console: Where progress is drawn.
        transport: In tests, something else than the network.

    Raises:
        BadInputError: It is no address.
    """

    def __init__(self, url: str, console: Console, transport: httpx.BaseTransport | None = None) -> None:
        if not _is_address(url):
            raise BadInputError("command line", "--url", url, f"an address like {DEFAULT_URL} is expected")
        self._url = url
        self._console = console
        self._http = httpx.Client(base_url=url, timeout=_TIMEOUT_S, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._http.close()

    def get(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        """Read something below ``/v1``."""
        return self._request("GET", path, params=dict(params or {}))

    def _request(self, method: str, path: str, **rest: Any) -> Any:
        try:
            response = self._http.request(method, f"/v1/{path}", **rest)
        except httpx.TransportError as error:
            reason = str(error).rpartition("] ")[2]
            raise HubAwayError(
                f"no hub answers at {self._url} ({reason}); "
                "start one with 'tieline-cloud serve CONFIG', or name another by --url"
            ) from error
        if response.is_error:
            try:
                detail = response.json()["detail"]
            except (ValueError, KeyError, TypeError):
                detail = self._stranger(response)
            raise HubRefusedError(str(detail))
        try:
            return response.json()
        except ValueError as error:
            raise HubRefusedError(self._stranger(response)) from error

    def _stranger(self, response: httpx.Response) -> str:
        return f"what answers at {self._url} is no hub ({response.status_code} {response.reason_phrase})"

    def publish_config(self, edge: str, text: str, wait_s: float) -> dict[str, Any]:
        """Publish a site file and wait for the edge's word on it.

        Raises:
            HubRefusedError: The hub does not take it.
        """
        return self._publish(f"edges/{edge}/config", {"text": text}, wait_s)

    def publish_policy(self, edge: str, text: str | None, *, release: bool, wait_s: float) -> dict[str, Any]:
        """Publish a shedding policy, or a release, and wait for the edge's word on it.

        Raises:
            HubRefusedError: The hub does not take it.
        """
        return self._publish(f"edges/{edge}/policy", {"text": text, "release": release}, wait_s)

    def _publish(self, path: str, body: Mapping[str, Any], wait_s: float) -> dict[str, Any]:
        answer: dict[str, Any] = self._request("POST", path, json=dict(body))
        until_s = time.monotonic() + wait_s
        with self._console.status(f"{answer['edge_id']}: published, the edge is asked"):
            while answer["state"] == "published" and time.monotonic() < until_s:
                time.sleep(_POLL_S)
                answer = self.get(path)
        return answer

    def start(self, kind: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Post a job; returns it as queued."""
        job: dict[str, Any] = self._request("POST", "jobs", json={"kind": kind, "params": params})
        return job

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Cancel a job."""
        job: dict[str, Any] = self._request("DELETE", f"jobs/{job_id}")
        return job

    def run(self, kind: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Post a job and follow it to its end; Ctrl-C leaves it running.

        Raises:
            HubRefusedError: When it fails or is cancelled, with the hub's reason.
        """
        job = self.start(kind, params)
        columns = (TextColumn("{task.fields[kind]}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        with Progress(*columns, TextColumn("{task.description}"), console=self._console) as progress:
            bar = progress.add_task("queued", total=1.0, kind=kind)
            while job["state"] in ("queued", "running"):
                progress.update(bar, completed=job["progress"], description=job["message"] or job["state"])
                time.sleep(_POLL_S)
                job = self.get(f"jobs/{job['job_id']}")
            progress.update(bar, completed=job["progress"], description=job["state"])
        if job["state"] != "done":
            raise HubRefusedError(f"{kind} {job['state']}: {job['error']}")
        return job


def _is_address(url: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
