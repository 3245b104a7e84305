"""``--config`` need not be typed where only one site file can be meant."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from tieline_edge.site_option import VARIABLE, add_site_option


def parsed(folder: Path, *arguments: str) -> Path:
    parser = argparse.ArgumentParser()
    add_site_option(parser, folder)
    found: Path = parser.parse_args(arguments).config
    return found


@pytest.fixture(autouse=True)
def _nobody_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def test_the_only_site_file_of_the_gateway_is_meant(tmp_path: Path) -> None:
    (tmp_path / "harbour.yaml").touch()
    assert parsed(tmp_path) == tmp_path / "harbour.yaml"
    assert parsed(tmp_path, "--config", "mill.yaml") == Path("mill.yaml")


def test_the_environment_goes_before_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "harbour.yaml").touch()
    monkeypatch.setenv(VARIABLE, "/srv/mill.yaml")
    assert parsed(tmp_path) == Path("/srv/mill.yaml")


@pytest.mark.parametrize("files", [(), ("a.yaml", "b.yaml")])
def test_where_none_or_several_may_be_meant_it_has_to_be_named(
    tmp_path: Path, files: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(SystemExit):
        parsed(tmp_path)
    holds = "more than one (a.yaml, b.yaml)" if files else "none"
    assert f"--config: name the site file: {VARIABLE} is not set, and {tmp_path} holds {holds}" in capsys.readouterr().err
