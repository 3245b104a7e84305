"""Ports for the servers of tests, which no other process is given or takes by chance.

A port of the system's own choice lies in the range it hands out to outgoing connections: between the question and the
server's start it may become anybody's. These lie below that range, and each process draws from a hundred of its own, held
by a socket on the first of them for as long as the process lives.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import cache
from itertools import cycle
from typing import Final

#: Above the ports services are registered for by habit, below those ``tieline_sim.ports`` draws.
_LOWEST: Final = 10_000
_HIGHEST: Final = 15_000
_SLICE: Final = 100


def _held(port: int) -> socket.socket | None:
    """A socket that holds ``port``, or nothing when somebody else does."""
    guard = socket.socket()
    try:
        guard.bind(("127.0.0.1", port))
    except OSError:
        guard.close()
        return None
    return guard


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Ports:
    """The ports of one process; ``close`` gives them back."""

    def __init__(self) -> None:
        for first in range(_LOWEST, _HIGHEST, _SLICE):
            guard = _held(first)
            if guard is not None:
                break
        else:
            raise OSError(f"no hundred ports between {_LOWEST} and {_HIGHEST} is unclaimed")
        self._guard = guard
        self._next: Iterator[int] = cycle(range(first + 1, first + _SLICE))

    def free(self) -> int:
        """A loopback TCP port nothing listens on; the least recently given first."""
        for _ in range(_SLICE):
            port = next(self._next)
            if _is_free(port):
                return port
        raise OSError("all ports of this process are in use")

    def close(self) -> None:
        self._guard.close()


@cache
def _own() -> Ports:
    return Ports()


def free_port() -> int:
    """A loopback TCP port for a server of this process, or of one it starts."""
    return _own().free()
