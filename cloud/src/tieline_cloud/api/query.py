"""What routes share: access to the services, and time spans as every list takes them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, cast

from fastapi import Depends, Query, Request
from pydantic import AfterValidator, AwareDatetime

from tieline_cloud.api.ports import HubServices
from tieline_cloud.api.problems import ProblemError, not_found
from tieline_cloud.fleet.views import EdgeStatus
from tieline_core.ids import EdgeId, PointId
from tieline_core.timegrid import EARLIEST, LATEST


def services(request: Request) -> HubServices:
    """The services this application was made with."""
    return cast("HubServices", request.app.state.services)


Services = Annotated[HubServices, Depends(services)]
Limit = Annotated[int, Query(ge=1, le=10_000, description="at most this many rows")]
EdgeParameter = Annotated[str | None, Query(description="id of an edge", examples=["harbour"], max_length=64)]


def _within_reason(instant: datetime | None) -> datetime | None:
    if instant is not None and not EARLIEST <= instant <= LATEST:
        raise ValueError(f"an instant from {EARLIEST.year} to {LATEST.year - 1} was expected")
    return instant


Instant = Annotated[AwareDatetime | None, AfterValidator(_within_reason)]
From = Annotated[Instant, Query(alias="from", description="first instant, RFC 3339 with offset")]
To = Annotated[Instant, Query(alias="to", description="end, exclusive, RFC 3339 with offset")]


@dataclass(frozen=True, slots=True)
class Span:
    """A checked time span [start, end), UTC."""

    start: datetime
    end: datetime


def span(start: datetime | None, end: datetime | None, now: datetime, default: timedelta, forward: timedelta) -> Span:
    """Fill in what was left out and check the order.

    Raises:
        ProblemError: 422 when the span is empty.
    """
    first = (start or (end or now) - default).astimezone(UTC)
    last = (end or max(now, first) + forward).astimezone(UTC)
    if first >= last:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY, "validation", f"from {first.isoformat()} must be before to {last.isoformat()}"
        )
    return Span(first, last)


def point_id(text: str) -> PointId:
    """A point from a query.

    Raises:
        ProblemError: 422 when it has another form.
    """
    try:
        return PointId(text)
    except ValueError as error:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "validation", str(error)) from error


def all_edges(hub: HubServices) -> list[EdgeStatus]:
    """Edges that were heard of, and those the settings name that were not, by id."""
    heard = {status.edge_id: status for status in hub.fleet.edges()}
    silent = {edge: EdgeStatus(edge) for edge in hub.settings.edges if edge not in heard}
    return [status for _, status in sorted({**heard, **silent}.items())]


def known_edge(hub: HubServices, text: str) -> EdgeStatus:
    """The edge of that name.

    Raises:
        ProblemError: 404 naming the ones there are.
    """
    edges = all_edges(hub)
    for edge in edges:
        if edge.edge_id == text:
            return edge
    known = ", ".join(edge.edge_id for edge in edges) or "none yet"
    raise not_found(f"there is no edge {text!r}; known edges: {known}")


def edge_filter(hub: HubServices, text: str | None) -> EdgeId | None:
    """The edge a list is narrowed to, or None for all; 404 when it is unknown."""
    return None if text is None else known_edge(hub, text).edge_id
