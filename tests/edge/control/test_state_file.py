"""The state file: the old text or the new one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tieline_edge.control import state_file
from tieline_edge.control.state_file import StateFile


def test_what_was_written_is_read_back_and_nothing_else_is_left(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "deep" / "control.json")
    assert file.read() is None
    file.write("one")
    file.write("zwölf")
    assert file.read() == "zwölf"
    assert [entry.name for entry in file.path.parent.iterdir()] == ["control.json"]


def test_a_half_written_new_text_leaves_the_old_one(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "control.json")
    file.write("old")
    (tmp_path / "control.json.new").write_text("ha")
    assert file.read() == "old"


def test_text_that_is_none_or_too_long_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = StateFile(tmp_path / "control.json")
    file.path.write_bytes(b"\xff\xfe\xff")
    assert file.read() is None
    file.write("12345")
    monkeypatch.setattr(state_file, "MAX_BYTES", 4)
    assert file.read() is None


def test_an_unreadable_state_is_kept_for_inspection(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "control.json")
    file.write("{")
    assert file.set_aside().read_text() == "{"
    assert file.read() is None
    file.set_aside()
