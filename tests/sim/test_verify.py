"""The comparator finds every kind of defect that is planted, and none where there is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.sim.conftest import POINTS_PATH
from tieline_sim.clock import utc_text
from tieline_sim.errors import SimulatorError
from tieline_sim.points import load_points
from tieline_sim.verify import verify_run
from tieline_sim.witness import Witness

T0 = 1_481_729_400.0
Row = tuple[str, float, float | None, str]


class Run:
    """A little run: three meter readings, OPC-UA reads, Modbus answers; and what a faithful hub would store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[Row] = []
        segments = [{"wall_unix_s": 0.0, "sim_unix_s": T0 - 10, "speed": 1.0}]
        (folder / "clock.json").write_text(json.dumps({"version": 1, "segments": segments}))
        witness = Witness(folder / "witness.jsonl")
        for k in range(4):
            now = T0 + k
            witness.log(now, "harbour", "bat1", "response", {"701.W": 1000.0 * k, "701.VA": 5.0})
            self.rows.append(("harbour/bat1/p_w", now + 0.1, -1000.0 * k, "good"))
            witness.log(now, "harbour", "load03", "response", {"p_w": 25000.0, "v_v": 230.1, "e_wh": 10.0})
            self.rows += [
                ("harbour/load03/p_w", now + 0.05, 25000.0, "good"),
                ("harbour/load03/v_v", now + 0.05, 230.1, "good"),
                ("harbour/load03/e_import_wh", now + 0.05, 10.0, "good"),
            ]
            values = {"TR1.LoadingPct": 80.0 + k}
            witness.log(now, "harbour", "tr1", "published", values, ts=utc_text(now))
            witness.log(now, "harbour", "tr1", "response", values, ts=utc_text(now))
            self.rows.append(("harbour/tr1/loading_pct", now, 80.0 + k, "good"))
        for n in range(3):
            label = f"100-{n}"
            witness.log(
                T0 + n,
                "harbour",
                "m07",
                "sent",
                {"p_w": 500.5 + n, "v_v": 229.5, "e_wh": 7},
                id=label,
                serial="100",
                ts=utc_text(T0 + n),
            )
            if n < 2:
                witness.log(T0 + n + 1, "harbour", "m07", "receipt", {}, id=label)
                self.rows += [
                    ("harbour/m07/p_w", T0 + n, 500.5 + n, "good"),
                    ("harbour/m07/v_v", T0 + n, 229.5, "good"),
                    ("harbour/m07/e_import_wh", T0 + n, 7.0, "good"),
                ]
        self.rows.append(("harbour/site/load_w", T0, 1.0, "good"))
        witness.close()

    def verify(self, gaps: Any = None) -> dict[str, Any]:
        """Store the rows and compare."""
        table = pa.table(
            {
                "point": [row[0] for row in self.rows],
                "measured_at": pa.array([round(row[1] * 1e6) for row in self.rows], pa.timestamp("us", tz="UTC")),
                "value": pa.array([row[2] for row in self.rows], pa.float64()),
                "quality": [row[3] for row in self.rows],
            }
        )
        pq.write_table(table, self.folder / "stored.parquet")
        path = None
        if gaps is not None:
            path = self.folder / "gaps.json"
            path.write_text(json.dumps(gaps))
        return verify_run(self.folder, self.folder / "stored.parquet", POINTS_PATH, path)

    def at(self, point: str, number: int = 0) -> int:
        """Position of a row."""
        return [k for k, row in enumerate(self.rows) if row[0] == point][number]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_a_faithful_store_is_clean(run: Run) -> None:
    result = run.verify()
    assert result["clean"] is True
    assert result["produced"] == result["stored"] == 4 + 12 + 4 + 6
    assert (result["lost"], result["duplicated"], result["fabricated"], result["unrecorded_in_flight"]) == (0, 0, 0, 0)
    assert result["checksum_equal"] is True
    assert result["by_substation"]["harbour"]["produced"] == result["produced"]


@pytest.mark.parametrize(
    "point", ["harbour/bat1/p_w", "harbour/load03/v_v", "harbour/tr1/loading_pct", "harbour/m07/e_import_wh"]
)
@pytest.mark.parametrize("number", [0, -1])
def test_a_missing_row_is_lost(run: Run, point: str, number: int) -> None:
    del run.rows[run.at(point, number)]
    result = run.verify()
    assert (result["lost"], result["duplicated"], result["fabricated"]) == (1, 0, 0)
    assert result["checksum_equal"] is False
    assert point in result["examples"]["lost"][0]


@pytest.mark.parametrize("point", ["harbour/bat1/p_w", "harbour/load03/p_w", "harbour/tr1/loading_pct", "harbour/m07/p_w"])
def test_a_row_stored_twice_is_a_duplicate(run: Run, point: str) -> None:
    run.rows.append(run.rows[run.at(point, -1)])
    result = run.verify()
    assert (result["lost"], result["duplicated"], result["fabricated"]) == (0, 1, 0)
    assert result["checksum_equal"] is False


@pytest.mark.parametrize("point", ["harbour/bat1/p_w", "harbour/tr1/loading_pct", "harbour/m07/p_w"])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda row: (row[0], row[1], row[2] + 1.0, row[3]),
        lambda row: (row[0], row[1] + 5.0, row[2], row[3]),
        lambda row: (row[0], row[1], row[2] + 0.2, row[3]),
    ],
)
def test_an_altered_value_or_stamp_is_one_lost_and_one_fabricated(run: Run, point: str, spoil: Callable[[Row], Row]) -> None:
    place = run.at(point, 1)
    run.rows[place] = spoil(run.rows[place])
    result = run.verify()
    assert (result["lost"], result["duplicated"], result["fabricated"]) == (1, 0, 1)
    assert result["checksum_equal"] is False


@pytest.mark.parametrize("point", ["harbour/bat1/p_w", "harbour/m07/p_w", "mill/m01/p_w", "harbour/nowhere/p_w"])
def test_a_row_that_was_never_sent_is_fabricated(run: Run, point: str) -> None:
    run.rows.append((point, T0 + 100, 4711.0, "good"))
    result = run.verify()
    assert (result["lost"], result["fabricated"]) == (0, 1)
    assert point in result["examples"]["fabricated"][0]


def test_a_changed_quality_breaks_the_checksum(run: Run) -> None:
    place = run.at("harbour/m07/p_w")
    run.rows[place] = (*run.rows[place][:3], "uncertain")
    result = run.verify()
    assert result["checksum_equal"] is False
    assert result["clean"] is False


def test_below_the_resolution_values_are_equal(run: Run) -> None:
    place = run.at("harbour/m07/p_w")
    run.rows[place] = (run.rows[place][0], run.rows[place][1], 500.5000001, "GOOD")
    assert run.verify()["clean"] is True


def test_an_answer_in_a_declared_gap_is_unrecorded_and_a_receipted_message_never_is(run: Run) -> None:
    del run.rows[run.at("harbour/bat1/p_w", 1)]
    gap = [[utc_text(T0 + 0.5), utc_text(T0 + 1.5)]]
    result = run.verify(gap)
    assert (result["lost"], result["unrecorded_in_flight"]) == (0, 1)
    assert result["checksum_equal"] is True
    assert result["produced"] == result["stored"] + 1
    assert run.verify({"mill": gap})["lost"] == 1
    assert run.verify({"harbour": [[T0 + 0.5, T0 + 1.5]]})["lost"] == 0
    del run.rows[run.at("harbour/m07/p_w", 1)]
    assert run.verify(gap)["lost"] == 1


def test_an_answer_that_came_too_late_is_unrecorded_where_the_store_flags_the_gap(run: Run) -> None:
    place = run.at("harbour/bat1/p_w", 1)
    _, at, _, _ = run.rows.pop(place)
    assert run.verify()["lost"] == 1
    run.rows.append(("harbour/bat1/p_w", at + 0.5, None, "bad"))
    result = run.verify()
    assert (result["lost"], result["unrecorded_in_flight"], result["clean"]) == (0, 1, True)


def test_a_marker_elsewhere_excuses_nothing(run: Run) -> None:
    _, at, _, _ = run.rows.pop(run.at("harbour/bat1/p_w", 1))
    run.rows.append(("harbour/bat1/p_w", at + 1.5, None, "bad"))
    assert run.verify()["lost"] == 1


def test_equal_values_are_matched_to_the_latest_answer_so_that_a_lost_one_is_found(run: Run) -> None:
    run.rows.pop(run.at("harbour/load03/p_w", 0))
    assert utc_text(T0) in run.verify()["examples"]["lost"][0]


def test_a_message_without_receipt_may_be_stored_or_not(run: Run) -> None:
    run.rows += [("harbour/m07/p_w", T0 + 2, 502.5, "good"), ("harbour/m07/v_v", T0 + 2, 229.5, "good")]
    result = run.verify()
    assert result["clean"] is True
    assert result["produced"] == result["stored"] == 28


def test_markers_without_a_number_are_counted_and_not_blamed(run: Run) -> None:
    run.rows.append(("harbour/bat1/p_w", T0 + 50, None, "bad"))
    result = run.verify()
    assert result["clean"] is True
    assert result["markers_without_number"] == 1


def test_a_torn_last_line_is_passed_over_and_closed_by_the_next_life(tmp_path: Path) -> None:
    path = tmp_path / "witness.jsonl"
    witness = Witness(path)
    witness.log(1.0, "a", "b", "response", {"x": 1.0})
    witness.close()
    path.write_bytes(path.read_bytes() + b'{"t":2,"sub":"a","de')
    witness = Witness(path)
    witness.log(3.0, "a", "b", "response", {"x": 2.0})
    witness.close()
    records = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    assert [(row["n"], row["q"]["x"]) for row in records] == [(1, 1.0), (2, 2.0)]


def test_the_files_are_named_when_they_cannot_be_read(run: Run, tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match=r"nothing\.parquet"):
        verify_run(tmp_path, tmp_path / "nothing.parquet", POINTS_PATH)
    run.verify()
    with pytest.raises(SimulatorError, match="no witness log"):
        verify_run(tmp_path / "elsewhere", tmp_path / "stored.parquet", POINTS_PATH)
    with pytest.raises(SimulatorError, match="gaps must be"):
        run.verify("rubbish")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("version: 2\npoints: []\n", "must hold version: 1"),
        ("version: 1\npoints:\n  - {point: a, device: b}\n", r"points\[0\]\.quantity"),
        ("version: 1\npoints:\n  - {point: a, device: b, quantity: c, colour: d}\n", r"points\[0\]\.colour"),
        ("version: 1\npoints: [\n", "cannot be read"),
    ],
)
def test_a_wrong_mapping_names_its_key(tmp_path: Path, text: str, key: str) -> None:
    path = tmp_path / "points.yaml"
    path.write_text(text)
    with pytest.raises(SimulatorError, match=key):
        load_points(path)
