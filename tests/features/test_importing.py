"""Importing: an export comes back as it was; what a file does not say is demanded, what contradicts is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn
from tests.features.stores import SLIDE_MPP, grid, make_store

from slidestudy.errors import StudyError
from slidestudy.features.foreign_files import Statement
from slidestudy.features.importing import import_features
from slidestudy.features.interchange import Format, Unit, export_stores
from slidestudy.features.store import read_features
from slidestudy.features.verification import verify_store

USER = Statement("toy", None, SLIDE_MPP, 256, 0.5, Unit.LEVEL0)
NOTHING = Statement()


def foreign(
    path: Path, coords: npt.NDArray[Any] | None = None, stated: dict[str, Any] | None = None, **file_stated: Any
) -> Path:
    """A file of another tool: six values for each tile, and attributes of `coords` and of the file."""
    coords = grid() if coords is None else coords
    with h5py.File(path, "w") as file:
        file["feats"] = np.arange(len(coords) * 6, dtype=np.float32).reshape(-1, 6)
        file["coords"] = coords
        file["coords"].attrs.update(stated or {})
        file.attrs.update(file_stated)
    return path


# Round trips


@pytest.mark.parametrize("tool", Format)
@settings(deadline=None, max_examples=15)
@given(
    coords=stn.arrays(
        np.int32, st.tuples(st.integers(1, 12), st.just(2)), elements=st.integers(0, 1_000_000), unique=True
    )
)
def test_an_export_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, tool: Format, coords: npt.NDArray[np.int32]
) -> None:
    folder = tmp_path_factory.mktemp("trip")
    coords = coords[np.lexsort((coords[:, 0], coords[:, 1]))]
    store = make_store(folder / "s1.zarr", coords, unreadable=(0,) if len(coords) > 1 else ())
    (file,), _ = export_stores([store], tool, folder / "h5")
    again = import_features(file, folder / "back", NOTHING)
    before, after = read_features(store), read_features(again)
    for name in ("features", "coords", "tissue_fraction"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    changed = ("checksum", "n_tiles", "n_unreadable", "imported")
    kept = {k: v for k, v in after.attributes.items() if k not in changed}
    assert kept == {k: v for k, v in before.attributes.items() if k not in changed}
    assert verify_store(again).problems == ()


# Files of other tools


def test_a_file_that_says_nothing_demands_everything_at_once(tmp_path: Path) -> None:
    with pytest.raises(StudyError) as caught:
        import_features(foreign(tmp_path / "s.h5"), tmp_path / "out", NOTHING, "c")
    options = [p.remedy.removeprefix("state it with ") for p in caught.value.problems]
    assert options == ["--encoder", "--slide-mpp", "--tile-size", "--tile-mpp", "--unit"]
    assert not (tmp_path / "out").exists()


def test_what_is_stated_fills_the_gaps_and_the_store_is_sound(tmp_path: Path) -> None:
    column_major = np.ascontiguousarray(grid()[:, ::-1])
    path = import_features(foreign(tmp_path / "s.h5", column_major), tmp_path / "out", USER, "c")
    assert verify_store(path).problems == ()
    store = read_features(path)
    source = {tuple(c): i for i, c in enumerate(column_major.tolist())}
    assert [int(f[0]) // 6 for f in store.features] == [source[tuple(c)] for c in store.coords.tolist()]
    assert np.isnan(store.tissue_fraction).all()
    assert store.attributes["encoder"]["backend"] == "imported"
    assert [store.attributes[k] for k in ("slide_id", "patient_id", "cohort")] == ["s", "s", "c"]


def test_stamps_micrometres_are_converted_by_the_slides_mpp(tmp_path: Path) -> None:
    file = foreign(
        tmp_path / "s.h5", grid() * SLIDE_MPP, unit="um", tile_size_um=128.0, tile_size_px=256, extractor="uni"
    )
    store = read_features(import_features(file, tmp_path / "out", Statement(slide_mpp=SLIDE_MPP), "c"))
    np.testing.assert_array_equal(store.coords, grid())
    assert (store.attributes["encoder"]["name"], store.attributes["target_mpp"]) == ("uni", 0.5)


def test_tridents_tile_side_gives_the_tiles_mpp(tmp_path: Path) -> None:
    file = foreign(tmp_path / "s.h5", stated={"patch_size": 256, "patch_size_level0": 512, "overlap": 0})
    user = Statement(encoder="uni", slide_mpp=SLIDE_MPP)
    store = read_features(import_features(file, tmp_path / "out", user, "c"))
    assert (store.attributes["tile_size_px"], store.attributes["target_mpp"]) == (256, 0.5)


@pytest.mark.parametrize(
    ("user", "message"),
    [
        (replace(USER, dim=5), "has dim 6, but --dim is 5"),
        (replace(USER, unit=Unit.MICROMETRES), "has unit px, but --unit is um"),
        (replace(USER, tile_size=224), "has tile_size 256, but --tile-size is 224"),
        (replace(USER, tile_mpp=1.0), "its tiles are 512 px at level 0, but 256 px at 1.0 um/px"),
        (replace(USER, slide_mpp=0.5), "on a slide of 0.5 um/px are 256"),
        (replace(USER, slide_mpp=0.0), "slide_mpp is 0.0, not a positive number"),
        (replace(USER, slide_mpp=float("nan")), "slide_mpp is nan, not a positive number"),
    ],
)
def test_a_statement_that_contradicts_the_file_is_refused(tmp_path: Path, user: Statement, message: str) -> None:
    file = foreign(tmp_path / "s.h5", stated={"patch_size": 256, "patch_size_level0": 512})
    with pytest.raises(StudyError) as caught:
        import_features(file, tmp_path / "out", user, "c")
    assert message in str(caught.value)


@pytest.mark.parametrize("unit", [Unit.MICROMETRES, Unit.TILE])
def test_a_unit_that_the_spacing_contradicts_is_refused(tmp_path: Path, unit: Unit) -> None:
    with pytest.raises(StudyError, match=r"neighbours are \d+ level-0 px apart, but a tile's side is 512"):
        import_features(foreign(tmp_path / "s.h5"), tmp_path / "out", replace(USER, unit=unit), "c")


@pytest.mark.parametrize(
    ("coords", "stated", "message"),
    [
        (np.repeat(grid(), 2, axis=0), {}, "there twice"),
        (grid() - 512, {}, "negative"),
        (grid() * np.nan, {}, "no numbers"),
        (grid(), {"unit": "mm"}, "unit is 'mm'"),
        (np.c_[grid(), grid()], {}, "not \\(n, dim\\) and \\(n, 2\\)"),
    ],
)
def test_coordinates_that_cannot_be_used_are_refused(
    tmp_path: Path, coords: npt.NDArray[Any], stated: dict[str, Any], message: str
) -> None:
    with pytest.raises(StudyError, match=message):
        import_features(foreign(tmp_path / "s.h5", coords, **stated), tmp_path / "out", USER, "c")


def test_overlapping_tiles_are_refused(tmp_path: Path) -> None:
    file = foreign(tmp_path / "s.h5", stated={"patch_size_level0": 512, "patch_size": 256, "overlap": 128})
    with pytest.raises(StudyError, match="overlap"):
        import_features(file, tmp_path / "out", USER, "c")


def test_what_is_no_feature_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("no H5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["image"] = np.zeros(3)
    for name, message in (("text", "cannot be read"), ("absent", "cannot be read"), ("other", "only image")):
        with pytest.raises(StudyError, match=message):
            import_features(tmp_path / f"{name}.h5", tmp_path / "out", USER, "c")


def test_a_store_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    file = foreign(tmp_path / "s.h5")
    import_features(file, tmp_path / "out", USER, "c")
    with pytest.raises(StudyError, match="already there"):
        import_features(file, tmp_path / "out", USER, "c")


def test_the_cohort_is_demanded_and_may_not_contradict_the_file(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="does not say its cohort"):
        import_features(foreign(tmp_path / "s.h5"), tmp_path / "out", USER)
    (file,), _ = export_stores([make_store(tmp_path / "s1.zarr")], Format.CLAM, tmp_path / "h5")
    with pytest.raises(StudyError, match="has cohort north, but --cohort is south"):
        import_features(file, tmp_path / "out", NOTHING, "south")


def test_features_changed_after_the_export_are_refused(tmp_path: Path) -> None:
    (path,), _ = export_stores([make_store(tmp_path / "s1.zarr")], Format.CLAM, tmp_path / "h5")
    with h5py.File(path, "r+") as file:
        short = file["features"][:, :3]
        del file["features"]
        file["features"] = short
    with pytest.raises(StudyError, match="contradict"):
        import_features(path, tmp_path / "out", NOTHING)


@pytest.mark.shared
def test_a_real_file_without_units_needs_them_and_is_sound_with_them(shared: Path, tmp_path: Path) -> None:
    file = shared / "features" / "tcga-ad-6964_features.h5"
    with pytest.raises(StudyError, match="does not say its unit"):
        import_features(file, tmp_path, replace(USER, unit=None), "tcga")
    path = import_features(file, tmp_path, USER, "tcga")
    verdict = verify_store(path)
    assert (verdict.problems, verdict.n_tiles) == ((), 777)
