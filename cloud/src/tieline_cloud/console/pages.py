"""Page shells and static files of the operator console; everything they show comes from ``/v1``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader
from starlette.staticfiles import StaticFiles

from tieline_cloud import __version__
from tieline_cloud.api.query import Services

_FOLDER: Final = Path(__file__).parent
_TEMPLATES: Final = _FOLDER / "templates"
_STATIC: Final = _FOLDER / "static"


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its path, template and title."""

    path: str
    template: str
    title: str


#: Pages of the console; one whose template is not there is not offered.
PAGES: Final = (
    Page("/", "overview.html", "Overview"),
    Page("/network", "network.html", "Network"),
    Page("/forecasts", "forecasts.html", "Forecasts"),
    Page("/batteries", "batteries.html", "Batteries"),
    Page("/edges", "edges.html", "Edges"),
    Page("/alarms", "alarms.html", "Alarms"),
    Page("/models", "models.html", "Models"),
)


def mount(app: FastAPI) -> None:
    """Bind the pages and static files there are."""
    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True)
    offered = tuple(page for page in PAGES if (_TEMPLATES / page.template).is_file())
    for page in offered:
        _bind(app, environment, page, offered)
    if _STATIC.is_dir():
        app.mount("/static", StaticFiles(directory=_STATIC), name="static")


def _bind(app: FastAPI, environment: Environment, page: Page, offered: tuple[Page, ...]) -> None:
    async def show(hub: Services) -> HTMLResponse:
        text = environment.get_template(page.template).render(
            page=page,
            pages=offered,
            version=__version__,
            grid_id=hub.settings.grid.id,
            time_zone=hub.settings.site.time_zone,
        )
        return HTMLResponse(text, headers={"Cache-Control": "no-cache"})

    app.add_api_route(page.path, show, methods=["GET"], include_in_schema=False, name=f"page-{page.template}")
