"""How a benchmark writes down what it measured."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

OUT = Path("var/bench")


def median_s(work: Callable[[], object], repeats: int = 5) -> float:
    """Median wall seconds of a call after one warm-up."""
    work()
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def write(name: str, figures: dict[str, Any], packages: tuple[str, ...]) -> None:
    """Write ``var/bench/<name>.json`` and print it."""
    OUT.mkdir(parents=True, exist_ok=True)
    versions = {"python": platform.python_version(), **{package: version(package) for package in packages}}
    text = json.dumps({"bench": name, **figures, "versions": versions}, indent=2)
    (OUT / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(text)  # noqa: T201 (a benchmark is a command line)
