"""Near-duplicate tiles: those planted are found, and no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.features.planted import plant

from slidestudy.features import near_duplicates as module
from slidestudy.features.cohorts import draw_tiles, open_cohort
from slidestudy.features.near_duplicates import COLUMNS, near_duplicates
from slidestudy.features.scheduling import on

DIM = 16


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Random slides; three tiles of `b` stand again in `d` of the other cohort, one, in another brightness, in `c`."""
    rng = np.random.default_rng(5)
    a, b, c, d = (rng.normal(size=(30, DIM)) for _ in range(4))
    d[[4, 5, 6]] = b[[10, 11, 12]]
    c[20] = 3 * b[29]
    a[1] = a[0]
    return [
        plant(tmp_path, "a", a),
        plant(tmp_path, "b", b, patient="p"),
        plant(tmp_path, "c", c, patient="p"),
        plant(tmp_path, "d", d, cohort="south"),
    ]


def found(paths: list[Path], cosine: float = 0.995, tiles: int = 50) -> pd.DataFrame:
    with on("threads"):
        return near_duplicates(draw_tiles(open_cohort(paths), tiles, seed=1), cosine)


def test_planted_copies_and_no_others_are_found(paths: list[Path]) -> None:
    table = found(paths)
    assert table.columns.tolist() == COLUMNS
    ends = table[["slide_id_a", "x_a", "slide_id_b", "x_b"]].to_numpy().tolist()
    assert ends == [
        ["b", 29 * 512, "c", 20 * 512],
        ["b", 10 * 512, "d", 4 * 512],
        ["b", 11 * 512, "d", 5 * 512],
        ["b", 12 * 512, "d", 6 * 512],
    ]
    assert table["n_pairs"].tolist() == [1, 3, 3, 3]
    assert table["same_patient"].tolist() == ["yes", "no", "no", "no"]
    assert table["cohort_b"].tolist() == ["north", "south", "south", "south"]
    assert table["similarity"].to_numpy() == pytest.approx(1, abs=1e-5)


def test_the_limit_is_a_cosine(tmp_path: Path) -> None:
    angles = np.radians([0, 10])
    one, other = (np.array([[np.cos(angle), np.sin(angle)]]) for angle in angles)
    paths = [plant(tmp_path, "a", one), plant(tmp_path, "b", 5 * other)]
    assert found(paths, cosine=0.986).empty
    assert found(paths, cosine=0.984)["similarity"].tolist() == pytest.approx([np.cos(angles[1])], abs=1e-3)


@pytest.mark.parametrize("block", [11, 33])
def test_blocks_and_the_order_of_stores_do_not_change_the_table(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    whole = found(paths, cosine=0.5)
    assert len(whole) > 10
    monkeypatch.setattr(module, "BLOCK", block)
    pd.testing.assert_frame_equal(found(paths[::-1], cosine=0.5), whole)


def test_of_two_equal_slides_all_pairs_are_counted_and_the_most_similar_listed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    same = np.ones((30, DIM)) + rng.normal(0, 0.01, (30, DIM))
    table = found([plant(tmp_path, "a", same), plant(tmp_path, "b", same)])
    assert table["n_pairs"].tolist() == [900] * module.LISTED
    assert (table["x_a"] == table["x_b"]).all()


def test_a_study_without_duplicates_gives_a_table_without_rows(paths: list[Path]) -> None:
    table = found(paths[:1])
    assert table.empty
    assert table.columns.tolist() == COLUMNS


def test_a_tile_without_a_direction_is_no_duplicate(tmp_path: Path) -> None:
    zeros = np.zeros((3, DIM))
    assert found([plant(tmp_path, "a", zeros), plant(tmp_path, "b", zeros)]).empty
