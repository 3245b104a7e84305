"""``/v1/commands``: instructions to devices, and what became of them."""

from __future__ import annotations

import uuid
from datetime import timedelta
from http import HTTPStatus

from fastapi import APIRouter
from pydantic import ValidationError

from tieline_cloud.api.problems import ProblemError, not_found, statuses
from tieline_cloud.api.query import Limit, Services, known_edge
from tieline_cloud.api.schemas.orders import CommandAnswer, CommandRequest
from tieline_cloud.dispatch.commands import CommandRecord
from tieline_core.messages.command import Command

router = APIRouter(tags=["commands"])


def _answer(record: CommandRecord) -> CommandAnswer:
    return CommandAnswer(command=record.command, state=record.state, text=record.text, reports=record.reports)


@router.post(
    "/commands", status_code=HTTPStatus.ACCEPTED, summary="Instruct a device", responses=statuses(400, 404, 409, 422, 503)
)
async def send_command(request: CommandRequest, hub: Services) -> CommandAnswer:
    """Signed and sent to the edge, which decides and reports; accepted says no more than that it was sent."""
    status = known_edge(hub, request.edge_id)
    edge = status.edge_id
    if status.third_party is not None:
        reason = f"{edge!r} is the third-party node {status.third_party!r}: Tieline reads it and never commands it"
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "third_party", reason)
    devices = [device.device_id for device in hub.fleet.devices(edge)]
    if devices and request.device_id not in devices:
        raise not_found(f"edge {edge!r} has no device {request.device_id!r}; it has {', '.join(devices)}")
    now = hub.clock.now()
    try:
        command = Command(
            command_id=request.command_id or uuid.uuid4().hex,
            edge_id=edge,
            device_id=request.device_id,
            action=request.action,
            value_w=request.value_w,
            expires_at=now + timedelta(seconds=request.valid_for_s),
            issued_by="local",
            issued_at=now,
            reason=request.reason,
        )
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "validation", reason) from error
    away = f"{edge} is away: unless a report comes, it has not heard it; send a new one when it is back"
    return _answer(await hub.commands.send(command, "" if status.online_live or status.online_durable else away))


@router.get("/commands", summary="Commands, newest first", responses=statuses(422))
async def list_commands(hub: Services, limit: Limit = 100) -> list[CommandAnswer]:
    """With the edge's reports."""
    return [_answer(record) for record in hub.commands.newest(limit)]


@router.get("/commands/{command_id}", summary="One command", responses=statuses(404, 422))
async def read_command(command_id: str, hub: Services) -> CommandAnswer:
    """With the edge's reports."""
    record = hub.commands.get(command_id)
    if record is None:
        raise not_found(f"there is no command {command_id!r}")
    return _answer(record)
