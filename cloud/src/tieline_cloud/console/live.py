"""The live socket: every message is encoded once for all clients, and a slow client gets the newest, not all.

Grid frame, binary, little-endian: u32 seq, u32 n_branches, f64 unix seconds, u32 n_buses, first 12 bytes of the topology
hash, then u16 loading [tenths of a percent] per branch, u16 voltage [1e-4 pu] per bus, u8 quality per branch; 65535 = no
value. Everything else is JSON with a ``type`` and a ``seq`` of its own per type; a gap means: fetch again by REST.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
from fastapi import WebSocket, WebSocketDisconnect

from tieline_core.timegrid import to_us

HEARTBEAT_S: Final = 2.0
NO_VALUE: Final = 0xFFFF
MAX_CLIENTS: Final = 500
_MAX_CHANNELS: Final = 20
_MAX_SUBSCRIBE_CHARS: Final = 4000
_MAX_EVENTS: Final = 64


def _u16(values: Sequence[float | None], scale: float) -> bytes:
    numbers = np.array([np.nan if value is None else value for value in values], dtype=np.float64) * scale
    coded = np.where(np.isfinite(numbers), np.clip(np.rint(numbers), 0, NO_VALUE - 1), NO_VALUE)
    return coded.astype("<u2").tobytes()


def grid_frame(
    seq: int,
    at: datetime,
    topology_hash: str,
    loading_pct: Sequence[float | None],
    vm_pu: Sequence[float | None],
    quality: Sequence[int],
) -> bytes:
    """One grid state in the binary form of the live socket (see the module)."""
    head = struct.pack(
        "<IIdI12s", seq % 2**32, len(loading_pct), to_us(at) / 1e6, len(vm_pu), bytes.fromhex(topology_hash[:24])
    )
    return head + _u16(loading_pct, 10) + _u16(vm_pu, 1e4) + bytes(quality)


class _Client:
    """One socket's waiting messages: the newest of each state channel, a bounded number of events."""

    def __init__(self, socket: WebSocket) -> None:
        self.socket = socket
        self.channels: frozenset[str] = frozenset()
        self.waiting: OrderedDict[str, bytes | str] = OrderedDict()
        self.wake = asyncio.Event()

    def offer(self, slot: str, message: bytes | str) -> None:
        self.waiting[slot] = message
        if len(self.waiting) > _MAX_EVENTS + _MAX_CHANNELS:
            self.waiting.popitem(last=False)
        self.wake.set()


class LiveHub:
    """Clients and what each has subscribed to. Methods are called on the event loop.

    Args:
        now: The hub's clock, for heartbeats.
        build: Version of the console; a client that was loaded from another offers a reload.
    """

    def __init__(self, now: Callable[[], datetime], build: str) -> None:
        self._now = now
        self._build = build
        self._clients: set[_Client] = set()
        self._seq: dict[str, int] = {}
        self._newest: dict[str, bytes | str] = {}

    @property
    def clients(self) -> int:
        """Open sockets."""
        return len(self._clients)

    def wanted(self, channel: str) -> bool:
        """True when somebody has subscribed."""
        return any(channel in client.channels for client in self._clients)

    def next_seq(self, channel: str) -> int:
        """The next sequence number of a channel."""
        self._seq[channel] = self._seq.get(channel, 0) + 1
        return self._seq[channel]

    def publish_state(self, channel: str, message: bytes | str) -> None:
        """Offer an encoded state message: it replaces an older one of the channel that is not sent yet."""
        self._newest[channel] = message
        for client in self._clients:
            if channel in client.channels:
                client.offer(channel, message)

    def publish_json(self, channel: str, kind: str, body: dict[str, Any]) -> None:
        """Encode once and offer a JSON state message."""
        self.publish_state(channel, json.dumps({"type": kind, "seq": self.next_seq(channel), **body}, allow_nan=False))

    def publish_event(self, body: dict[str, Any]) -> None:
        """Offer an event; clients that fall far behind see a gap in ``seq``."""
        seq = self.next_seq("events")
        message = json.dumps({"type": "event", "seq": seq, "event": body}, allow_nan=False)
        for client in self._clients:
            if "events" in client.channels:
                client.offer(f"events#{seq}", message)

    async def run(self) -> None:
        """Send heartbeats, for ever (wall time: a client must notice a dead hub at any clock speed)."""
        while True:
            self._beat()
            await asyncio.sleep(HEARTBEAT_S)

    def _beat(self) -> None:
        beat = {"type": "heartbeat", "seq": self.next_seq("heartbeat"), "now": self._now().isoformat(), "build": self._build}
        message = json.dumps(beat)
        for client in self._clients:
            client.offer("heartbeat", message)

    async def serve(self, socket: WebSocket) -> None:
        """Serve one accepted socket until it closes."""
        if len(self._clients) >= MAX_CLIENTS:
            await socket.close(code=1013, reason="too many clients")
            return
        client = _Client(socket)
        self._clients.add(client)
        try:
            async with asyncio.TaskGroup() as group:
                sender = group.create_task(self._send(client), name="live-send")
                await self._receive(client)
                sender.cancel()
        finally:
            self._clients.discard(client)

    async def _receive(self, client: _Client) -> None:
        while True:
            try:
                text = await client.socket.receive_text()
            except (WebSocketDisconnect, KeyError, RuntimeError):
                return
            channels = parse_subscription(text)
            if channels is None:
                client.offer("error", json.dumps({"type": "error", "reason": 'expected {"subscribe": ["grid/<id>", ...]}'}))
                continue
            client.channels = channels
            for channel in sorted(channels & self._newest.keys()):
                client.offer(channel, self._newest[channel])

    async def _send(self, client: _Client) -> None:
        while True:
            await client.wake.wait()
            client.wake.clear()
            while client.waiting:
                _, message = client.waiting.popitem(last=False)
                try:
                    if isinstance(message, bytes):
                        await client.socket.send_bytes(message)
                    else:
                        await client.socket.send_text(message)
                except (WebSocketDisconnect, RuntimeError):
                    return


def parse_subscription(text: str) -> frozenset[str] | None:
    """Channels a client asks for, or None when the message is not understood."""
    if len(text) > _MAX_SUBSCRIBE_CHARS:
        return None
    try:
        channels = json.loads(text)["subscribe"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(channels, list) or len(channels) > _MAX_CHANNELS or not all(isinstance(c, str) for c in channels):
        return None
    return frozenset(channels)
