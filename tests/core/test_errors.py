"""How a mistake is worded."""

from __future__ import annotations

import pytest

from tieline_core.errors import BadInputError


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("devices", None, "site.yaml: devices = None: required"),
        ("", None, "site.yaml: required"),
        ("", "rubbish", "site.yaml = 'rubbish': required"),
    ],
)
def test_a_mistake_names_what_it_is_about_and_nothing_else(key: str, value: object, text: str) -> None:
    assert str(BadInputError("site.yaml", key, value, "required")) == text
