"""Coverage-guided fuzzing of the Sparkplug decoder and of the host's bookkeeping; run by hand.

``pip install atheris``, then ``python -m tests.fuzz.sparkplug -max_total_time=120 -rss_limit_mb=512``. Whatever escapes but
:class:`SparkplugError` is a defect, and so is memory beyond the limit.
"""

from __future__ import annotations

import math
import sys
from contextlib import suppress
from importlib import import_module
from typing import Final

atheris = import_module("atheris")  # not among the development dependencies: it needs a compiler on some platforms

with atheris.instrument_imports(include=["tieline_core.sparkplug", "tieline_cloud.ingest"]):
    from tieline_cloud.ingest.host_table import Arrived, Change, HostTable
    from tieline_core.sparkplug.metric import Metric, Payload, SparkplugError
    from tieline_core.sparkplug.payload import decode, encode
    from tieline_core.sparkplug.session import HostState
    from tieline_core.topics import SparkplugTopic

_KINDS: Final = ("NBIRTH", "NDEATH", "NDATA", "DBIRTH", "DDEATH", "DDATA")


def _is_sound(metric: Metric) -> bool:
    return not isinstance(metric.value, float) or math.isfinite(metric.value)


def _read(data: bytes, *, null_for_nan: bool) -> Payload | None:
    try:
        return decode(data, null_for_nan=null_for_nan)
    except SparkplugError:
        return None


def one_input(data: bytes) -> None:
    """Decode whole and in pieces, feed the pieces to a table as the messages of one node."""
    strict = _read(data, null_for_nan=False)
    if strict is not None:
        assert all(_is_sound(metric) for metric in strict.metrics)
        try:
            encode(strict)
        except SparkplugError:
            assert strict.metrics  # what may be read past, such as a data set, is not written
    with suppress(SparkplugError):
        HostState.from_bytes(data)
    table, at = HostTable(reorder_s=1.0, window=4, most_nodes=3), 0
    while at + 2 < len(data):
        head, size = data[at], data[at + 1]
        payload = _read(data[at + 2 : at + 2 + size], null_for_nan=True)
        at += 2 + size
        if payload is not None:
            kind = _KINDS[head % len(_KINDS)]
            topic = SparkplugTopic("tieline", kind, f"n{head & 3}", "d" if kind.startswith("D") else None)
            found = table.take(Arrived(topic, payload, float(at), hash(data[:at])))
            assert all(_is_sound(metric) for row in found for metric in row.metrics if row.change is Change.DATA)
    table.expire(1e9)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
