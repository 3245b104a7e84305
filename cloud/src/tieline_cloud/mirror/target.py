"""A database that takes line protocol over ``/api/v2/write``: InfluxDB 2 and 3, VictoriaMetrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self

import httpx
import urllib3
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.write_precision import WritePrecision
from influxdb_client.rest import ApiException

from tieline_cloud.mirror.ports import LinesRefusedError, TargetAwayError
from tieline_cloud.settings import MirrorSettings
from tieline_cloud.token_file import read_secret

#: What all three answer to a write they have taken.
_WRITTEN: Final = 204
#: The target does not like these lines; it is asked about fewer of them.
_REFUSED: Final = frozenset({400, 413, 422})
#: The target does not like us: nothing is lost by waiting until somebody has put it right.
_MISCONFIGURED: Final = frozenset({401, 403, 404, 405})
_METRICS_BYTES: Final = 8 * 1024 * 1024
_STARTED: Final = b"process_start_time_seconds "
_REASON_CHARS: Final = 300


class InfluxTarget:
    """Writes through influxdb-client, synchronously: the answer of the server is the answer of the call.

    Args:
        settings: Address, bucket, secrets.

    Raises:
        BadInputError: When the token file cannot be used.
    """

    def __init__(self, settings: MirrorSettings) -> None:
        self._settings = settings
        token = "" if settings.token_file is None else read_secret(settings.token_file, "mirrors.token_file", 1)
        ca_file = None if settings.ca_file is None else str(settings.ca_file)
        self._client = InfluxDBClient(
            url=settings.url,
            token=token,
            org=settings.org,
            timeout=int(settings.timeout_s * 1000),
            enable_gzip=settings.gzip,
            ssl_ca_cert=ca_file,
            retries=False,
        )
        self._write: Callable[..., object] = self._client.write_api(write_options=SYNCHRONOUS).write
        self._http = httpx.Client(base_url=settings.url, timeout=settings.timeout_s, verify=ca_file or True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()
        self._client.close()  # type: ignore[no-untyped-call] # the library has no annotation there

    def write(self, body: bytes) -> None:
        """Hand lines over; see :class:`MirrorTarget`."""
        settings = self._settings
        try:
            self._write(bucket=settings.bucket, org=settings.org, record=body, write_precision=WritePrecision.US)
        except ApiException as error:
            raise _judged(error, settings.url) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise TargetAwayError(f"{settings.url}: {type(error).__name__}: {error}"[:_REASON_CHARS]) from error
        status = int(self._client.api_client.last_response.status)
        if status != _WRITTEN:
            raise TargetAwayError(
                f"{settings.url} answers a write with {status} instead of {_WRITTEN}: something else, a proxy or a login page, "
                "listens there; check url of the mirror"
            )

    def started_at(self) -> float | None:
        """Read the start of the process out of the target's own metrics, which all three publish."""
        try:
            with self._http.stream("GET", "/metrics") as response:
                if response.status_code != 200:
                    return None
                return _start_in(response)
        except httpx.HTTPError as error:
            raise TargetAwayError(f"{self._settings.url}/metrics: {type(error).__name__}: {error}"[:_REASON_CHARS]) from error


def _start_in(response: httpx.Response) -> float | None:
    rest, taken = b"", 0
    for block in response.iter_bytes():
        taken += len(block)
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            if line.startswith(_STARTED):
                try:
                    return float(line[len(_STARTED) :])
                except ValueError:
                    return None
        if taken > _METRICS_BYTES or len(rest) > _METRICS_BYTES:
            return None
    return None


def _judged(error: ApiException, url: str) -> TargetAwayError | LinesRefusedError:
    status = int(error.status or 0)
    text = f"{status} {error.reason}: {_message(error)}"
    if status in _REFUSED:
        return LinesRefusedError(text)
    if status in _MISCONFIGURED:
        return TargetAwayError(f"{url} answers {text}; check url, org, bucket and token_file of the mirror")
    headers: Mapping[str, str] = error.headers or {}
    wait = headers.get("Retry-After", "")
    return TargetAwayError(f"{url} answers {text}", float(wait) if wait.isdigit() else None)


def _message(error: ApiException) -> str:
    body = error.body
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body or "")
    return " ".join(text.split())[:_REASON_CHARS]
