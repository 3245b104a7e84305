"""Ports a later life will find free again."""

from __future__ import annotations

import random
import socket
from pathlib import Path
from typing import Final

_LOWEST: Final = 15_000
_TRIES: Final = 200


def lasting_port(taken: set[int]) -> int:
    """A free loopback port below the range the system gives to outgoing connections; added to ``taken``.

    A port of that range may belong to anybody's connection by the time a killed simulator wants it back. Where nothing
    below is free the system chooses.
    """
    try:
        limit = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError):
        limit = 32_768
    for _ in range(_TRIES if limit > _LOWEST + 1000 else 0):
        port = random.randrange(_LOWEST, limit)
        if port not in taken and _is_free(port):
            taken.add(port)
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    taken.add(port)
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
