"""The rule table as data: what is delivered, what an own file says, and how mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tieline_cloud.config_file import ConfigError, load_settings
from tieline_cloud.quality.rule_table import RuleTable
from tieline_cloud.quality.rules import load_rules
from tieline_core.quantities import QUANTITIES

OWN = """
version: 1
classes:
  - name: household
    quantities: [e_import_wh, e_export_wh]
    points: ["*/m*/*"]
    counter: {modulus_wh: 1.0e+8, largest_w: 50000}
"""


def refused(tmp_path: Path, text: str) -> str:
    path = tmp_path / "rules.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_rules(path)
    return str(caught.value)


def test_every_quantity_but_the_ladder_has_a_class_of_its_own() -> None:
    table = RuleTable(load_rules())
    unclassed = {key for key in QUANTITIES if table.row_of(f"e/d/{key}").name == "other"}
    assert unclassed == {"ladder_step"}


def test_an_own_class_comes_before_the_delivered_ones_and_only_for_its_points(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(OWN, encoding="utf-8")
    table = RuleTable(load_rules(path))
    assert table.row_of("harbour/m07/e_import_wh").name == "household"
    assert table.row_of("harbour/tr1/e_import_wh").name == "energy"
    assert table.row_of("harbour/m07/v_v").name == "voltage"
    assert table.row_of("harbour/m07/colour").name == "other"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (OWN.replace("largest_w", "largest_kw"), ("classes.0.counter.largest_kw", "unknown key; did you mean 'largest_w'?")),
        (OWN.replace("50000", "0"), ("classes.0.counter.largest_w", "0", "greater than 0")),
        (OWN.replace("version: 1", "version: 2"), ("version", "2")),
        (OWN.replace("name: household", "name: House hold"), ("classes.0.name", "House hold")),
        (OWN + "    minimum: 5\n    maximum: 5\n", ("classes.0", "minimum 5 must be below maximum 5")),
        (OWN + "    spike: {step: 3}\n", ("classes.0", "a counter has no spikes")),
        (OWN + "    estimate: {step_s: 700}\n", ("classes.0.estimate", "700 does not divide an hour")),
        (OWN + "    maximum: .inf\n", ("classes.0.maximum", "inf")),
        (OWN + OWN.split("classes:\n")[1], ("each class stands once; doubled: household",)),
        ("- just\n- a list\n", ("expected a mapping with the keys version and classes",)),
        ("version: 1\nclasses: []\n", ("classes", "at least 1")),
    ],
)
def test_a_mistake_is_named_with_file_key_value_and_reason(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    message = refused(tmp_path, text)
    assert str(tmp_path / "rules.yaml") in message
    for word in words:
        assert word in message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml.*cannot be read"):
        load_rules(tmp_path / "none.yaml")


def test_the_path_in_the_settings_is_meant_from_their_folder(tmp_path: Path) -> None:
    config = tmp_path / "hub.yaml"
    config.write_text(
        "data_dir: data\nsigning_key: hub.key\nmqtt: {host: 127.0.0.1}\nquality: {rules: own.yaml}\n", encoding="utf-8"
    )
    assert load_settings(config).quality.rules == tmp_path / "own.yaml"
