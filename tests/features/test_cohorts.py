"""The stores of whole cohorts as one lazy array."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.features.planted import plant, three_cohorts

from slidestudy.errors import StudyError
from slidestudy.features import cohorts
from slidestudy.features.cohorts import draw_tiles, open_cohort
from slidestudy.features.scheduling import on
from slidestudy.features.store import read_features


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return three_cohorts(tmp_path)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the stores whose features have been read."""
    read: list[str] = []

    def counted(path: Path, *rest: object) -> object:
        read.append(path.stem)
        return load(path, *rest)  # type: ignore[arg-type]

    load = cohorts._load
    monkeypatch.setattr(cohorts, "_load", counted)
    return read


def test_the_array_holds_the_readable_tiles_of_all_stores(paths: list[Path]) -> None:
    cohort = open_cohort(paths)
    stores = [read_features(path) for path in paths]
    assert cohort.features.dtype == np.float16
    with on("threads"):
        found = cohort.features.compute()
    np.testing.assert_array_equal(found, np.concatenate([s.features for s in stores]))
    np.testing.assert_array_equal(cohort.coords, np.concatenate([s.coords for s in stores]))
    np.testing.assert_array_equal(cohort.tissue_fraction, np.concatenate([s.tissue_fraction for s in stores]))
    assert cohort.slide_id.tolist() == [s.attributes["slide_id"] for s in stores for _ in s.features]
    assert cohort.slides["cohort"].tolist() == [s.attributes["cohort"] for s in stores]
    assert cohort.recipe == stores[0].attributes["recipe"]


def test_chunks_end_where_stores_end(paths: list[Path]) -> None:
    cohort = open_cohort(paths)
    assert cohort.features.chunks[0] == tuple(cohort.slides["n_tiles"])
    assert cohort.slides["n_tiles"].tolist() == [20, 27, 32, 41, 48, 55, 62, 69]


def test_no_features_are_read_until_they_are_needed_and_then_only_those(paths: list[Path], loads: list[str]) -> None:
    cohort = open_cohort(paths)
    assert loads == []
    with on("threads"):
        cohort.features[25].compute()
    assert loads == ["s1"]


def test_slides_without_a_readable_tile_are_skipped_and_named(tmp_path: Path, paths: list[Path]) -> None:
    excluded = plant(tmp_path, "bad", np.zeros((0, 6)), status="excluded", reason={"code": "no_tissue"})
    unreadable = plant(tmp_path, "dark", np.ones((2, 6)), unreadable=(0, 1))
    cohort = open_cohort([excluded, *paths, unreadable])
    assert cohort.empty == ("bad", "dark")
    assert cohort.slides["slide_id"].tolist() == [f"s{i}" for i in range(8)]


def test_no_readable_tile_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no feature store has a readable tile"):
        open_cohort([plant(tmp_path, "bad", np.zeros((0, 6)))])
    with pytest.raises(StudyError, match="no store"):
        open_cohort([])


def test_stores_of_two_recipes_are_refused(tmp_path: Path, paths: list[Path]) -> None:
    other = plant(tmp_path, "other", np.ones((3, 6)), recipe="0123456789abcdef")
    with pytest.raises(StudyError, match=r"do not share one recipe.*0123456789abcdef"):
        open_cohort([*paths, other])
    with pytest.raises(StudyError, match="not 0123456789abcdef"):
        open_cohort(paths, recipe="0123456789abcdef")
    assert open_cohort([other], recipe="0123456789abcdef").recipe == "0123456789abcdef"


@pytest.mark.parametrize("harm", ["missing", "garbled", "changed"])
def test_damaged_features_name_the_store(paths: list[Path], harm: str) -> None:
    (shard,) = [f for f in (paths[4] / "features" / "c").rglob("*") if f.is_file()]
    if harm == "missing":
        shard.unlink()
    elif harm == "garbled":
        shard.write_bytes(b"\xff" * shard.stat().st_size)
    else:
        # Sound by itself, but not what was written.
        other = next(f for f in (paths[5] / "features" / "c").rglob("*") if f.is_file())
        shard.write_bytes(other.read_bytes())
    cohort = open_cohort(paths)
    with on("threads"), pytest.raises(StudyError, match=r"s4\.zarr: is damaged"):
        cohort.features.sum(axis=0).compute()


@pytest.mark.parametrize("name", ["features", "coords", "readable"])
def test_a_store_that_lacks_an_array_is_refused_on_opening(paths: list[Path], name: str) -> None:
    (paths[3] / name / "zarr.json").unlink()
    with pytest.raises(StudyError, match=r"s3\.zarr: is damaged"):
        open_cohort(paths)


def test_a_store_whose_arrays_differ_in_length_is_refused_on_opening(paths: list[Path]) -> None:
    text = (paths[1] / "zarr.json").read_text(encoding="utf-8")
    for name in ("features", "coords"):
        (paths[0] / name).rename(paths[1] / f"{name}.other")
        (paths[1] / name).rename(paths[0] / name)
        (paths[1] / f"{name}.other").rename(paths[1] / name)
        assert (paths[1] / "zarr.json").read_text(encoding="utf-8") == text
        with pytest.raises(StudyError, match=r"s0\.zarr: is damaged"):
            open_cohort(paths)


def test_a_store_with_features_of_another_length_is_refused_on_opening(tmp_path: Path, paths: list[Path]) -> None:
    other = plant(tmp_path, "other", np.ones((3, 5)))
    with pytest.raises(StudyError, match=r"other\.zarr: is damaged: its features are 5 long"):
        open_cohort([*paths, other])


def test_drawn_tiles_are_the_stores_own(paths: list[Path]) -> None:
    with on("threads"):
        drawn = draw_tiles(open_cohort(paths), 25, seed=3)
    assert drawn.tiles.groupby("slide_id").size().tolist() == [20, *[25] * 7]
    for path in paths:
        store, rows = read_features(path), drawn.tiles["slide_id"] == path.stem
        at = [store.coords[:, 0].tolist().index(x) for x in drawn.tiles.loc[rows, "x"]]
        np.testing.assert_array_equal(drawn.features[rows.to_numpy()], store.features[at].astype(np.float32))
        assert not drawn.tiles[rows].duplicated().any()


def test_a_draw_depends_on_the_seed_and_the_slide_alone(paths: list[Path]) -> None:
    with on("threads"):
        whole = draw_tiles(open_cohort(paths), 5, seed=3)
        back = draw_tiles(open_cohort(paths[::-1]), 5, seed=3)
        fewer = draw_tiles(open_cohort(paths[4:6]), 5, seed=3)
        other = draw_tiles(open_cohort(paths), 5, seed=4)
    assert back.tiles.equals(whole.tiles)
    np.testing.assert_array_equal(back.features, whole.features)
    chosen = whole.tiles["slide_id"].isin(["s4", "s5"])
    assert fewer.tiles.equals(whole.tiles[chosen].reset_index(drop=True))
    assert not other.tiles.equals(whole.tiles)


MEMORY = """
import resource, sys
from pathlib import Path
from slidestudy.features.cohorts import open_cohort
from slidestudy.features.components import cohort_moments
from slidestudy.features.scheduling import on

paths = sorted(Path(sys.argv[1]).glob("north/*.zarr"))
with on("threads"):
    cohort_moments(open_cohort(paths[:1]))
    one = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cohort = open_cohort(paths)
    assert cohort_moments(cohort)["north"].n == len(cohort.coords)
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - one
print(cohort.features.nbytes // 2**20, grown // 1024)
"""


def test_a_cohort_larger_than_memory_needs_little_more_than_one_slide(tmp_path: Path, repository: Path) -> None:
    # Features that are cheap to write, yet take their full size when read: 8 MiB a slide.
    features = np.repeat(np.arange(8192, dtype=np.float32)[:, None] % 7, 512, axis=1)
    for number in range(14):
        plant(tmp_path, f"s{number:02}", features)
    command = [sys.executable, "-c", MEMORY, str(tmp_path)]
    # One arena, so that what the C library keeps of freed memory is not counted once per thread.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=repository / "scripts", env=environment, check=True
    )
    size, grown = map(int, done.stdout.split())
    assert size == 112
    # Some slides, and partial results of 2 MiB: (512, 512) in double precision.
    assert grown < 48
