"""YAML as configuration is read here: safe types only, no key twice, no aliases, and one kind of error for every mistake."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Final

import yaml

from tieline_core.errors import BadInputError

MAX_BYTES: Final = 1024 * 1024


class _Loader(yaml.SafeLoader):
    """A SafeLoader that refuses what would silently lose a key, blow up, or end in a library's own error."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.constructor.ConstructorError(None, None, "aliases are not read", parent.start_mark if parent else None)
        return super().compose_node(parent, index)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, OverflowError) as error:
            # What looks like a date or a number to YAML and is none: 2016-99-99, 0x_, ten thousand digits.
            reason = f"{str(node.value)[:40]!r} is neither a text nor a value: {error}; quote it if a text is meant"
            raise yaml.constructor.ConstructorError(None, None, reason, node.start_mark) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key has to be a text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def parse(data: bytes, source: str, max_bytes: int = MAX_BYTES) -> object:
    """The tree of a YAML document.

    Args:
        data: The document, UTF-8.
        source: Where it came from, for messages.
        max_bytes: Longer documents are refused before they are parsed.

    Raises:
        BadInputError: It is too large, no UTF-8, no YAML, nested too deeply, uses an alias or writes a key twice; line and
            column are named where there are any.
    """
    if len(data) > max_bytes:
        raise BadInputError(source, "", f"over {max_bytes} bytes", f"at most {max_bytes} bytes are read")
    try:
        return yaml.load(data.decode("utf-8"), Loader=_Loader)  # noqa: S506 (a SafeLoader, stricter)
    except UnicodeDecodeError as error:
        raise BadInputError(source, "", None, f"is not UTF-8: {error}") from error
    except RecursionError as error:
        raise BadInputError(source, "", None, "is nested too deeply") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}, line {mark.line + 1}, column {mark.column + 1}" if mark else source
        raise BadInputError(where, "", None, f"no YAML we read: {getattr(error, 'problem', None) or error}") from error
