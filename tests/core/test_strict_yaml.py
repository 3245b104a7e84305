"""Whatever stands in a configuration file, the answer is a tree or one error that says where."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline_core.errors import BadInputError
from tieline_core.strict_yaml import parse


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a: 2016-99-99", "quote it"),
        ("a: 0x_", "quote it"),
        ("a: " + "9" * 5000, "quote it"),
        ("a: 1\na: 2", "line 2"),
        ("a: &x 1\nb: *x", "aliases"),
        ("? [a]\n: 1", "a key has to be a text"),
        ("a: [", "no YAML"),
        ("[" * 3000, "nested too deeply"),
        ("a: !!python/object:os.system x", "no YAML"),
    ],
)
def test_every_mistake_is_named(text: str, word: str) -> None:
    with pytest.raises(BadInputError, match=r"site\.yaml") as caught:
        parse(text.encode(), "site.yaml")
    assert word in str(caught.value)


def test_bytes_that_are_no_text_and_files_that_are_too_long_are_refused() -> None:
    with pytest.raises(BadInputError, match="UTF-8"):
        parse(b"a: \xff", "x")
    with pytest.raises(BadInputError, match="at most"):
        parse(b"#" * 101, "x", max_bytes=100)


@given(data=st.one_of(st.binary(max_size=200), st.text("aA0:-?*&!{}[],\n '\"#|>%@x_.", max_size=80).map(str.encode)))
def test_no_other_error_escapes(data: bytes) -> None:
    try:
        parse(data, "fuzz")
    except BadInputError:
        return
