"""The table of assertions is complete, and every entry is borne out by a mark on a test that exists."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

import pytest
import yaml

_FOLDER: Final = Path(__file__).parent
_TABLE: Final = yaml.safe_load((_FOLDER / "ids.yaml").read_text("utf-8"))
_PAGE: Final = Path(__file__).parents[3] / "shared/docs/sparkplug.md"
#: Assertions of Sparkplug B 3.0.0.
_TOTAL: Final = 299


def _marks() -> dict[str, list[str]]:
    """Test names by assertion id, as the marks say it."""
    found: dict[str, list[str]] = {}
    for path in sorted(_FOLDER.glob("test_*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for call in node.decorator_list:
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "shows":
                    assert node.name.startswith("test_")
                    for argument in call.args:
                        assert isinstance(argument, ast.Constant)
                        found.setdefault(str(argument.value), []).append(f"{path.name}::{node.name}")
    return found


def _not_offered() -> list[str]:
    return [identifier for rows in _TABLE["not_offered"].values() for identifier in rows]


def test_every_assertion_is_in_the_table_once() -> None:
    everything = [*_not_offered(), *_TABLE["shown_by"]]
    assert (len(everything), len(set(everything))) == (_TOTAL, _TOTAL)


def test_every_assertion_that_applies_is_shown_by_the_tests_the_table_names() -> None:
    assert _TABLE["shown_by"] == _marks()


@pytest.mark.parametrize(("words", "count"), [("apply", len(_TABLE["shown_by"])), ("are not offered", len(_not_offered()))])
def test_the_page_says_the_counts_of_the_table(words: str, count: int) -> None:
    assert f"{count} {words}" in " ".join(_PAGE.read_text("utf-8").split())
