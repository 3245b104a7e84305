"""The hub's configuration: every mistake is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tieline_cloud.bootstrap import ingest_settings
from tieline_cloud.config_file import ConfigError, load_settings
from tieline_cloud.jobs.table import retention_policy
from tieline_cloud.settings import HubSettings
from tieline_cloud.store.ports import RollupLevel
from tieline_core.ids import PointId

GOOD = """
data_dir: data
signing_key: keys/hub.key
mqtt: {host: 127.0.0.1, port: 1883, insecure: true}
edges:
  harbour:
    rated_va: 630000
    batteries:
      bat1: {p_charge_max_w: 60000, p_discharge_max_w: 60000, energy_wh: 150000}
    pv:
      pv1: {p_rated_w: 40000}
"""


def load(tmp_path: Path, text: str) -> HubSettings:
    path = tmp_path / "hub.yaml"
    path.write_text(text, encoding="utf-8")
    return load_settings(path)


def test_relative_paths_are_meant_from_the_folder_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "hub.yaml"
    path.write_text(GOOD, encoding="utf-8")
    settings = load_settings(path)
    assert settings.data_dir == tmp_path / "data"
    assert settings.signing_key == tmp_path / "keys" / "hub.key"
    assert [battery.energy_wh for battery in settings.edges["harbour"].batteries.values()] == [150_000]  # type: ignore[index]  # EdgeId is a str


@pytest.mark.parametrize(
    ("old", "new", "mistakes"),
    [
        (
            "data_dir: data",
            "data_folder: data",
            ["data_dir = None: this key is required", "data_folder = 'data': unknown key; did you mean 'data_dir'?"],
        ),
        ("energy_wh: 150000", "energy_wh: 150 kWh", ["edges.harbour.batteries.bat1.energy_wh = '150 kWh'"]),
        ("  harbour:", "  Harbour:", ["edges.Harbour", "is no EdgeId"]),
        ("data_dir: data", "data_dir: data\nlisten: {host: 0.0.0.0}", ["listen = ", "reaches beyond this machine"]),
        ("127.0.0.1", "10.1.2.3", ["mqtt = ", "insecure is for loopback only"]),
        ("data_dir: data", "data_dir: data\nsite: {time_zone: Mars/Olympus}", ["site.time_zone", "is no time zone"]),
        ("data_dir: data", "data_dir: data\ndata_dir: other", ["line 3", "stands twice"]),
        ("data_dir: data", "data_dir: data\nadmitted_edges: [mill]", ["edges names harbour", "admitted_edges does not"]),
        ("data_dir: data", "data_dir: data\nadmitted_nodes: [press]", ["admitted_nodes", "'group/node' is expected"]),
        ("edges:\n  harbour", "admitted_nodes: [a/b]\nedges:\n  a-b", ["admitted_nodes", "which edge 'a-b' is already"]),
        ("data_dir: data", "data_dir: [data", ["no YAML we read"]),
        ("data_dir: data", "data_dir: data\nclock: {source: file}", ["clock = ", "clock.path belongs to"]),
    ],
)
def test_a_mistake_is_named_with_file_key_and_reason(tmp_path: Path, old: str, new: str, mistakes: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD.replace(old, new))
    for mistake in ("hub.yaml", *mistakes):
        assert mistake in str(caught.value)


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD.replace("rated_va: 630000", "rated_va: -1").replace("port: 1883", "port: 99999"))
    assert [mistake.key for mistake in caught.value.mistakes] == ["mqtt.port", "edges.harbour.rated_va"]


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="expected a mapping"):
        load(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_settings(tmp_path / "absent.yaml")


def test_the_store_keeps_the_past_by_the_settings(tmp_path: Path) -> None:
    text = GOOD + "site: {time_zone: Europe/Berlin}\nretention: {raw_days: null, overrides: {'*/hh*/*': 30}}\n"
    path = tmp_path / "hub.yaml"
    path.write_text(text, encoding="utf-8")
    policy = retention_policy(load_settings(path))
    assert policy.days(None, PointId("harbour/tr1/p_w")) is None
    assert policy.days(None, PointId("harbour/hh07/p_w")) == 30
    assert policy.days(RollupLevel.QUARTER, PointId("harbour/hh07/p_w")) == 30
    assert policy.days(RollupLevel.HOUR, PointId("harbour/hh07/p_w")) is None
    # Customers' meters are kept shortest when nothing is said.
    standard = retention_policy(load_settings(_written(tmp_path, GOOD)))
    assert standard.days(None, PointId("harbour/m07/p_w")) == 60
    assert standard.days(None, PointId("harbour/tr1/p_w")) == 400


def _written(folder: Path, text: str) -> Path:
    (folder / "standard.yaml").write_text(text, encoding="utf-8")
    return folder / "standard.yaml"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("store: {timezone: Europe/Atlantis}", ("store.timezone", "Europe/Berlin")),
        ("store: {roll_up_every_s: 0}", ("store.roll_up_every_s", "0.1")),
        ("retention: {raw_days: 0}", ("retention.raw_days", "1")),
        ("retention: {minute_days: 2000}", ("retention", "quarter_days 1100 must not be less than minute_days 2000")),
        ("retention: {minute_days: null}", ("retention", "for ever")),
        ("retention: {quarter_days: 100}", ("quarter_days 100", "340 days")),
        ("retention: {raw: 5}", ("retention.raw",)),
    ],
)
def test_a_mistake_about_store_or_retention_is_named(tmp_path: Path, line: str, words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD + line)
    assert all(word in str(caught.value) for word in words), caught.value


def test_the_hub_listens_to_the_edges_it_is_told_or_to_all_the_broker_lets_in(tmp_path: Path) -> None:
    assert ingest_settings(load(tmp_path, GOOD)).admitted_edges is None
    told = load(tmp_path, GOOD.replace("data_dir: data", "data_dir: data\nadmitted_edges: [harbour, mill]"))
    assert ingest_settings(told).admitted_edges == frozenset({"harbour", "mill"})
