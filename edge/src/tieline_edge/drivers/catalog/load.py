"""Reading the catalogue that ships with the edge agent, and entries a site brings along as files of its own."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from pathlib import Path
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


def is_file(name: str) -> bool:
    """True when a device names a file of the site instead of an entry of the catalogue."""
    return name.endswith(".yaml")


def _of_site(path: Path) -> CatalogEntry:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_MAX_BYTES + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(str(path), "", None, f"the catalogue entry cannot be read: {error}") from error
    found = parse_entry(text, str(path))
    if found.name in names():
        raise BadInputError(str(path), "name", found.name, "is the name of an entry that ships with the agent")
    if found.name != path.stem:
        raise BadInputError(str(path), "name", found.name, "must be the name of the file")
    return found


@lru_cache(maxsize=256)
def entry(name: str) -> CatalogEntry:
    """The entry of that name, or in that file when the name ends with ``.yaml``.

    Raises:
        BadInputError: When there is none, naming the nearest.
    """
    if is_file(name):
        return _of_site(Path(name))
    if name not in names():
        raise BadInputError("catalogue", "catalog", name, f"no such entry; there are: {', '.join(names())}")
    text = resources.files(__package__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    found = parse_entry(text, f"catalogue/{name}.yaml")
    if found.name != name:
        raise BadInputError(f"catalogue/{name}.yaml", "name", found.name, "must be the name of the file")
    return found
