"""The signing key and its counters."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from tests.cloud.rooms import HARBOUR, NOW, PRIVATE, TRUSTED

from tieline_cloud.dispatch.documents import DocumentStore
from tieline_cloud.dispatch.keys import Sealer, read_key, write_new_key
from tieline_core.errors import BadInputError
from tieline_core.signing import EnvelopeType, Signer, open_envelope


def test_a_new_key_is_private_and_its_public_half_is_printed(tmp_path: Path) -> None:
    path, public = write_new_key(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Signer(read_key(path)).public.hex() == public == (tmp_path / "hub.pub").read_text(encoding="ascii").strip()


def test_an_existing_key_is_never_overwritten(tmp_path: Path) -> None:
    path, _ = write_new_key(tmp_path)
    before = path.read_bytes()
    with pytest.raises(BadInputError, match="there is a key already"):
        write_new_key(tmp_path)
    assert path.read_bytes() == before


def test_a_key_others_may_read_is_refused(tmp_path: Path) -> None:
    path, _ = write_new_key(tmp_path)
    path.chmod(0o644)
    with pytest.raises(BadInputError, match="chmod 600"):
        read_key(path)


def test_a_missing_key_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="tieline-cloud keygen"):
        read_key(tmp_path / "hub.key")


def test_counters_rise_across_restarts_even_when_the_clock_goes_back(tmp_path: Path) -> None:
    counters = []
    for hours in (0, -5, -9):
        with DocumentStore(tmp_path / "hub.sqlite") as documents:
            now = NOW + timedelta(hours=hours)
            envelope, counter = Sealer(PRIVATE, documents).seal(
                EnvelopeType.PLAN, HARBOUR, b"{}", now=now, valid=(now, now + timedelta(hours=1))
            )
            opened = open_envelope(envelope, kind=EnvelopeType.PLAN, edge=HARBOUR, trusted=TRUSTED, now=now)
            assert opened.header.counter == counter
            assert json.loads(opened.payload) == {}
            counters.append(counter)
    assert counters == sorted(set(counters))
