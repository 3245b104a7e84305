"""Marks a test with the assertions of the specification it shows; the table beside it is checked against these marks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

_Test = TypeVar("_Test", bound=Callable[..., object])


def shows(*ids: str) -> Callable[[_Test], _Test]:
    """The test shows these assertions, named without their common ``tck-id-``."""

    def mark(test: _Test) -> _Test:
        test.shows = ids  # type: ignore[attr-defined] # (a note on the function, read by nobody but people)
        return test

    return mark
