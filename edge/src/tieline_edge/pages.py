"""A deliberately small HTTP/1.0 server for the edge's own pages: GET, and POST for orders; one answer a connection.

Requests are bounded and answered in time or not at all; no third-party framework. A request has to name this computer by
address, as localhost or by its own name: a web site elsewhere whose name was pointed here is refused (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs, urlsplit

from tieline_core.errors import BadInputError
from tieline_core.messages.telemetry import Severity

_LOG = logging.getLogger(__name__)
_MAX_REQUEST: Final = 8192
_TIMEOUT_S: Final = 5.0
#: A port that is taken is asked for again after so long [wall s].
_AGAIN_S: Final = 5.0
#: Connections served at once; anybody on this computer may open them, and descriptors are needed for devices.
MAX_CONNECTIONS: Final = 32


@dataclass(frozen=True, slots=True)
class Page:
    """One answer."""

    status: HTTPStatus
    kind: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()

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


class Pages:
    """Serves pages until cancelled.

    Args:
        port: TCP port.
        pages: Handler by path.
        orders: Who answers a POST; None = nobody.
        host: Address to listen on.
    """

    def __init__(
        self, port: int, pages: Mapping[str, Handler], orders: OrderTaker | None = None, host: str = "127.0.0.1"
    ) -> None:
        self._port = port
        self._host = host
        self._pages = dict(pages)
        self._orders = orders
        self._open = 0

    async def run(self, on_listening: Callable[[int], None] = lambda _port: None) -> None:
        """Serve.

        Raises:
            OSError: When the port is taken.
        """
        server = await asyncio.start_server(self._serve, self._host, self._port, limit=_MAX_REQUEST)
        async with server:
            on_listening(int(server.sockets[0].getsockname()[1]))
            await server.serve_forever()

    async def serve(
        self, tell: Callable[[Severity, str, str], None], on_listening: Callable[[int], None] = lambda _port: None
    ) -> None:
        """Serve once the port can be had: anybody on this computer may have taken it, and no load waits for a page.

        Args:
            tell: Told once when it cannot be had.
            on_listening: Told the port.
        """
        told = False
        while True:
            try:
                await self.run(on_listening)
            except OSError as error:
                if not told:
                    text = f"the local pages and orders are not served on {self._host}:{self._port}: {error.strerror or error}"
                    tell(Severity.ALARM, "page.not_served", f"{text}; somebody else may answer there, give no order to it")
                    told = True
            await asyncio.sleep(_AGAIN_S)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._open >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        self._open += 1
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                page = await self._answer(await reader.readuntil(b"\r\n\r\n"), reader)
                writer.write(_head(page) + page.body)
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, ConnectionError):
            # A client that speaks no HTTP or hangs up is none of the agent's business.
            pass
        finally:
            # After a clean end there is nothing left to abort; whoever does not read must not keep page and descriptor.
            writer.transport.abort()
            self._open -= 1

    async def _answer(self, request: bytes, reader: asyncio.StreamReader) -> Page:
        words = request.split(b"\r\n", 1)[0].decode("latin-1").split()
        if len(words) != 3 or words[0] not in ("GET", "POST"):
            return Page.problem(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and POST are served here")
        headers = _headers(request)
        if not _names_us(headers.get("host", "")):
            return Page.problem(HTTPStatus.MISDIRECTED_REQUEST, "ask by address, as localhost or by this computer's own name")
        target = urlsplit(words[1])
        try:
            if words[0] == "POST":
                return await self._order(target.path, headers, reader)
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


def _head(page: Page) -> bytes:
    fixed = (
        ("Content-Type", page.kind),
        ("Content-Length", str(len(page.body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        ("Connection", "close"),
    )
    lines = [
        f"HTTP/1.0 {page.status.value} {page.status.phrase}",
        *(f"{name}: {value}" for name, value in (*fixed, *page.headers)),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _names_us(host: str) -> bool:
    """True for what a browser says when it was pointed at this computer on purpose; HTTP/1.0 clients say nothing."""
    name = (host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host).strip("[]").lower()
    if name in ("", "localhost", socket.gethostname().lower()):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _headers(request: bytes) -> dict[str, str]:
    rows = (line.partition(":") for line in request.decode("latin-1").split("\r\n")[1:] if line)
    return {name.strip().lower(): value.strip() for name, _, value in rows}


async def _body(headers: Mapping[str, str], reader: asyncio.StreamReader) -> bytes:
    length = headers.get("content-length", "")
    if not length.isdigit() or int(length) > _MAX_REQUEST:
        raise BadInputError("order", "content-length", length, f"a body of at most {_MAX_REQUEST} bytes is expected")
    return await reader.readexactly(int(length))
