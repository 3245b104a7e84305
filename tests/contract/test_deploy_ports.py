"""No two processes of the tests are given the same port."""

from __future__ import annotations

import socket
from pathlib import Path

from deploy.ports import Ports, free_port


def test_two_processes_draw_from_different_ports() -> None:
    one, other = Ports(), Ports()
    try:
        assert {one.free() for _ in range(99)}.isdisjoint({other.free() for _ in range(99)})
    finally:
        one.close()
        other.close()


def test_a_port_is_not_given_again_soon_nor_while_it_is_in_use() -> None:
    ports = Ports()
    try:
        first = ports.free()
        with socket.socket() as server:
            server.bind(("127.0.0.1", first))
            assert first not in [ports.free() for _ in range(150)]
    finally:
        ports.close()


def test_ports_lie_below_what_outgoing_connections_are_given() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    assert free_port() < lowest
