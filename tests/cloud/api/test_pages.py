"""Page shells of the console."""

from __future__ import annotations

import httpx
import pytest

from tieline_cloud.console.pages import _STATIC, _TEMPLATES, PAGES, Page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.template)
async def test_a_page_is_served_exactly_when_its_template_is_there(client: httpx.AsyncClient, page: Page) -> None:
    path, template = page.path, page.template
    response = await client.get(path)
    assert response.status_code == (200 if (_TEMPLATES / template).is_file() else 404)
    assert "script-src 'self'" in response.headers["content-security-policy"]


async def test_static_files_are_served(client: httpx.AsyncClient) -> None:
    name = next(path.name for path in sorted((_STATIC / "js").iterdir()) if path.suffix == ".js")
    response = await client.get(f"/static/js/{name}")
    assert response.status_code == 200
    assert "javascript" in response.headers["content-type"]
