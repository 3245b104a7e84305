"""Reading the catalogue that ships with the edge agent."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import Final

import yaml
from pydantic import ValidationError

from tieline_core.errors import BadInputError
from tieline_edge.drivers.catalog.entry import CatalogEntry

_MAX_BYTES: Final = 64 * 1024


@lru_cache(maxsize=1)
def names() -> tuple[str, ...]:
    """Names of all entries, sorted; one YAML file each."""
    folder = resources.files(__package__)
    return tuple(sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml")))


def parse_entry(text: str, source: str) -> CatalogEntry:
    """Read one entry.

    Raises:
        BadInputError: Naming the key and what is wrong with it.
    """
    if len(text) > _MAX_BYTES:
        raise BadInputError(source, "", f"{len(text)} characters", f"at most {_MAX_BYTES} are read")
    try:
        return CatalogEntry.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise BadInputError(source, "", None, f"no YAML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise BadInputError(source, key, first.get("input"), first["msg"]) from error


@lru_cache(maxsize=256)
def entry(name: str) -> CatalogEntry:
    """The entry of that name.

    Raises:
        BadInputError: When there is none, naming the nearest.
    """
    if name not in names():
        raise BadInputError("catalogue", "catalog", name, f"no such entry; there are: {', '.join(names())}")
    text = resources.files(__package__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    found = parse_entry(text, f"catalogue/{name}.yaml")
    if found.name != name:
        raise BadInputError(f"catalogue/{name}.yaml", "name", found.name, "must be the name of the file")
    return found
