"""Imports of a study: which file is whose, and every mistake told before a job starts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slidestudy.errors import Problem
from slidestudy.import_files import Source, coordinates_beside, fill_pattern, import_problems, some_of, source_of
from slidestudy.study import load_study, slide_entries
from slidestudy.yaml_files import load_yaml
from tests.drafts import Draft

IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True)
ENTRY = {"slide_id": "s1.2", "patient_id": "p1", "cohort": "north"}


def study(folder: Path, **options: Any) -> tuple[dict[str, Any], pd.DataFrame]:
    """A configuration that imports the encoder `uni` from `<folder>/<slide>.h5`, and three slides with all files."""
    rows = [("s1", "p1", "north"), ("s2", "p2", "north"), ("s3", "p3", "south")]
    slides = pd.DataFrame(rows, columns=["slide_id", "patient_id", "cohort"])
    for slide in slides["slide_id"]:
        (folder / f"{slide}.h5").touch()
    config = {
        "slides": "slides.tsv",
        "cohorts": {"north": {"role": "development"}, "south": {"role": "external"}},
        "tiles": {"size": 256, "mpp": 0.5},
        "encoders": {"uni": {"backend": "imported", "dim": 6}},
        "explanations": {"models": []},
        "features": {"import": {"uni": {"files": str(folder / "{slide}.h5"), **options}}},
    }
    return config, slides.assign(path=None, roi=None, mask=None)


def problems(config: dict[str, Any], slides: pd.DataFrame, **options: Any) -> list[Problem]:
    return import_problems(config, slides, "config.yaml", **options)


def only(found: list[Problem]) -> Problem:
    (problem,) = found
    return problem


# Whose file


@given(slide=IDS, patient=IDS, cohort=IDS)
def test_braces_are_replaced_by_what_the_table_says(slide: str, patient: str, cohort: str) -> None:
    entry = {"slide_id": slide, "patient_id": patient, "cohort": cohort}
    assert str(fill_pattern("/h5/{cohort}/{patient}_{slide}.h5", entry)) == f"/h5/{cohort}/{patient}_{slide}.h5"


def test_an_h5_file_stands_alone_and_a_tensor_has_its_coordinates(tmp_path: Path) -> None:
    assert source_of({"files": "/a/{slide}.h5"}, ENTRY) == Source(Path("/a/s1.2.h5"))
    beside = source_of({"files": f"{tmp_path}/pt_files/{{slide}}.pt"}, ENTRY)
    assert beside.coords == tmp_path / "h5_files" / "s1.2.h5"
    stated = source_of({"files": "/a/{slide}.pt", "coords": "/b/{patient}/{slide}.h5"}, ENTRY)
    assert stated.coords == Path("/b/p1/s1.2.h5")


def test_coordinates_beside_the_folder_are_found_where_clams_folder_has_none(tmp_path: Path) -> None:
    tensor, usual, flat = tmp_path / "pt_files" / "s.pt", tmp_path / "h5_files" / "s.h5", tmp_path / "s.h5"
    flat.touch()
    assert coordinates_beside(tensor) == flat
    usual.parent.mkdir()
    usual.touch()
    assert coordinates_beside(tensor) == usual


def test_each_missing_file_of_a_tensor_is_named(tmp_path: Path) -> None:
    source = Source(tmp_path / "s.pt", tmp_path / "s.h5")
    source.features.touch()
    assert source.missing == [tmp_path / "s.h5"]
    assert Source(source.features).missing == []


def test_a_long_list_is_cut() -> None:
    assert (some_of(["a", "b", "c"]), some_of(["a", "b", "c", "d"])) == ("a, b, c", "a, b, c, ...")


# Mistakes


def test_a_study_in_order_has_no_problem(tmp_path: Path) -> None:
    assert problems(*study(tmp_path)) == []
    assert problems(*study(tmp_path, tile_size=256, tile_mpp=0.5, slide_mpp=0.25, unit="px")) == []


def test_one_missing_file_is_no_problem_and_all_of_a_cohort_are(tmp_path: Path) -> None:
    config, slides = study(tmp_path)
    (tmp_path / "s1.h5").unlink()
    assert problems(config, slides) == []
    (tmp_path / "s2.h5").unlink()
    problem = only(problems(config, slides))
    assert problem.where == "config.yaml, key features.import.uni.files"
    assert "cohort 'north'" in problem.what
    assert str(tmp_path / "s1.h5") in problem.what
    assert problems(config, slides, files=False) == []


def test_tensors_without_any_coordinates_name_the_files_that_are_missed(tmp_path: Path) -> None:
    config, slides = study(tmp_path, files=str(tmp_path / "pt_files" / "{slide}.pt"))
    (tmp_path / "pt_files").mkdir()
    for slide in slides["slide_id"]:
        (tmp_path / "pt_files" / f"{slide}.pt").touch()
        (tmp_path / f"{slide}.h5").unlink()
    found = problems(config, slides)
    assert [re.search(r"cohort '(\w+)'", p.what)[1] for p in found] == ["north", "south"]  # type: ignore[index]
    assert "h5_files/s1.h5" in found[0].what
    assert "s1.pt" not in found[0].what
    assert "coords" in found[0].remedy


@pytest.mark.parametrize(
    ("options", "key", "said"),
    [
        ({"files": "/h5/{slide_id}.h5"}, "files", "unknown field {slide_id}"),
        ({"files": "/h5/{slide}.csv"}, "files", "'.csv' is no kind of file"),
        ({"coords": "/h5/{slide}.h5"}, "coords", "only .pt files need a file of coordinates"),
        ({"tile_size": 224}, "tile_size", "224 is not the study's tiles.size, 256"),
        ({"tile_mpp": 1.0}, "tile_mpp", "1.0 is not the study's tiles.mpp, 0.5"),
        ({"files": "/h5/{cohort}.h5"}, "files", "/h5/north.h5 would be the file of 2 slides (s1, s2)"),
    ],
)
def test_a_section_that_cannot_be_is_named(tmp_path: Path, options: dict[str, Any], key: str, said: str) -> None:
    problem = only(problems(*study(tmp_path, **options)))
    assert problem.where == f"config.yaml, key features.import.uni.{key}"
    assert said in problem.what
    assert problem.remedy


def test_an_encoder_without_its_dim_is_named(tmp_path: Path) -> None:
    config, slides = study(tmp_path)
    del config["encoders"]["uni"]["dim"]
    problem = only(problems(config, slides))
    assert (problem.where, "dim" in problem.what) == ("config.yaml, key encoders.uni", True)


# Slides without a file


def test_a_blank_path_is_refused_where_an_encoder_is_extracted(tmp_path: Path) -> None:
    config, slides = study(tmp_path)
    config["encoders"]["stain-texture"] = {"backend": "stain-texture"}
    problem = only(problems(config, slides))
    assert problem.where == "slides.tsv, column path"
    assert "3 slides have no file (s1, s2, s3), but stain-texture must be extracted" in problem.what
    assert problems(config, slides.assign(path="/slides/a.svs")) == []


def test_a_blank_path_is_refused_where_explanations_show_patches(tmp_path: Path) -> None:
    config, slides = study(tmp_path)
    config["explanations"]["models"] = ["til"]
    slides = slides.assign(path=["/a.svs", None, "/c.svs"])
    problem = only(problems(config, slides))
    assert problem.where == "config.yaml, key explanations.models"
    assert "1 slide has no file (s2)" in problem.what


@pytest.mark.parametrize("column", ["roi", "mask"])
def test_a_region_of_a_slide_without_a_file_is_refused(tmp_path: Path, column: str) -> None:
    config, slides = study(tmp_path)
    slides[column] = [None, "/x.geojson", None]
    problem = only(problems(config, slides))
    assert problem.where == f"slides.tsv, line 3, column {column}"


def test_a_study_without_slides_is_loaded_and_its_entries_have_no_path(draft: Draft) -> None:
    header, *rows = (line.split("\t") for line in draft.slides)
    draft.slides = ["\t".join(header), *("\t".join([*row[:3], "", *row[4:]]) for row in rows)]
    draft.config["encoders"] = {name: {"dim": 6} for name in draft.config["encoders"]}
    draft.config["explanations"]["models"] = []
    imports = {name: {"files": "{slide}.h5", "unit": "px"} for name in draft.config["encoders"]}
    draft.config["features"] = {"import": imports}
    assert "no slide has its files" in draft.message()
    for row in rows:
        (draft.folder / f"{row[0]}.h5").touch()
    study = draft.load()
    assert {entry["path"] for entry in slide_entries(study).values()} == {None}
    assert load_study(load_yaml(draft.source), draft.source, files=False).slides["path"].isna().all()
