"""What a write is believed: nothing but the answer of a server that takes line protocol."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from tieline_cloud.mirror.ports import TargetAwayError
from tieline_cloud.mirror.target import InfluxTarget
from tieline_cloud.settings import MirrorSettings


@contextmanager
def server(status: int, body: bytes = b"") -> Iterator[str]:
    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the library's name
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(status)
            if body:
                self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Silent."""

    one = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = Thread(target=one.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{one.server_port}"
    finally:
        one.shutdown()
        thread.join()
        one.server_close()


def test_a_page_of_something_else_is_no_written_line() -> None:
    with (
        server(200, b"<html>please log in</html>") as url,
        InfluxTarget(MirrorSettings(name="grafana", url=url)) as target,
        pytest.raises(TargetAwayError, match="200 instead of 204"),
    ):
        target.write(b"tieline,edge=harbour p_w=1 1480606200000000")


def test_a_taken_write_is_believed() -> None:
    with server(204) as url, InfluxTarget(MirrorSettings(name="grafana", url=url)) as target:
        target.write(b"tieline,edge=harbour p_w=1 1480606200000000")
