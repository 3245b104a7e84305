"""Settings of mirrors, sources and Kafka: what would leak, collide or hang is refused with its key."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cloud.test_settings import GOOD
from tieline_cloud.config_file import ConfigError, load_settings


def load(tmp_path: Path, text: str) -> object:
    path = tmp_path / "hub.yaml"
    path.write_text(GOOD + text, encoding="utf-8")
    return load_settings(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("mirrors: [{name: a, url: 'http://db.example:8086'}]", "plain http to another machine"),
        ("mirrors: [{name: a, url: 'http://user:secret@127.0.0.1'}]", "secrets go into token_file"),
        ("mirrors: [{name: a, url: 'ftp://127.0.0.1'}]", "is no address like"),
        ("mirrors: [{name: a, url: 'http://127.0.0.1'}, {name: a, url: 'http://127.0.0.1:1'}]", "need different names"),
        ("mirrors: [{name: a, url: 'http://127.0.0.1', overlap: 3}]", "unknown key"),
        ("sources: {harbour: {token_file: t}}", "harbour is an edge"),
        ("sources: {Mdm: {token_file: t}}", "is no EdgeId"),
        ("kafka: {bootstrap: 'k:9092', security: plaintext, producer: {topic: t}}", "plaintext is for loopback"),
        ("kafka: {bootstrap: 'k:9092', security: sasl_ssl, producer: {topic: t}}", "username and password_file belong"),
        ("kafka: {bootstrap: 'k:9092'}", "neither a consumer nor a producer"),
        ("kafka: {bootstrap: 'k:9092', consumer: {topics: [t], sources: [harbour]}}", "harbour is an edge"),
    ],
)
def test_a_door_that_would_leak_or_collide_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        load(tmp_path, text)


def test_paths_of_doors_are_meant_from_the_folder_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "hub.yaml"
    path.write_text(
        GOOD
        + "sources: {mdm: {token_file: keys/mdm.token}}\n"
        + "mirrors: [{name: a, url: 'https://db.example', token_file: keys/a.token, ca_file: ca.pem}]\n",
        encoding="utf-8",
    )
    settings = load_settings(path)
    assert [source.token_file for source in settings.sources.values()] == [tmp_path / "keys" / "mdm.token"]
    assert (settings.mirrors[0].token_file, settings.mirrors[0].ca_file) == (tmp_path / "keys" / "a.token", tmp_path / "ca.pem")
