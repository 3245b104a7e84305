"""Asking and instructing the edge of this computer: over its loopback page while it runs, in its files while it does not."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from tieline_core.errors import BadInputError, TransientError
from tieline_edge.commissioning.token import read_token
from tieline_edge.settings import EdgeSettings
from tieline_edge.state_lock import StateHeldError
from tieline_edge.state_paths import StatePaths

_TIMEOUT_S: Final = 20.0


class NotAnsweringError(TransientError):
    """An edge holds its state folder, but its loopback page does not answer."""


@contextmanager
def held_by(held: StateHeldError) -> Iterator[None]:
    """Name who holds the state folder when the edge does not answer: it may be a checkout."""
    try:
        yield
    except NotAnsweringError as error:
        raise NotAnsweringError(f"{held}; {error}") from error


def ask(settings: EdgeSettings, path: str) -> dict[str, Any]:
    """A page of the running edge.

    Raises:
        NotAnsweringError: Nobody answers.
    """
    return _exchange(settings, "GET", path, None, {})


def order(settings: EdgeSettings, path: str, row: Mapping[str, object]) -> dict[str, Any]:
    """Give the running edge an order, with the token of its state folder.

    Raises:
        NotAnsweringError: Nobody answers.
        BadInputError: The edge refuses it, or this user may not read the token.
    """
    token = read_token(StatePaths.below(settings.state_dir).token)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    return _exchange(settings, "POST", path, json.dumps(dict(row)).encode(), headers)


def _exchange(settings: EdgeSettings, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> dict[str, Any]:
    port = settings.metrics.port
    if port == 0:
        raise NotAnsweringError(
            f"{settings.edge_id} runs, but serves no page on loopback (metrics.port: 0): stop it, or give it a port"
        )
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request(method, path, body, dict(headers))
        with connection.getresponse() as response:
            status, row = response.status, json.load(response)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotAnsweringError(f"{settings.edge_id} does not answer on 127.0.0.1:{port} ({error}). Is it running?") from error
    finally:
        connection.close()
    if not isinstance(row, dict):
        raise NotAnsweringError(f"what answers on 127.0.0.1:{port} is not {settings.edge_id}")
    if status != http.client.OK:
        raise BadInputError(str(settings.edge_id), "", None, str(row.get("detail", status)))
    return row
