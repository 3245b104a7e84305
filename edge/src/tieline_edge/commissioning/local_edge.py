"""Asking and instructing the edge of this computer: over its loopback page while it runs, in its files while it does not."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from tieline_core.errors import BadInputError, TransientError
from tieline_edge.commissioning import proof
from tieline_edge.commissioning.token import read_token
from tieline_edge.settings import EdgeSettings
from tieline_edge.state_lock import StateHeldError
from tieline_edge.state_paths import StatePaths

_TIMEOUT_S: Final = 20.0
_MAX_ANSWER: Final = 16 * 1024 * 1024


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
    status, _, body = _exchange(settings, "GET", path, None, {})
    return _row(settings, status, body)


def order(settings: EdgeSettings, path: str, row: Mapping[str, object]) -> dict[str, Any]:
    """Give the running edge an order, and believe only its own answer.

    Raises:
        NotAnsweringError: Nobody answers, or somebody who is not the edge.
        BadInputError: The edge refuses it, or this user may not read the token.
    """
    token, nonce = read_token(StatePaths.below(settings.state_dir).token), proof.new_nonce()
    body = json.dumps(dict(row)).encode()
    headers = {
        "Authorization": f"{proof.SCHEME} {proof.of_order(token, nonce, path, body)}",
        proof.NONCE: nonce,
        "Content-Type": "application/json",
    }
    status, proven, answer = _exchange(settings, "POST", path, body, headers)
    if not proof.same(proven, proof.of_answer(token, nonce, status, answer)):
        raise NotAnsweringError(
            f"what answers on 127.0.0.1:{settings.metrics.port} does not know the token of {settings.edge_id}: somebody else "
            "has its port, or it has just started; nothing is known to have been done"
        )
    return _row(settings, status, answer)


def _exchange(
    settings: EdgeSettings, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
) -> tuple[int, str, bytes]:
    """Status, proof and body of an answer."""
    port = settings.metrics.port
    if port == 0:
        raise NotAnsweringError(
            f"{settings.edge_id} runs, but serves no page on loopback (metrics.port: 0): stop it, or give it a port"
        )
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request(method, path, body, dict(headers))
        with connection.getresponse() as response:
            return response.status, response.headers.get(proof.PROOF, ""), response.read(_MAX_ANSWER)
    except (OSError, http.client.HTTPException) as error:
        raise NotAnsweringError(f"{settings.edge_id} does not answer on 127.0.0.1:{port} ({error}). Is it running?") from error
    finally:
        connection.close()


def _row(settings: EdgeSettings, status: int, body: bytes) -> dict[str, Any]:
    try:
        row = json.loads(body)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise NotAnsweringError(f"what answers on 127.0.0.1:{settings.metrics.port} is not {settings.edge_id}")
    if status != http.client.OK:
        raise BadInputError(str(settings.edge_id), "", None, str(row.get("detail", status)))
    return row
