"""``/v1/ingest/{source}``: deliveries of head-end systems, each stored once under its key."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Header, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect

from tieline_cloud.api.problems import ProblemError, statuses
from tieline_cloud.api.query import Services
from tieline_cloud.doors.deliveries import FRAME, JSON
from tieline_cloud.doors.intake import MAX_BODY_BYTES, BusyError, Delivery, KeyConflictError, NotAdmittedError
from tieline_cloud.doors.unpack import ENCODINGS

router = APIRouter(tags=["readings"])
#: Wall seconds a body may take: a sender that trickles must not hold a place at the desk.
_BODY_S: Final = 30.0
_ROW: Final = {
    "type": "object",
    "required": ["point", "measured_at", "value"],
    "additionalProperties": False,
    "properties": {
        "point": {"type": "string", "examples": ["mdm/meter-17/p_w"]},
        "measured_at": {"type": "string", "format": "date-time"},
        "value": {"type": ["number", "null"]},
        "quality": {"type": "string", "enum": ["good", "uncertain", "substituted", "stale", "bad"], "default": "good"},
    },
}
_COLUMNS: Final = {
    "type": "object",
    "required": ["point", "measured_at", "value"],
    "additionalProperties": False,
    "properties": {key: {"type": "array", "items": schema} for key, schema in _ROW["properties"].items()},  # type: ignore[attr-defined]
}
_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {
                "schema": {
                    "oneOf": [
                        {"type": "object", "required": ["rows"], "properties": {"rows": {"type": "array", "items": _ROW}}},
                        {"type": "object", "required": ["columns"], "properties": {"columns": _COLUMNS}},
                    ]
                },
                "example": {"rows": [{"point": "mdm/meter-17/p_w", "measured_at": "2026-11-20T12:00:00Z", "value": 420.5}]},
            },
            FRAME: {"schema": {"type": "string", "format": "binary", "description": "readings body of the wire contract"}},
        },
    }
}


class DeliveryReceipt(BaseModel):
    """The delivery is in the ledger, on the disk."""

    model_config = ConfigDict(frozen=True)

    source: str
    key: str
    readings: int = Field(description="readings of the delivery; all of them are stored")
    sha256: str = Field(description="of the body, unpacked")


@router.post(
    "/ingest/{source}",
    summary="Deliver readings of a head-end system",
    responses=statuses(400, 401, 408, 409, 413, 415, 422, 503),
    openapi_extra=_BODY,
)
async def deliver(
    request: Request,
    response: Response,
    hub: Services,
    source: Annotated[str, Path(max_length=48, examples=["mdm"])],
    key: Annotated[str, Header(alias="Idempotency-Key", max_length=200, description="one for each delivery")],
    authorization: Annotated[str | None, Header(max_length=5000, description="Bearer and the source's token")] = None,
) -> DeliveryReceipt:
    """All or nothing, once: 200 says that every reading is on the disk, there is no 202.

    The same key with the same content is answered with 200 and the first answer again (header ``Idempotency-Replayed``),
    with other content with 409. The body is rows or columns of JSON, or the readings body of the wire contract, plain or
    with ``Content-Encoding`` gzip or zstd. Rows that cannot be taken refuse the delivery with 422 and are named. 503 with
    ``Retry-After`` says that the ledger cannot follow: send the same delivery again. Points begin with the source's name.
    """
    try:
        name = hub.intake.admit(source, authorization)
        async with hub.intake.place(name):
            media_type, encoding = _form(request)
            delivery = Delivery(name, key, media_type, encoding, await _body(request))
            receipt = await hub.intake.take(delivery)
    except NotAdmittedError as error:
        challenge = {"WWW-Authenticate": "Bearer"}
        raise ProblemError(HTTPStatus.UNAUTHORIZED, "not-admitted", str(error), challenge) from error
    except KeyConflictError as error:
        raise ProblemError(HTTPStatus.CONFLICT, "conflict", str(error)) from error
    except BusyError as error:
        wait = {"Retry-After": str(error.retry_after_s)}
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "try-again", str(error), wait) from error
    if receipt.repeated:
        response.headers["Idempotency-Replayed"] = "true"
    return DeliveryReceipt(source=receipt.source, key=receipt.key, readings=receipt.readings, sha256=receipt.sha256)


def _form(request: Request) -> tuple[str, str]:
    media_type = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if media_type not in (JSON, FRAME):
        raise ProblemError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", f"content-type {media_type!r}: {JSON} or {FRAME}"
        )
    if encoding not in ENCODINGS:
        raise ProblemError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            f"content-encoding {encoding!r}: {', '.join(ENCODINGS)}",
        )
    return media_type, encoding


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_S):
            async for block in request.stream():
                body += block
                if len(body) > MAX_BODY_BYTES:
                    raise ProblemError(
                        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                        "too-large",
                        f"a delivery has at most {MAX_BODY_BYTES} bytes as sent",
                    )
    except TimeoutError as error:
        raise ProblemError(HTTPStatus.REQUEST_TIMEOUT, "too-slow", f"the body was not there after {_BODY_S:g} s") from error
    except ClientDisconnect as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "cut-short", "the body ended early; nothing was stored") from error
    return bytes(body)
