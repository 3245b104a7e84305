"""Content-addressed files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tieline_cloud.dispatch import artifacts
from tieline_cloud.dispatch.artifacts import ArtifactStore, ArtifactTooLargeError


def test_what_was_put_is_found_by_its_hash_after_a_restart(tmp_path: Path) -> None:
    sha256 = ArtifactStore(tmp_path).put(b"model")
    assert sha256 == hashlib.sha256(b"model").hexdigest()
    assert ArtifactStore(tmp_path).get(sha256) == b"model"
    assert ArtifactStore(tmp_path).put(b"model") == sha256


def test_a_file_that_was_changed_on_the_disk_is_not_handed_out(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    sha256 = store.put(b"model")
    (tmp_path / sha256[:2] / sha256).write_bytes(b"other")
    assert store.get(sha256) is None


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "AB" * 32, "a" * 63, "b" * 64])
def test_a_name_that_is_no_known_hash_finds_nothing(tmp_path: Path, name: str) -> None:
    assert ArtifactStore(tmp_path).get(name) is None


def test_more_than_an_edge_takes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "MAX_ARTIFACT_BYTES", 3)
    with pytest.raises(ArtifactTooLargeError, match="4 bytes"):
        ArtifactStore(tmp_path).put(b"four")
    assert not list(tmp_path.rglob("*.new*"))
