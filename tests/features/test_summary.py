"""The summary of a study's cohorts, its map and its figure."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.features.planted import plant, three_cohorts

from slidestudy.errors import StudyError
from slidestudy.features.maps import COLOURS, MARKERS, draw_map, map_of
from slidestudy.features.summary import Summary, summarise
from slidestudy.tables import write_table

SETTINGS: dict[str, Any] = {
    "encoder": "toy", "neighbours": 5, "components": 3, "duplicate_cosine": 0.9999, "tiles_per_slide": 10, "seed": 4,
    "bootstrap": 100, "confidence": 0.95,
}  # fmt: skip


def slide_table(paths: list[Path], **columns: Any) -> pd.DataFrame:
    names = [path.stem for path in paths]
    table = pd.DataFrame({"slide_id": names, "patient_id": [f"patient-{name}" for name in names]})
    table["cohort"] = [path.parent.name for path in paths]
    table["center"] = [f"{path.parent.name}-{i % 2}" for i, path in enumerate(paths)]
    table["biology"] = ["basal" if i % 3 else "luminal" for i in range(len(paths))]
    return table.assign(**columns)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return three_cohorts(tmp_path_factory.mktemp("stores"))


@pytest.fixture(scope="module")
def summary(paths: list[Path]) -> Summary:
    return summarise(paths, slide_table(paths), SETTINGS, threads=2)


def written(summary: Summary, folder: Path) -> dict[str, bytes]:
    """The files of a summary."""
    folder.mkdir()
    for name in ("moments", "shift", "components", "duplicates", "map", "robustness"):
        write_table(folder / f"{name}.tsv", getattr(summary, name))
    draw_map(summary.map, folder / "map.svg", summary.no_map)
    (folder / "summary.json").write_text(json.dumps(summary.record, allow_nan=False), encoding="utf-8")
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_a_second_run_gives_the_same_bytes_whatever_the_order_of_the_stores(
    paths: list[Path], summary: Summary, tmp_path: Path
) -> None:
    again = summarise(paths[::-1], slide_table(paths)[::-1], SETTINGS, threads=1)
    assert written(again, tmp_path / "again") == written(summary, tmp_path / "first")


def test_the_map_has_every_drawn_tile_with_its_slide_cohort_centre_and_class(
    paths: list[Path], summary: Summary
) -> None:
    table = summary.map
    assert table.columns.tolist() == [
        "slide_id", "patient_id", "cohort", "center", "biology", "x", "y", "map_x", "map_y",
    ]  # fmt: skip
    assert table.groupby("slide_id").size().tolist() == [10] * 8
    assert np.isfinite(table[["map_x", "map_y"]].to_numpy()).all()
    expected = slide_table(paths).set_index("slide_id").loc[table["slide_id"]]
    for name in ("patient_id", "cohort", "center", "biology"):
        assert table[name].tolist() == expected[name].tolist(), name


def test_the_map_keeps_cohorts_of_very_different_features_apart(summary: Summary) -> None:
    places = summary.map.groupby("cohort")[["map_x", "map_y"]]
    north, west = (places.get_group(name).to_numpy() for name in ("north", "west"))
    within = np.median(np.linalg.norm(west - west.mean(0), axis=1))
    assert np.linalg.norm(north.mean(0) - west.mean(0)) > within


def test_robustness_is_given_for_all_cohorts_and_for_each(summary: Summary) -> None:
    table = summary.robustness.set_index("subset")
    assert table.index.tolist() == ["all cohorts", "north", "south", "west"]
    assert table["n"].tolist() == [80, 30, 20, 30]
    assert (table["neighbours"] == 5).all()
    everywhere = table.loc["all cohorts"]
    assert everywhere["index"] == pytest.approx(everywhere["same_class"] / everywhere["same_center"])
    assert everywhere["ci_low"] <= everywhere["index"] <= everywhere["ci_high"]


def test_the_record_says_where_the_summary_comes_from(summary: Summary) -> None:
    record = summary.record
    assert record["settings"] == SETTINGS
    assert record["cohorts"]["north"] == {"slides": 3, "tiles": 79}
    assert len(record["recipe"]) == 16
    assert {"slidestudy", "dask", "umap-learn"} <= set(record["software"])


def test_a_study_without_classes_says_so(paths: list[Path]) -> None:
    settings = {**SETTINGS, "tiles_per_slide": 2}
    found = summarise(paths, slide_table(paths, biology=None), settings)
    row = found.robustness.iloc[0]
    assert row["undefined_reason"] == "no vector has a class and a centre"
    assert pd.isna(row["index"])
    assert (row["n"], row["left_out"]) == (0, 16)


def test_a_slide_that_the_tables_do_not_have_is_an_error(paths: list[Path]) -> None:
    with pytest.raises(StudyError, match="do not have: s7"):
        summarise(paths, slide_table(paths[:-1]), SETTINGS)


def test_too_few_tiles_give_a_summary_without_a_map(tmp_path: Path) -> None:
    paths = [plant(tmp_path, "a", np.eye(3)[:2]), plant(tmp_path, "b", np.eye(3)[2:])]
    found = summarise(paths, slide_table(paths), SETTINGS)
    assert found.no_map == found.record["no_map"] == "3 tiles, 5 are needed for a map"
    assert found.map[["map_x", "map_y"]].isna().to_numpy().all()
    assert b"no map:" in written(found, tmp_path / "out")["map.svg"]


def test_tiles_that_do_not_differ_have_no_map() -> None:
    assert map_of(np.zeros((9, 2)), 0) == (None, "the tiles do not differ in two dimensions")
    assert map_of(np.arange(9.0)[:, None], 0) == (None, "the tiles do not differ in two dimensions")


def figure_text(path: Path) -> list[str]:
    return [str(node.text) for node in ET.parse(path).iter("{http://www.w3.org/2000/svg}text")]


def test_the_figure_names_every_group_and_those_not_known(summary: Summary, tmp_path: Path) -> None:
    table = summary.map.assign(biology=summary.map["biology"].where(summary.map["cohort"] != "west", ""))
    draw_map(table, tmp_path / "map.svg")
    text = figure_text(tmp_path / "map.svg")
    assert [t for t in text if t.startswith("Tiles by")] == ["Tiles by cohort", "Tiles by centre", "Tiles by biology"]
    assert {"north", "south", "west", "north-0", "west-1", "basal", "luminal"} <= set(text)
    assert text.count("not known") == 1


def test_a_study_without_classes_has_no_panel_of_them(summary: Summary, tmp_path: Path) -> None:
    draw_map(summary.map.assign(biology=""), tmp_path / "map.svg")
    assert "Tiles by biology" not in figure_text(tmp_path / "map.svg")


def test_a_large_map_stays_a_small_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(20000, 2)), columns=["map_x", "map_y"])
    groups = len(COLOURS) * len(MARKERS)
    table = table.assign(cohort="north", center=[f"c{i % groups:02}" for i in range(len(table))], biology="")
    draw_map(table, tmp_path / "map.svg")
    assert (tmp_path / "map.svg").stat().st_size < 3_000_000
    assert f"c{groups - 1}" in figure_text(tmp_path / "map.svg")


def test_of_very_many_groups_the_smallest_are_drawn_as_one(tmp_path: Path) -> None:
    most = len(COLOURS) * len(MARKERS)
    names = [f"c{i:02}" for i in range(most + 3) for _ in range(1 if i in (0, 7, 9) else 2)]
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(len(names), 2)), columns=["map_x", "map_y"])
    draw_map(table.assign(cohort="north", center=names, biology=""), tmp_path / "map.svg")
    text = figure_text(tmp_path / "map.svg")
    assert "3 smaller groups" in text
    assert [t for t in text if t.startswith("c") and t[1:].isdigit()] == sorted({*names} - {"c00", "c07", "c09"})
