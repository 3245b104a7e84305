"""The page of requirements names only what exists, each requirement once, none without a proof or a "not yet"."""

from __future__ import annotations

import argparse
import ast
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tieline_cloud.commands.parser import build_parser

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "shared/docs/requirements.md"
#: Folders a path in the column of code may be meant from.
SOURCES: Final = (
    ROOT,
    ROOT / "edge/src",
    ROOT / "edge/src/tieline_edge",
    ROOT / "cloud/src",
    ROOT / "cloud/src/tieline_cloud",
    ROOT / "shared/src",
    ROOT / "firmware-sim/src",
    ROOT / "firmware-sim/src/tieline_sim",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One requirement as the page has it."""

    line: int
    requirement: str
    code: str
    test: str
    figure: str


def rows() -> list[Row]:
    found = []
    for number, line in enumerate(PAGE.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("| ") and not line.startswith("| requirement"):
            cells = [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]
            assert len(cells) == 4, f"line {number} has {len(cells)} cells"
            found.append(Row(number, *cells))
    return found


def named(cell: str) -> list[str]:
    """What a cell quotes, with every ``{a,b}`` written out."""
    quoted = re.findall(r"`([^`]+)`", cell)
    return [one for text in quoted for one in spelled_out(text)]


def spelled_out(text: str) -> list[str]:
    braces = re.search(r"\{([^}]*)\}", text)
    if braces is None:
        return [text]
    return [one for word in braces[1].split(",") for one in spelled_out(text[: braces.start()] + word + text[braces.end() :])]


def is_path(text: str) -> bool:
    return " " not in text and ("/" in text or re.search(r"\.(py|md|sh|toml|lock|yaml)$", text) is not None)


@cache
def functions_of(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@cache
def subcommands() -> frozenset[str]:
    (actions,) = (row for row in build_parser()._actions if isinstance(row, argparse._SubParsersAction))
    return frozenset(actions.choices)


def missing(text: str, roots: tuple[Path, ...]) -> str | None:
    """Why what is named does not exist; None when it does, or when it is no name of anything that could be missing."""
    if text.startswith("make "):
        target = text.split()[1]
        if target.startswith("bench-"):
            module = ROOT / "tests/bench" / f"{target.removeprefix('bench-')}.py"
            return None if module.is_file() else f"{text}: there is no {module.relative_to(ROOT)}"
        rule = re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        return None if rule else f"{text}: the Makefile has no such target"
    if text.startswith("tieline-cloud "):
        return None if text.split()[1] in subcommands() else f"{text}: there is no such command"
    if not is_path(text) or text.startswith(("/", "var/")):
        return None
    path, _, test = text.partition("::")
    hits = [hit for root in roots for hit in (root.glob(path) if "*" in path else [root / path]) if hit.exists()]
    if not hits:
        return f"{path}: there is no such file"
    if test and not any(test in functions_of(hit) for hit in hits):
        return f"{text}: there is no such test"
    return None


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"line-{row.line}")
def test_what_a_requirement_names_exists(row: Row) -> None:
    reasons = [missing(text, SOURCES) for text in named(row.code) + named(row.figure)]
    reasons += [missing(text, (ROOT,)) for text in named(row.test)]
    assert [reason for reason in reasons if reason is not None] == []


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", PAGE.read_text(encoding="utf-8"))
    assert targets
    assert [target for target in targets if not (PAGE.parent / target).is_file()] == []


def test_no_requirement_is_listed_twice() -> None:
    assert [text for text, count in Counter(row.requirement for row in rows()).items() if count > 1] == []


def test_each_requirement_has_a_test_or_a_figure_or_says_not_yet() -> None:
    assert [row.line for row in rows() if not (row.test or row.figure)] == []


@pytest.mark.parametrize(
    "name",
    [
        "nowhere/test_nothing.py",
        "tests/contract/test_requirements_page.py::test_of_nothing",
        "make nothing",
        "make bench-nothing",
        "tieline-cloud nothing",
    ],
)
def test_what_does_not_exist_is_noticed(name: str) -> None:
    assert missing(name, (ROOT,)) is not None
