"""Reads the hub's YAML: every mistake is named with file, key, value and what would be right."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from tieline_cloud.settings import HubSettings
from tieline_core.errors import BadInputError, PermanentError
from tieline_core.field_words import reason_of, value_of
from tieline_core.strict_yaml import parse

M = TypeVar("M", bound=BaseModel)
#: Keys whose value is a path; a relative one is meant from the folder of the configuration file. A star is every entry.
_PATH_KEYS: Final = (
    ("data_dir",),
    ("signing_key",),
    ("prices",),
    ("clock", "path"),
    ("grid", "file"),
    ("mqtt", "password_file"),
    ("mqtt", "ca_file"),
    ("mirrors", "*", "token_file"),
    ("mirrors", "*", "ca_file"),
    ("sources", "*", "token_file"),
    ("kafka", "ca_file"),
    ("kafka", "password_file"),
    ("quality", "rules"),
)


class ConfigError(PermanentError):
    """The configuration cannot be used.

    Attributes:
        mistakes: All that were found, in the order of the file's tree.
    """

    def __init__(self, mistakes: tuple[BadInputError, ...]) -> None:
        self.mistakes = mistakes
        super().__init__("\n".join(str(mistake) for mistake in mistakes))


def load_settings(path: Path) -> HubSettings:
    """Read and check a configuration file.

    Raises:
        ConfigError: Naming every mistake.
    """
    tree = read_tree(path, "data_dir, mqtt, signing_key, ...")
    for keys in _PATH_KEYS:
        _anchor(tree, keys, path.parent)
    return validated(HubSettings, tree, str(path))


def validated(model: type[M], tree: dict[str, Any], source: str) -> M:
    """Check a tree that was read against its model.

    Raises:
        ConfigError: Naming every mistake with file, key, value and reason.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(
            tuple(
                BadInputError(source, ".".join(str(part) for part in row["loc"]), value_of(row), reason_of(row, model))
                for row in error.errors(include_url=False)
            )
        ) from error


def read_tree(path: Path, keys: str) -> dict[str, Any]:
    """Read a YAML file whose root is a mapping; ``keys`` names what is expected in it, for the message.

    Raises:
        ConfigError: When it cannot be read, is too long, no YAML or no mapping.
    """
    source = str(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError((BadInputError(source, "", source, f"cannot be read: {error.strerror}"),)) from error
    try:
        tree = parse(data, source)
    except BadInputError as error:
        raise ConfigError((error,)) from error
    if not isinstance(tree, dict):
        raise ConfigError((BadInputError(source, "", tree, f"expected a mapping with the keys {keys}"),))
    return tree


def _anchor(tree: object, keys: tuple[str, ...], folder: Path) -> None:
    key, *rest = keys
    if key == "*":
        entries = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
        for entry in entries:
            _anchor(entry, tuple(rest), folder)
    elif isinstance(tree, dict) and key in tree:
        if rest:
            _anchor(tree[key], tuple(rest), folder)
        elif isinstance(tree[key], str):
            tree[key] = str((folder / tree[key]).absolute())
