"""The fence round a simulated agent: inside it there is no other time, chance, thread, socket or disk than the simulation's.

Standard-library names are replaced rather than passed through every constructor, so that code written tomorrow is fenced in
as well. What slips through is found by the test that compares the logs of two processes.
"""

from __future__ import annotations

import fcntl
import os
import random
import secrets
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any
from unittest.mock import patch

import aiosqlite

from tests.simulation.disk import Disk
from tests.simulation.timeline import Timeline
from tieline_edge.drivers import registry
from tieline_edge.sync import artifacts, transport

_Random = random.Random
#: Module that stands for every protocol of the field.
_FIELD_MODULE = "tests.simulation.field_driver"


def _seeded(source: random.Random) -> type[random.Random]:
    """``random.Random`` without an argument takes its seed from the simulation."""

    class Seeded(_Random):
        def __init__(self, x: Any = None) -> None:
            super().__init__(source.getrandbits(64) if x is None else x)

        def __new__(cls, *_args: Any) -> Any:
            return _Random.__new__(cls)

    return Seeded


@contextmanager
def fenced(
    timeline: Timeline,
    disk: Disk,
    chance: random.Random,
    client: Callable[..., Any],
    pull: Callable[[str, int], bytes],
) -> Iterator[None]:
    """Everything started inside is simulated.

    Args:
        timeline: Time.
        disk: Files and databases.
        chance: Source of ids, nonces, seeds.
        client: Stands for the MQTT library's client.
        pull: Gives the content of a hash, as the hub's HTTP would.
    """

    def monotonic() -> float:
        return timeline.now_s + 1000.0

    with (
        patch.object(time, "monotonic", monotonic),
        patch.object(time, "perf_counter", monotonic),
        patch.object(uuid, "uuid4", lambda: uuid.UUID(int=chance.getrandbits(128), version=4)),
        patch.object(secrets, "token_hex", lambda n=32: chance.randbytes(n).hex()),
        patch.object(secrets, "token_bytes", lambda n=32: chance.randbytes(n)),
        patch.object(random, "Random", _seeded(chance)),
        patch.object(os, "fsync", disk.fsync),
        patch.object(os, "replace", disk.replace),
        patch.object(fcntl, "flock", disk.flock),
        patch.object(sqlite3, "connect", disk.connect),
        patch.object(aiosqlite, "connect", disk.connect_async),
        patch.object(registry, "DRIVERS", MappingProxyType(dict.fromkeys(registry.DRIVERS, _FIELD_MODULE))),
        patch.object(transport, "Client", client),
        patch.object(artifacts.Artifacts, "_pull", lambda _self, sha256, most: pull(sha256, most)),
    ):
        yield
