"""The tiles of a slide that are encoded are those with enough tissue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import MultiPolygon, Polygon, box
from tests.features.extracting import geojson

from slidestudy.features.extraction import choose_tiles
from slidestudy.geometry import TileGrid


def polygons(draw: st.DrawFn) -> MultiPolygon:
    """One to three convex pieces, some with a hole."""
    parts = []
    for _ in range(draw(st.integers(1, 3))):
        x, y = draw(st.integers(0, 800)), draw(st.integers(0, 600))
        radius, corners = draw(st.integers(20, 300)), draw(st.integers(3, 12))
        turn = draw(st.floats(0, 6.28))
        angles = turn + np.arange(corners) * 2 * np.pi / corners
        ring = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1)
        hole = (ring - (x, y)) * draw(st.sampled_from([0.0, 0.5])) + (x, y)
        parts.append(Polygon(ring, [hole] if not np.allclose(hole, (x, y)) else None))
    return MultiPolygon(parts)


@settings(deadline=None, max_examples=60)
@given(st.composite(polygons)(), st.sampled_from([0.0, 0.1, 0.5, 0.9]), st.sampled_from([64.0, 100.0, 128.3]))
def test_the_tiles_chosen_are_those_that_a_polygon_overlap_would_choose(
    tmp_path_factory: pytest.TempPathFactory, tissue: MultiPolygon, min_tissue: float, extent: float
) -> None:
    path = geojson(tmp_path_factory.getbasetemp() / "choose.geojson", tissue)
    grid = TileGrid(800, 600, 1.0, 64, extent / 64)
    coords, fractions = choose_tiles(grid, path, min_tissue)
    assert (fractions > min_tissue).all()
    chosen = dict(zip(map(tuple, coords.tolist()), fractions.tolist(), strict=True))
    assert list(chosen) == [c for c in map(tuple, grid.coords().tolist()) if c in chosen], "in the grid's order"
    area = tissue.buffer(0) if tissue.is_valid else tissue.geoms[0].union(MultiPolygon(tissue.geoms[1:]).buffer(0))
    for x, y in grid.coords().tolist():
        tile = box(x, y, x + extent, y + extent)
        true = area.intersection(tile).area / extent**2
        # In the mask of 16 x 16 cells to a tile, cells that a border passes through may be in or out.
        border = area.boundary.intersection(tile).length / extent
        slack = 0.01 + 1.5 * border / 16
        if (x, y) in chosen:
            assert chosen[x, y] == pytest.approx(true, abs=slack)
        else:
            assert true <= min_tissue + slack


def test_only_features_classified_as_tissue_count(tmp_path: Path) -> None:
    grid = TileGrid(800, 600, 0.5, 100, 0.5)
    assert len(choose_tiles(grid, geojson(tmp_path / "a.geojson", box(0, 0, 800, 600)), 0.1)[0]) == 48
    assert len(choose_tiles(grid, geojson(tmp_path / "b.geojson", box(0, 0, 800, 600), "Pen"), 0.1)[0]) == 0


def test_a_tile_must_hold_more_than_the_least_fraction(tmp_path: Path) -> None:
    grid = TileGrid(400, 100, 1.0, 100, 1.0)
    path = geojson(tmp_path / "half.geojson", box(0, 0, 250, 100))
    assert choose_tiles(grid, path, 0.4)[0].tolist() == [[0, 0], [100, 0], [200, 0]]
    assert choose_tiles(grid, path, 0.7)[0].tolist() == [[0, 0], [100, 0]]
    assert len(choose_tiles(grid, path, 1.0)[0]) == 0
