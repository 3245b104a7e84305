"""Ports for the servers of the demo, the tests and the benches, which no other process is given or takes by chance.

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


def _bound(port: int, *, again: bool) -> socket.socket | None:
    """A socket bound to ``port``, or nothing when somebody else holds it; ``again``: connections that linger do not count."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(again))
    try:
        found.bind(("127.0.0.1", port))
    except OSError:
        found.close()
        return None
    return found


class Ports:
    """The ports of one process; ``close`` gives them back."""

    def __init__(self) -> None:
        for first in range(_LOWEST, _HIGHEST, _SLICE):
            guard = _bound(first, again=False)
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
            if (probe := _bound(port, again=True)) is not None:
                probe.close()
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
