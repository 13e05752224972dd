"""Imports in a study: one recipe for all slides, and a reason for every file that cannot be used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from tests.features.stores import SLIDE_MPP, attributes, grid, make_store

from slidestudy.features.interchange import Format, export_stores
from slidestudy.features.ledger import late_losses
from slidestudy.features.store import read_features
from slidestudy.features.study_imports import import_slide, publish_imports, source_record, stated_by, survey_imports
from slidestudy.features.verification import verify_stores
from slidestudy.files import digest, read_json
from slidestudy.import_files import Source, source_of
from slidestudy.slides.inspection import inspect_slide
from slidestudy.yaml_files import load_yaml

DIM = 6
OPTIONS = {"slide_mpp": SLIDE_MPP, "unit": "px"}


def foreign(path: Path, rows: int = 12, dtype: str = "float32", dim: int = DIM, **stated: Any) -> Path:
    """A file of another tool that says of its coordinates what is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["features"] = np.arange(rows * dim).reshape(rows, dim).astype(dtype)
        file["coords"] = grid()[:rows]
        file["coords"].attrs.update(stated)
    return path


def entry(slide: str, mpp: float | None = None) -> dict[str, Any]:
    keys = {"slide_id": slide, "patient_id": f"p-{slide}", "cohort": "north"}
    return {**keys, "path": None, "mpp": mpp, "roi": None, "mask": None}


def inspected(slide: str, mpp: float | None = None, **seen: Any) -> dict[str, Any]:
    return {**inspect_slide(entry(slide, mpp), {"mpp_tolerance": 0.05}), **seen}


def settings(name: str = "uni", dim: int = DIM, **options: Any) -> dict[str, Any]:
    tiles = {"size": 256, "mpp": 0.5, "min_tissue": 0.1, "min_tiles": 4, "max_unreadable": 0.05}
    return {
        "encoder": {"name": name, "backend": "imported", "dim": dim},
        "tiles": tiles,
        "import": {**OPTIONS, **options},
    }


def imported(file: Path, slide: str = "s", stated: dict[str, Any] | None = None, **changed: Any) -> dict[str, Any]:
    """The attributes of a slide's store, imported from a file."""
    source = source_record(source_of({"files": str(file)}, entry(slide)))
    record, tissue = changed.pop("inspection", inspected(slide)), changed.pop("tissue", None)
    output = file.parent / "out" / f"{slide}.zarr"
    given = changed.pop("settings", settings(**changed))
    return import_slide(entry(slide), record, tissue, source, given, stated or {}, output)


def reason(found: dict[str, Any]) -> tuple[str, str]:
    """Code and message of a store that must be empty."""
    assert (found["status"], found["n_tiles"]) == ("excluded", 0)
    return found["reason"]["code"], found["reason"]["message"]


# What is imported


def test_a_file_becomes_the_store_of_its_slide(tmp_path: Path) -> None:
    found = imported(foreign(tmp_path / "s.h5"))
    store = read_features(tmp_path / "out" / "s.zarr")
    assert store.attributes.items() >= found.items()
    np.testing.assert_array_equal(store.features, np.arange(72).reshape(12, DIM))
    np.testing.assert_array_equal(store.coords, grid())
    assert [found[key] for key in ("slide_id", "patient_id", "cohort")] == ["s", "p-s", "north"]
    encoder = found["encoder"]
    assert (encoder["name"], encoder["backend"], encoder["weights"]) == ("uni", "imported", "not stated")
    assert found["slide_mpp"] == {"value": 0.25, "source": "stated at import", "x": 0.25, "y": 0.25}


def test_all_slides_of_an_encoder_share_a_recipe_whatever_the_type_of_their_numbers(tmp_path: Path) -> None:
    imported(foreign(tmp_path / "a.h5"), "a")
    imported(foreign(tmp_path / "b.h5", dtype="float16"), "b")
    imported(foreign(tmp_path / "c.h5", dim=3), "c")
    imported(tmp_path / "absent.h5", "d")
    verdicts = list(verify_stores(sorted((tmp_path / "out").glob("*.zarr"))))
    assert [verdict.problems for verdict in verdicts] == [()] * 4
    assert len({verdict.attributes["recipe"] for verdict in verdicts}) == 1


def test_a_tensor_of_clam_is_imported_with_its_coordinates(tmp_path: Path) -> None:
    foreign(tmp_path / "h5_files" / "s.h5")
    (tmp_path / "pt_files").mkdir()
    torch.save(torch.arange(72, dtype=torch.float32).reshape(12, DIM), tmp_path / "pt_files" / "s.pt")
    found = imported(tmp_path / "pt_files" / "s.pt")
    assert (found["status"], found["n_tiles"]) == ("admitted", 12)
    assert set(found["imported"]["files"]) == {"s.pt", "s.h5"}
    assert "torch" in found["software"]


def test_the_tables_resolution_comes_before_that_of_the_section(tmp_path: Path) -> None:
    file = foreign(tmp_path / "s.h5", patch_size=256, patch_size_level0=512)
    found = imported(file, inspection=inspected("s", 0.25), slide_mpp=0.5)
    assert (found["status"], found["slide_mpp"]["source"]) == ("admitted", "table")


def test_what_slidestudys_files_say_of_the_encoder_is_kept(tmp_path: Path) -> None:
    (file,), _ = export_stores([make_store(tmp_path / "s.zarr")], Format.TRIDENT, tmp_path / "h5")
    stated = stated_by([Source(tmp_path / "absent.h5"), Source(file)])
    found = imported(file, stated=stated, name="toy", dim=5, slide_mpp=None, settings=settings("toy", 5))
    assert found["status"] == "admitted"
    assert found["encoder"] == {**attributes()["encoder"], "backend": "imported"}
    assert (found["tiles"]["min_tissue"], found["normaliser"]) == (0.3, "none")
    assert found["fingerprint"] == "f" * 16


def test_a_slide_that_lost_its_tissue_stays_lost(tmp_path: Path) -> None:
    lost = {"status": "excluded", "reason": {"code": "no_tissue", "message": "none"}}
    assert reason(imported(foreign(tmp_path / "s.h5"), tissue=lost)) == ("no_tissue", "none")


# What costs a slide


def test_a_missing_file_costs_its_slide_and_stands_in_the_ledger(tmp_path: Path) -> None:
    code, message = reason(imported(tmp_path / "absent.h5"))
    assert (code, "absent.h5 does not exist" in message) == ("features_missing", True)
    admitted = pd.DataFrame([("s", "p-s", "north")], columns=["slide_id", "patient_id", "cohort"])
    (row,) = late_losses([], [tmp_path / "out" / "s.zarr"], admitted, {}, {})
    assert (row["slide_id"], row["stage"], row["code"]) == ("s", "features:uni", "features_missing")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_features_that_a_store_cannot_hold_cost_their_slide(tmp_path: Path, value: float) -> None:
    file = foreign(tmp_path / "s.h5")
    with h5py.File(file, "r+") as opened:
        opened["features"][3, 2] = value
    code, message = reason(imported(file))
    assert (code, "not finite or too large" in message) == ("features_unusable", True)


def test_a_file_that_cannot_be_read_costs_its_slide(tmp_path: Path) -> None:
    file = foreign(tmp_path / "s.h5")
    file.write_bytes(file.read_bytes()[:900])
    code, message = reason(imported(file))
    assert (code, "cannot be read" in message) == ("features_unusable", True)


@pytest.mark.parametrize(
    ("stated", "changed", "said"),
    [
        ({}, {"dim": 7}, "has dim 6, but encoders.uni.dim is 7"),
        ({}, {"unit": "um"}, "check features.import.uni.unit"),
        ({}, {"slide_mpp": None}, "does not say its slide_mpp"),
        ({"patch_size": 224, "patch_size_level0": 448}, {}, "has tile_size 224, but tiles.size is 256"),
        ({"patch_size": 256, "patch_size_level0": 256}, {}, "its tiles are 256 px at level 0"),
    ],
)
def test_a_file_that_contradicts_the_study_costs_its_slide(
    tmp_path: Path, stated: dict[str, Any], changed: dict[str, Any], said: str
) -> None:
    code, message = reason(imported(foreign(tmp_path / "s.h5", **stated), **changed))
    assert (code, said in message) == ("features_mismatch", True), message


def test_too_few_tiles_cost_their_slide(tmp_path: Path) -> None:
    assert reason(imported(foreign(tmp_path / "s.h5", rows=3)))[0] == "too_few_tiles"


@pytest.mark.parametrize(
    ("of_file", "of_study", "said"),
    [
        ({}, {"slide": "other"}, "slide_id s, not other"),
        ({}, {"seen": {"fingerprint": "e" * 16}}, "fingerprint"),
        ({"normaliser": "macenko"}, {}, "normaliser macenko, not none"),
        ({"encoder": {**attributes()["encoder"], "weights_digest": "1" * 16}}, {}, "weights_digest"),
    ],
)
def test_a_file_of_another_slide_or_other_weights_costs_its_slide(
    tmp_path: Path, of_file: dict[str, Any], of_study: dict[str, Any], said: str
) -> None:
    (usual,), _ = export_stores([make_store(tmp_path / "usual.zarr")], Format.TRIDENT, tmp_path / "h5")
    parts = {key: {**attributes(), **of_file}[key] for key in ("encoder", "tiles", "normaliser")}
    store = make_store(tmp_path / "s.zarr", **{**of_file, "recipe": digest(parts)})
    (file,), _ = export_stores([store], Format.TRIDENT, tmp_path / "h5")
    slide = of_study.get("slide", "s")
    record = inspected(slide, **of_study.get("seen", {}))
    found = imported(file, slide, stated_by([Source(usual)]), settings=settings("toy", 5), inspection=record)
    code, message = reason(found)
    assert (code, said in message) == ("features_mismatch", True), message


# What is published and told early


def config(folder: Path, **options: Any) -> dict[str, Any]:
    imports = {"uni": {"files": str(folder / "{slide}.h5"), **OPTIONS, **options}}
    return {"encoders": {"uni": {"dim": DIM}}, "tiles": settings()["tiles"], "features": {"import": imports}}


def entries(*slides: str) -> dict[tuple[str, str], dict[str, Any]]:
    return {("north", slide): entry(slide) for slide in slides}


def test_published_files_change_only_where_a_file_appears_or_goes(tmp_path: Path) -> None:
    foreign(tmp_path / "a.h5")
    publish_imports(config(tmp_path), entries("a", "b"), tmp_path / "results")
    folder = tmp_path / "results" / "settings" / "imports" / "uni"
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert [str(path.relative_to(folder)) for path in files] == ["north/a.json", "north/b.json", "stated.yaml"]
    assert read_json(folder / "north" / "b.json")["missing"] == [str(tmp_path / "b.h5")]
    assert load_yaml(folder / "stated.yaml") == {}
    for path in files:
        os.utime(path, (1, 1))
    foreign(tmp_path / "b.h5")
    publish_imports(config(tmp_path), entries("a", "b"), tmp_path / "results")
    assert [path.name for path in files if path.stat().st_mtime != 1] == ["b.json"]


def test_a_damaged_file_is_passed_over_when_asked_for_its_weights(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_text("no H5")
    (file,), _ = export_stores([make_store(tmp_path / "s.zarr")], Format.CLAM, tmp_path / "h5")
    assert stated_by([Source(tmp_path / "a.h5"), Source(file)])["encoder"]["weights"] == "untrained"


def test_a_survey_names_missing_files_and_a_statement_that_fits_no_file(tmp_path: Path) -> None:
    for slide in "abc":
        foreign(tmp_path / f"{slide}.h5")
    every = entries("a", "b", "c", "d")
    records = {key: inspected(key[1]) for key in every}
    fine = survey_imports(config(tmp_path), every, records)
    assert ([row[:3] for row in fine.missing], fine.unusable, fine.problems) == ([("uni", "north", "d")], [], [])
    wrong = survey_imports(config(tmp_path, unit="um"), every, records, most=2)
    assert [row[2] for row in wrong.unusable] == ["a", "b"]
    (problem,) = wrong.problems
    assert problem.where == "features.import.uni"
    assert "none of the 2 files tried can be used (a, b)" in problem.what


def test_a_survey_with_one_bad_file_is_no_problem(tmp_path: Path) -> None:
    foreign(tmp_path / "a.h5")
    foreign(tmp_path / "b.h5", dim=3)
    every = entries("a", "b")
    found = survey_imports(config(tmp_path), every, {key: inspected(key[1]) for key in every})
    assert ([row[2] for row in found.unusable], found.problems) == (["b"], [])
