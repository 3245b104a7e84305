"""Puts the page together: style and script stand in the document, and the policy admits exactly these two by their hash."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from http import HTTPStatus
from importlib.resources import files

from tieline_edge.pages import Page


@cache
def status_page() -> Page:
    """The page with its Content-Security-Policy; it fetches from where it came and from nowhere else."""
    folder = files(__package__)
    css, js = ((folder / name).read_text(encoding="utf-8") for name in ("status.css", "status.js"))
    html = (folder / "status.html").read_text(encoding="utf-8").replace("{{css}}", css).replace("{{js}}", js)
    policy = (
        f"default-src 'none'; script-src '{_hash(js)}'; style-src '{_hash(css)}'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    )
    headers = (("Content-Security-Policy", policy), ("X-Frame-Options", "DENY"))
    return Page(HTTPStatus.OK, "text/html; charset=utf-8", html.encode(), headers)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
