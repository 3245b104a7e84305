"""Every error of the API as a problem body (RFC 9457)."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from tieline_cloud.dispatch.commands import CommandConflictError
from tieline_cloud.doors.deliveries import DeliveryRefusedError
from tieline_core.errors import BadInputError, PermanentError, TransientError

_LOG = logging.getLogger(__name__)
MEDIA_TYPE: Final = "application/problem+json"
_PREFIX: Final = "urn:tieline:problem:"


class FieldProblem(BaseModel):
    """One wrong field."""

    model_config = ConfigDict(frozen=True)

    key: str = Field(examples=["query.step"])
    reason: str


class Problem(BaseModel):
    """Problem details (RFC 9457)."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(examples=["urn:tieline:problem:not-found"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["there is no edge 'harbor'; known edges: harbour, market, mill"])
    instance: str = Field(examples=["/v1/edges/harbor"])
    errors: tuple[FieldProblem, ...] = ()


class ProblemError(Exception):
    """Raised by a route to answer with a problem body."""

    def __init__(self, status: HTTPStatus, slug: str, detail: str, headers: dict[str, str] | None = None) -> None:
        self.status = status
        self.slug = slug
        self.detail = detail
        self.headers = headers
        super().__init__(detail)


def not_found(detail: str) -> ProblemError:
    """404 with a sentence that says what there is."""
    return ProblemError(HTTPStatus.NOT_FOUND, "not-found", detail)


def statuses(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route: each status it may answer beside its success, as a problem body."""
    return {
        code: {"description": HTTPStatus(code).phrase, "model": Problem, "content": {MEDIA_TYPE: {}}}
        for code in sorted({*codes, HTTPStatus.INTERNAL_SERVER_ERROR})
    }


def problem_response(
    request: Request,
    status: int,
    slug: str,
    detail: str,
    errors: tuple[FieldProblem, ...] = (),
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """A problem body as a response."""
    body = Problem(
        type=_PREFIX + slug,
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=request.url.path,
        errors=errors,
    )
    return JSONResponse(body.model_dump(mode="json"), status, headers, MEDIA_TYPE)


async def _on_problem(request: Request, error: ProblemError) -> JSONResponse:
    return problem_response(request, error.status, error.slug, error.detail, headers=error.headers)


async def _on_http(request: Request, error: HTTPException) -> JSONResponse:
    slug = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
    details = {
        404: f"there is nothing at {request.url.path}; the interface is described at /v1/openapi.json",
        405: f"{request.method} does not work on {request.url.path}",
    }
    detail = details.get(error.status_code, str(error.detail))
    return problem_response(request, error.status_code, slug, detail, headers=dict(error.headers or {}))


async def _on_validation(request: Request, error: RequestValidationError) -> JSONResponse:
    fields = tuple(
        FieldProblem(key=".".join(str(part) for part in row["loc"]), reason=str(row["msg"]).removeprefix("Value error, "))
        for row in error.errors()
    )
    detail = "; ".join(f"{field.key}: {field.reason}" for field in fields)
    return problem_response(request, HTTPStatus.UNPROCESSABLE_ENTITY, "validation", detail, fields)


async def _on_bad_input(request: Request, error: BadInputError) -> JSONResponse:
    fields = (FieldProblem(key=error.key, reason=error.reason),)
    return problem_response(request, HTTPStatus.UNPROCESSABLE_ENTITY, "validation", str(error), fields)


async def _on_delivery(request: Request, error: DeliveryRefusedError) -> JSONResponse:
    fields = tuple(FieldProblem(key=row.key, reason=f"{row.value}: {row.reason}") for row in error.problems)
    return problem_response(request, HTTPStatus.UNPROCESSABLE_ENTITY, "rows-refused", str(error), fields)


async def _on_conflict(request: Request, error: CommandConflictError) -> JSONResponse:
    return problem_response(request, HTTPStatus.CONFLICT, "conflict", str(error))


async def _on_permanent(request: Request, error: PermanentError) -> JSONResponse:
    return problem_response(request, HTTPStatus.UNPROCESSABLE_ENTITY, "refused", str(error))


async def _on_transient(request: Request, error: TransientError) -> JSONResponse:
    status = HTTPStatus.SERVICE_UNAVAILABLE
    return problem_response(request, status, "try-again", str(error), headers={"Retry-After": "2"})


async def _on_anything(request: Request, error: Exception) -> JSONResponse:
    _LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
    detail = "the hub could not do this; its log says why"
    return problem_response(request, HTTPStatus.INTERNAL_SERVER_ERROR, "internal", detail)


def install(app: FastAPI) -> None:
    """Let every error leave as a problem body."""
    handlers: dict[Any, Any] = {
        ProblemError: _on_problem,
        HTTPException: _on_http,
        RequestValidationError: _on_validation,
        BadInputError: _on_bad_input,
        DeliveryRefusedError: _on_delivery,
        CommandConflictError: _on_conflict,
        PermanentError: _on_permanent,
        TransientError: _on_transient,
        Exception: _on_anything,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
