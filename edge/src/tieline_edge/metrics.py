"""Prometheus metrics and small JSON pages, on loopback only: /metrics, /status and /why?device=bat1&at=...

A deliberately small HTTP/1.0 server: GET, and POST for orders; one answer a connection, bounded request, no third-party
framework.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from tieline_core.errors import BadInputError
from tieline_edge.bootstrap import Composition

_LOG = logging.getLogger(__name__)
_MAX_REQUEST: Final = 8192
_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Page:
    """One answer."""

    status: HTTPStatus
    kind: str
    body: bytes

    @classmethod
    def of_json(cls, value: object, status: HTTPStatus = HTTPStatus.OK) -> Page:
        """A JSON answer."""
        kind = "application/json" if status is HTTPStatus.OK else "application/problem+json"
        return cls(status, kind, json.dumps(value).encode())

    @classmethod
    def problem(cls, status: HTTPStatus, detail: str) -> Page:
        """An error as RFC 9457 says."""
        return cls.of_json({"title": status.phrase, "status": int(status), "detail": detail}, status)


#: Makes a page from the query of a request.
Handler = Callable[[Mapping[str, str]], Awaitable[Page]]
#: Carries out an order: path, headers with lower-case names, body.
OrderTaker = Callable[[str, Mapping[str, str], bytes], Awaitable[Page]]


class LoopbackPages:
    """Serves pages on 127.0.0.1 until cancelled.

    Args:
        port: TCP port.
        pages: Handler by path.
        orders: Who answers a POST; None = nobody.
    """

    def __init__(self, port: int, pages: Mapping[str, Handler], orders: OrderTaker | None = None) -> None:
        self._port = port
        self._pages = dict(pages)
        self._orders = orders

    async def run(self, on_listening: Callable[[int], None] = lambda _port: None) -> None:
        """Serve.

        Raises:
            OSError: When the port is taken.
        """
        server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, limit=_MAX_REQUEST)
        async with server:
            on_listening(int(server.sockets[0].getsockname()[1]))
            await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                page = await self._answer(await reader.readuntil(b"\r\n\r\n"), reader)
                head = (
                    f"HTTP/1.0 {page.status.value} {page.status.phrase}\r\nContent-Type: {page.kind}\r\n"
                    f"Content-Length: {len(page.body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
                )
                writer.write(head.encode() + page.body)
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, ConnectionError):
            # A client that speaks no HTTP or hangs up is none of the agent's business.
            pass
        finally:
            writer.close()

    async def _answer(self, request: bytes, reader: asyncio.StreamReader) -> Page:
        words = request.split(b"\r\n", 1)[0].decode("latin-1").split()
        if len(words) != 3 or words[0] not in ("GET", "POST"):
            return Page.problem(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and POST are served here")
        target = urlsplit(words[1])
        try:
            if words[0] == "POST":
                return await self._order(target.path, _headers(request), reader)
            handler = self._pages.get(target.path)
            if handler is None:
                return Page.problem(HTTPStatus.NOT_FOUND, f"there is: {', '.join(sorted(self._pages))}")
            return await handler({key: values[-1] for key, values in parse_qs(target.query).items()})
        except (BadInputError, ValueError) as error:
            return Page.problem(HTTPStatus.BAD_REQUEST, str(error))
        except Exception as error:  # noqa: BLE001 - a page that cannot be made must not end the agent; the client is told
            _LOG.exception("page %s could not be made", target.path)
            return Page.problem(HTTPStatus.SERVICE_UNAVAILABLE, f"{type(error).__name__}: {error}")

    async def _order(self, path: str, headers: Mapping[str, str], reader: asyncio.StreamReader) -> Page:
        if self._orders is None or path in self._pages:
            return Page.problem(HTTPStatus.METHOD_NOT_ALLOWED, "only GET is served here")
        return await self._orders(path, headers, await _body(headers, reader))


def _headers(request: bytes) -> dict[str, str]:
    rows = (line.partition(":") for line in request.decode("latin-1").split("\r\n")[1:] if line)
    return {name.strip().lower(): value.strip() for name, _, value in rows}


async def _body(headers: Mapping[str, str], reader: asyncio.StreamReader) -> bytes:
    length = headers.get("content-length", "")
    if not length.isdigit() or int(length) > _MAX_REQUEST:
        raise BadInputError("order", "content-length", length, f"a body of at most {_MAX_REQUEST} bytes is expected")
    return await reader.readexactly(int(length))


def exposition(parts: Composition, status: Mapping[str, Any]) -> bytes:
    """Metrics in Prometheus text format, made from the same status document as everything else."""
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry = CollectorRegistry()

    def gauge(name: str, text: str, value: float | None, **labels: str) -> None:
        if value is None:
            return
        full = f"tieline_edge_{name}"
        metric = made.get(full) or made.setdefault(full, Gauge(full, text, sorted(labels), registry=registry))
        (metric.labels(**labels) if labels else metric).set(value)

    made: dict[str, Gauge] = {}
    gauge("ladder_step", "Fallback ladder step, 0 = current plan", status["ladder"]["step"])
    gauge("shed_loads", "Loads kept open by local shedding", len(status["shed"]))
    gauge("cycles", "Control cycles since the start", status["cycle"]["count"])
    gauge("cycle_p99_seconds", "99th percentile of the cycle's duration", status["cycle"]["p99_ms"] / 1000.0)
    gauge("cycle_late_max_seconds", "Latest start of a regular cycle since the start", status["cycle"]["late_max_ms"] / 1000.0)
    gauge("cycles_missed", "Whole periods without a regular cycle", status["cycle"]["missed"])
    gauge("cycles_extra", "Cycles that a crossed level called for", status["cycle"]["extra"])
    gauge("hub_online", "1 = the durable lane is answered", float(status["hub_online"]))
    gauge("monitor_only", "1 = no hub key, nothing is written", float(status["monitor_only"]))
    gauge("dry_run", "1 = decides and traces, writes to no device", float(status["dry_run"]))
    gauge(
        "tagged_devices",
        "Devices under a tag do not operate",
        sum(row["tag"] is not None for row in status["devices"].values()),
    )
    gauge("unrecorded_readings", "Readings given up because the disk refused", status["unrecorded"])
    for stream, row in status["backlog"].items():
        gauge("backlog_frames", "Frames that wait in the outbox", row["frames"], stream=stream)
        gauge("backlog_bytes", "Bytes that wait in the outbox", row["bytes"], stream=stream)
        gauge("backlog_readings", "Readings that wait in the outbox", row["readings"], stream=stream)
        gauge("committed_seq", "Last sequence number the hub has accepted", row["committed_seq"], stream=stream)
        gauge("recorded_seq", "Last sequence number given to a frame", row["next_seq"] - 1, stream=stream)
        if row["oldest_at"] is not None:
            age_s = (datetime.fromisoformat(status["at"]) - datetime.fromisoformat(row["oldest_at"])).total_seconds()
            gauge("backlog_age_seconds", "Age of the oldest content the hub does not have", age_s, stream=stream)
    if (room := status["outbox"]) is not None:
        gauge("outbox_used_bytes", "Bytes held, acknowledged or not", room["used_bytes"])
        gauge("outbox_max_bytes", "Bytes the ring may hold", room["max_bytes"])
        gauge("outbox_room_hours", "Hours until unsent readings are lost without the hub, at the present rate", room["room_h"])
        gauge("outbox_usable", "0 = the disk refuses, nothing is kept", float(room["usable"]))
    for field in fields(parts.outbox.counters):
        gauge(
            f"outbox_{field.name}",
            f"{field.name.replace('_', ' ')} since the start",
            getattr(parts.outbox.counters, field.name),
        )
    for device, row in status["devices"].items():
        gauge("device_online", "1 = the device answers", float(row["online"]), device=device)
    for device, handle in parts.handles.items():
        gauge("device_polls", "Polls since the start", handle.counters.polls, device=device)
        gauge("device_failures", "Failed polls since the start", handle.counters.failures, device=device)
    return generate_latest(registry)
