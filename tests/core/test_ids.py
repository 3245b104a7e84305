"""Identifiers have one canonical form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from tieline_core.ids import DeviceId, EdgeId, PointId


def test_a_point_names_edge_device_and_quantity() -> None:
    point = PointId.of("harbour", "bat1", "p_w")
    assert (point, point.edge, point.device, point.quantity) == ("harbour/bat1/p_w", "harbour", "bat1", "p_w")


@pytest.mark.parametrize("text", ["", "Harbour", "har bour", "-a", "a-", "a/b", "x" * 49, "härbour", "a\n"])
def test_anything_but_the_canonical_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no EdgeId"):
        EdgeId(text)


@pytest.mark.parametrize("text", ["harbour/bat1", "harbour/bat1/p_w/x", "harbour//p_w", "harbour/bat1/P_W"])
def test_a_point_has_exactly_three_parts(text: str) -> None:
    with pytest.raises(ValueError, match="is no PointId"):
        PointId(text)


def test_messages_validate_and_keep_the_type() -> None:
    adapter = TypeAdapter(DeviceId)
    assert isinstance(adapter.validate_json('"bat1"'), DeviceId)
    with pytest.raises(ValidationError):
        adapter.validate_json('"BAT 1"')


@given(st.text(max_size=60))
def test_what_is_accepted_round_trips_through_a_topic_level(text: str) -> None:
    try:
        edge = EdgeId(text)
    except ValueError:
        return
    assert not set(edge) & set("/+#\0 ")
    assert EdgeId(str(edge)) == edge
