"""What pydantic finds wrong with a key, in the words of people who write such files."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Final, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

#: pydantic's words where ours say more; the rest of its messages are plain enough.
_REASONS: Final = {
    "missing": "this key is required",
    "string_type": "a text is expected",
    "int_type": "a whole number is expected",
    "int_parsing": "a whole number is expected",
    "float_type": "a number is expected",
    "float_parsing": "a number is expected, in the unit that the key's name ends with",
    "bool_type": "true or false is expected",
    "bool_parsing": "true or false is expected",
    "tuple_type": "a list is expected",
    "model_type": "a block of keys is expected",
}


def reason_of(row: ErrorDetails, model: type[BaseModel]) -> str:
    """Why a value is refused, and for an unknown key which one may have been meant.

    Args:
        row: One mistake of a validation.
        model: The class the whole tree was checked against.
    """
    kind = row["type"]
    if kind == "extra_forbidden":
        owner = _owner(row["loc"], model)
        known = [] if owner is None else list(owner.model_fields)
        near = difflib.get_close_matches(str(row["loc"][-1]), known, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else f"; known here: {', '.join(known)}" if known else ""
        return f"unknown key{hint}"
    return _REASONS.get(kind) or row["msg"].removeprefix("Value error, ")


def value_of(row: ErrorDetails) -> object:
    """The value to show; None for a key that is not there, whose surroundings would be shown else."""
    return None if row["type"] == "missing" else row.get("input")


def _owner(location: Sequence[int | str], model: type[BaseModel]) -> type[BaseModel] | None:
    """The class that owns the last part of a path; parts that number or name an entry are passed over."""
    entry = False
    for part in location[:-1]:
        if entry or isinstance(part, int):
            entry = False
            continue
        if part not in model.model_fields:
            return None
        annotation = model.model_fields[part].annotation
        options = (annotation, *get_args(annotation))
        entry = any(isinstance(kind := get_origin(option), type) and issubclass(kind, Mapping) for option in options)
        nested = [item for item in _inner(options) if isinstance(item, type) and issubclass(item, BaseModel)]
        if not nested:
            return None
        model = nested[0]
    return model


def _inner(options: Sequence[object]) -> Sequence[object]:
    return [*options, *(inner for option in options for inner in get_args(option))]
