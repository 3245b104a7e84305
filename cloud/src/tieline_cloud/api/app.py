"""The HTTP application: one table of routers, one set of headers, every error a problem body."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from tieline_cloud import __version__
from tieline_cloud.api import problems
from tieline_cloud.api.ports import HubServices
from tieline_cloud.api.routes import (
    artifacts,
    commands,
    configs,
    edges,
    events,
    forecasts,
    grids,
    health,
    ingest,
    jobs,
    live,
    metrics,
    models,
    plans,
    policies,
    quality,
    readings,
    reconcile,
    rollups,
    why,
)
from tieline_cloud.console import pages
from tieline_cloud.doors import intake

#: Every router below /v1. A new noun is one file in ``routes`` and one name here.
ROUTERS: Final[tuple[APIRouter, ...]] = (
    health.router,
    edges.router,
    configs.router,
    policies.router,
    reconcile.router,
    why.router,
    readings.router,
    rollups.router,
    ingest.router,
    quality.router,
    forecasts.router,
    plans.router,
    commands.router,
    events.router,
    grids.router,
    artifacts.router,
    jobs.router,
    models.router,
    live.router,
)
MAX_BODY_BYTES: Final = 256 * 1024
_TAGS: Final = [
    {"name": "hub", "description": "How the hub stands."},
    {"name": "fleet", "description": "Edges and their devices, learned from births and reports."},
    {"name": "readings", "description": "Measured values. Load convention: positive = drawn from the grid by the asset."},
    {"name": "quality", "description": "Findings of the rules of data quality, readings set apart, and the rules."},
    {"name": "forecasts", "description": "Forecasts as issued, and the models that issue them."},
    {"name": "plans", "description": "Day plans with certificates."},
    {"name": "commands", "description": "Operator commands, signed, followed until effective."},
    {"name": "events", "description": "Operator events: ALARM, ACTION, COMPLIANT, INFORMATION."},
    {"name": "grid", "description": "The network model and its estimated state."},
    {"name": "artifacts", "description": "Content-addressed files edges pull."},
    {"name": "jobs", "description": "Import, training, planning and export."},
]
_DESCRIPTION: Final = """The public interface of the Tieline hub.

Times are RFC 3339 with offset, UTC in answers; an interval is labelled by its start; steps are ISO 8601 durations.
Powers follow the load convention: positive is drawn from the grid by the asset. Every error is a problem body (RFC 9457).
The live socket `/v1/live` is described in the package's README."""
_CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_HEADERS: Final = (
    (b"content-security-policy", _CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class _Guard:
    """Adds the security headers to every answer and refuses bodies that are too long or from another origin."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        refusal = _refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, with_headers)
            return
        await self._app(scope, _limited(receive, _limit(scope)), with_headers)


def _refusal(scope: Scope) -> ASGIApp | None:
    from starlette.requests import Request

    request = Request(scope)
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return None
    if not live.same_origin(request.headers.get("origin"), request.headers.get("host")):
        return problems.problem_response(request, 403, "cross-origin", "writes from pages of another origin are refused")
    length = request.headers.get("content-length", "0")
    limit = _limit(scope)
    if not length.isdigit() or int(length) > limit:
        return problems.problem_response(request, 413, "too-large", f"a body has at most {limit} bytes")
    return None


def _limit(scope: Scope) -> int:
    """Most bytes of a body: deliveries of readings are larger than anything else."""
    return intake.MAX_BODY_BYTES if scope["path"].startswith("/v1/ingest/") else MAX_BODY_BYTES


def _limited(receive: Receive, limit: int) -> Receive:
    taken = 0

    async def take() -> MutableMapping[str, Any]:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            # A chunked body has no length to check beforehand: end it, so that nothing more is read.
            return {"type": "http.disconnect"}
        return message

    return take


def create_app(services: HubServices) -> FastAPI:
    """Make the application for one set of services."""
    app = FastAPI(
        title="Tieline hub",
        version=__version__,
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        generate_unique_id_function=_operation_id,
    )
    app.state.services = services
    for router in ROUTERS:
        app.include_router(router, prefix="/v1")
    app.include_router(metrics.router)
    pages.mount(app)
    problems.install(app)
    app.add_middleware(_Guard)
    return app


def _operation_id(route: Any) -> str:
    name: str = route.name
    return name
