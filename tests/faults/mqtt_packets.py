"""Enough of MQTT to cut a byte stream into packets and to make a few: what stands in the middle must not trust the ends.

Written from the MQTT 5.0 and 3.1.1 standards (fixed header, section 2.1; variable byte integer, section 1.5.5).
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass
from typing import Final

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, PINGRESP, DISCONNECT = 1, 2, 3, 4, 8, 9, 12, 13, 14
_MAX_HEADER: Final = 5


def packet(kind: int, flags: int, body: bytes) -> bytes:
    """A whole packet: fixed header, remaining length, body."""
    length, left = bytearray(), len(body)
    while True:
        left, low = divmod(left, 128)
        length.append(low | (0x80 if left else 0))
        if not left:
            return bytes([kind << 4 | flags]) + bytes(length) + body


def text(word: str) -> bytes:
    """An MQTT string."""
    raw = word.encode()
    return struct.pack(">H", len(raw)) + raw


def connect(client_id: str, keepalive_s: int = 60) -> bytes:
    """CONNECT of a clean MQTT 3.1.1 session."""
    return packet(CONNECT, 0, text("MQTT") + bytes([4, 2]) + struct.pack(">H", keepalive_s) + text(client_id))


def subscribe(mid: int, *topics: str) -> bytes:
    """SUBSCRIBE with QoS 1."""
    return packet(SUBSCRIBE, 2, struct.pack(">H", mid) + b"".join(text(topic) + b"\x01" for topic in topics))


def publish(topic: str, payload: bytes, mid: int) -> bytes:
    """PUBLISH with QoS 1."""
    return packet(PUBLISH, 2, text(topic) + struct.pack(">H", mid) + payload)


class PacketCutter:
    """Cuts a byte stream into packets; what is no whole packet yet stays inside."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Packets that are complete now."""
        self._held += data
        found: list[bytes] = []
        while (size := self._size()) is not None and size <= len(self._held):
            found.append(bytes(self._held[:size]))
            del self._held[:size]
        return found

    def _size(self) -> int | None:
        length = 0
        for place in range(1, min(_MAX_HEADER, len(self._held))):
            byte = self._held[place]
            length |= (byte & 0x7F) << 7 * (place - 1)
            if not byte & 0x80:
                return 1 + place + length
        return None


def body_of(whole: bytes) -> bytes:
    """What follows the fixed header."""
    place = 1
    while whole[place] & 0x80:
        place += 1
    return whole[place + 1 :]


def topic_of(whole: bytes) -> str:
    """Topic of a PUBLISH packet."""
    body = body_of(whole)
    return body[2 : 2 + struct.unpack_from(">H", body)[0]].decode(errors="replace")


@dataclass(frozen=True, slots=True)
class Mischief:
    """What happens to PUBLISH packets on their way.

    Attributes:
        duplicate: Chance that a packet comes twice, the second time up to ``late_s`` later.
        late: Chance that a packet is held back up to ``late_s``, so that others overtake it.
        late_s: Longest time a packet is held back.
        lose: Chance that a packet does not come at all.
        only: Topics must end with this; empty = all.
    """

    duplicate: float = 0.0
    late: float = 0.0
    late_s: float = 0.1
    lose: float = 0.0
    only: str = ""


NO_MISCHIEF: Final = Mischief()


class Mischievous:
    """Applies :class:`Mischief` to one direction of one connection; every other packet passes as it is."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._cutter = PacketCutter()

    def feed(self, data: bytes, plan: Mischief) -> list[tuple[float, bytes]]:
        """What goes on, each with its delay [s]."""
        out: list[tuple[float, bytes]] = []
        rng = self._rng
        for whole in self._cutter.feed(data):
            if whole[0] >> 4 != PUBLISH or not topic_of(whole).endswith(plan.only):
                out.append((0.0, whole))
                continue
            if rng.random() < plan.lose:
                continue
            out.append((rng.uniform(0, plan.late_s) if rng.random() < plan.late else 0.0, whole))
            if rng.random() < plan.duplicate:
                out.append((rng.uniform(0, plan.late_s), whole))
        return out
