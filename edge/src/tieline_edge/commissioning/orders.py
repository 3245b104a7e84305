"""Orders to a running edge on loopback: whoever can read its token file may hang and remove tags.

Each order is a POST of a small JSON object with a proof that its sender knows the token, and so is its answer
(:mod:`tieline_edge.commissioning.proof`); nothing here is reachable from another computer.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final

from tieline_core.clock import Clock
from tieline_core.errors import BadInputError
from tieline_core.ids import DeviceId
from tieline_edge.commissioning import proof
from tieline_edge.control.executor import Executor
from tieline_edge.control.tags import Hold, TagBook, new_tag
from tieline_edge.pages import Page

#: Longest wait for a write that was under way when the tag was hung [wall s].
_QUIET_S: Final = 10.0
_LOOK_S: Final = 0.02
#: Numbers remembered, so that nobody gives an order a second time; only who knows the token uses one up.
_REMEMBERED: Final = 4096

Order = Callable[[Mapping[str, Any]], Awaitable[Page]]


class Orders:
    """Checks who asks, and hands the order to who carries it out.

    Args:
        token: What must be known.
        table: Who carries out which path.
    """

    def __init__(self, token: str, table: Mapping[str, Order]) -> None:
        self._token = token
        self._table = dict(table)
        self._used: deque[str] = deque(maxlen=_REMEMBERED)

    def renew(self, token: str) -> None:
        """From now on this token counts: whoever held the port before may have been given orders with the earlier one."""
        self._token = token
        self._used.clear()

    async def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> Page:
        """Carry out an order; the answer proves that it is the edge's."""
        token, nonce = self._token, headers.get(proof.NONCE, "")
        try:
            page = await self._carried_out(token, nonce, path, headers, body)
        except (BadInputError, ValueError) as error:
            page = Page.problem(HTTPStatus.BAD_REQUEST, str(error))
        proven = (proof.PROOF, proof.of_answer(token, nonce, page.status, page.body))
        return replace(page, headers=(*page.headers, proven))

    async def _carried_out(self, token: str, nonce: str, path: str, headers: Mapping[str, str], body: bytes) -> Page:
        order = self._table.get(path)
        if order is None:
            return Page.problem(HTTPStatus.NOT_FOUND, f"orders are: {', '.join(sorted(self._table))}")
        scheme, _, given = headers.get("authorization", "").partition(" ")
        known = scheme == proof.SCHEME and proof.same(given, proof.of_order(token, nonce, path, body))
        if not known or not nonce:
            return Page.problem(HTTPStatus.UNAUTHORIZED, "the token of the edge's state folder is needed for orders")
        if nonce in self._used:
            return Page.problem(HTTPStatus.UNAUTHORIZED, "this order was given before")
        self._used.append(nonce)
        try:
            row = json.loads(body)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            return Page.problem(HTTPStatus.BAD_REQUEST, "an order is one JSON object")
        return await order(row)


def tag_orders(tags: TagBook, executor: Executor, clock: Clock) -> dict[str, Order]:
    """Hanging and removing tags."""

    async def hang(row: Mapping[str, Any]) -> Page:
        words = {name: _text(row, name) for name in ("device", "by", "reason")}
        tag = new_tag(**words, hold=_hold(row), at=clock.now())
        warning = None
        try:
            tags.hang(tag)
        except OSError as error:
            warning = f"the disk refused ({error}): the tag holds now, but not beyond a restart"
        quiet = await _quiet(executor, tag.device)
        return Page.of_json({"tag": tag.model_dump(mode="json"), "quiet": quiet, "warning": warning})

    async def remove(row: Mapping[str, Any]) -> Page:
        try:
            tag = tags.remove(DeviceId(_text(row, "device")), _text(row, "by"))
        except OSError as error:
            return Page.problem(HTTPStatus.INSUFFICIENT_STORAGE, f"the disk refused ({error}): the tag still hangs")
        return Page.of_json({"tag": tag.model_dump(mode="json")})

    return {"/tag": hang, "/untag": remove}


async def _quiet(executor: Executor, device: DeviceId) -> bool:
    """True once no write to the device is under way; what begins after the tag was hung is refused at the last door."""
    deadline_s = time.monotonic() + _QUIET_S
    while executor.writing(device):
        if time.monotonic() > deadline_s:
            return False
        await asyncio.sleep(_LOOK_S)
    return True


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise BadInputError("order", name, value, "a text is expected")
    return value


def _hold(row: Mapping[str, Any]) -> Hold:
    try:
        return Hold(row.get("hold", Hold.AS_IS.value))
    except ValueError as error:
        raise BadInputError("order", "hold", row.get("hold"), f"one of {', '.join(Hold)}") from error
