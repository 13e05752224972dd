"""The tile grid, and polygons drawn into masks, against slow and obvious counterparts."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely.geometry import GeometryCollection, MultiPolygon, Point, Polygon, box

from slidestudy.geometry import TileGrid, polygons_of, rasterise, tile_fractions

quick = settings(max_examples=60, deadline=None)
grids = st.builds(
    TileGrid,
    width=st.integers(1, 4000),
    height=st.integers(1, 4000),
    slide_mpp=st.floats(0.1, 2.0),
    size=st.integers(16, 600),
    tile_mpp=st.floats(0.1, 4.0),
).filter(lambda grid: grid.extent >= 8)


@quick
@given(grids)
def test_a_grid_is_sorted_row_major_without_repeats(grid: TileGrid) -> None:
    rows = [(int(y), int(x)) for x, y in grid.coords()]
    assert rows == sorted(set(rows))


@quick
@given(grids)
def test_a_grid_is_uniform_and_starts_at_zero(grid: TileGrid) -> None:
    coords = grid.coords()
    rows, columns = grid.shape
    assert coords.shape == (rows * columns, 2)
    for axis, count in ((0, columns), (1, rows)):
        positions = np.unique(coords[:, axis])
        if len(coords):
            assert len(positions) == count
            assert positions[0] == 0
        # Rounded to whole pixels only, so that no error builds up along the slide.
        assert np.abs(positions - np.arange(len(positions)) * grid.extent).max(initial=0) <= 0.5 + 1e-6


@quick
@given(grids)
def test_tiles_lie_inside_the_slide_and_no_further_tile_fits(grid: TileGrid) -> None:
    right_bottom = grid.coords() + grid.extent
    assert (right_bottom <= [grid.width + 0.5 + 1e-3, grid.height + 0.5 + 1e-3]).all()
    rows, columns = grid.shape
    assert (columns + 1) * grid.extent > grid.width
    assert (rows + 1) * grid.extent > grid.height


@quick
@given(grids)
def test_neighbouring_tiles_step_by_their_extent_to_within_a_pixel(grid: TileGrid) -> None:
    coords = grid.coords()
    for axis in (0, 1):
        steps = np.diff(np.unique(coords[:, axis]))
        # No step is shorter than the extent by a pixel or more: tiles overlap by their rounding only.
        assert np.abs(steps - grid.extent).max(initial=0) < 1
        # Over the whole slide nothing adds up.
        assert abs(steps.sum() - len(steps) * grid.extent) <= 0.5 + 1e-6


@quick
@given(grids)
def test_all_but_an_incomplete_border_is_covered(grid: TileGrid) -> None:
    coords = grid.coords()
    uncovered = [grid.width, grid.height]
    if len(coords):
        uncovered = [grid.width - coords[:, 0].max() - grid.extent, grid.height - coords[:, 1].max() - grid.extent]
        assert all(-0.5 - 1e-3 <= border < grid.extent + 0.5 for border in uncovered)
    else:
        assert min(uncovered) < grid.extent


@quick
@given(grids)
def test_the_corner_of_a_tile_is_held_by_that_tile(grid: TileGrid) -> None:
    coords = grid.coords()
    assert grid.index_of(coords).tolist() == list(range(len(coords)))


@quick
@given(grids, st.lists(st.tuples(st.integers(-500, 4500), st.integers(-500, 4500)), max_size=50))
def test_a_point_is_held_by_the_last_tile_that_begins_before_it(grid: TileGrid, points: list[tuple[int, int]]) -> None:
    coords, places = grid.coords(), np.array(points).reshape(-1, 2)
    for (x, y), index in zip(points, grid.index_of(places), strict=True):
        before = np.flatnonzero((coords[:, 0] <= x) & (coords[:, 1] <= y))
        if index >= 0:
            assert index == before[-1]
            assert (np.array([x, y]) - coords[index] <= grid.extent + 0.5).all()
        elif len(before):
            # Beyond the last column or row.
            assert (np.array([x, y]) - coords[before[-1]] >= grid.extent - 1).any()


@quick
@given(grids, st.lists(st.tuples(st.integers(-(2**20), 2**20), st.integers(-(2**20), 2**20)), max_size=50))
def test_pixels_come_back_from_micrometres(grid: TileGrid, points: list[tuple[int, int]]) -> None:
    for places in (grid.coords(), np.array(points, np.int32).reshape(-1, 2)):
        um = grid.to_um(places)
        np.testing.assert_allclose(um, places * grid.slide_mpp)
        np.testing.assert_array_equal(grid.from_um(um), places)
        # Micrometres that were written with three decimals lead to the same pixel.
        np.testing.assert_array_equal(grid.from_um(np.round(um, 3)), places)


@quick
@given(grids, st.floats(0.1, 2.0))
def test_a_tile_lies_at_the_same_micrometres_on_a_slide_of_another_resolution(grid: TileGrid, mpp: float) -> None:
    scale = grid.slide_mpp / mpp
    other = TileGrid(int(grid.width * scale) + 1, int(grid.height * scale) + 1, mpp, grid.size, grid.tile_mpp)
    here, there = grid.coords(), other.coords()
    columns = min(grid.shape[1], other.shape[1])
    for column in range(columns if min(grid.shape[0], other.shape[0]) else 0):
        distance = abs(grid.to_um(here)[column, 0] - other.to_um(there)[column, 0])
        assert distance <= (grid.slide_mpp + mpp) / 2 + 1e-6


@quick
@given(grids)
def test_a_tile_covers_the_same_micrometres_on_every_slide(grid: TileGrid) -> None:
    assert grid.extent * grid.slide_mpp == pytest.approx(grid.size * grid.tile_mpp)


def test_a_known_grid() -> None:
    grid = TileGrid(width=1000, height=520, slide_mpp=0.25, size=128, tile_mpp=0.5)
    assert grid.extent == 256
    assert grid.coords().tolist() == [[0, 0], [256, 0], [512, 0], [0, 256], [256, 256], [512, 256]]


def test_a_slide_of_exactly_whole_tiles_loses_none_to_rounding() -> None:
    assert TileGrid(width=300, height=100, slide_mpp=0.3, size=30, tile_mpp=0.1).shape == (10, 30)


def test_a_slide_smaller_than_a_tile_has_none() -> None:
    assert TileGrid(width=100, height=100, slide_mpp=0.5, size=256, tile_mpp=0.5).coords().shape == (0, 2)


@pytest.mark.parametrize("change", [{"width": 0}, {"height": -1}, {"slide_mpp": 0.0}, {"size": 0}, {"tile_mpp": -0.5}])
def test_a_grid_without_extent_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="positive"):
        TileGrid(**{"width": 10, "height": 10, "slide_mpp": 0.5, "size": 5, "tile_mpp": 0.5, **change})  # type: ignore[arg-type]


@st.composite
def blobs(draw: st.DrawFn) -> Polygon:
    """A star-shaped polygon within 0..200, half of them with a hole."""
    angles = np.linspace(0, 2 * np.pi, draw(st.integers(5, 12)), endpoint=False)
    centre = np.array([draw(st.floats(60, 140)), draw(st.floats(60, 140))])
    radii = np.array([draw(st.floats(25, 55)) for _ in angles])
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    holes = [centre + 0.5 * radii.min() * directions] if draw(st.booleans()) else []
    return Polygon(centre + radii[:, None] * directions, holes)


@settings(max_examples=30, deadline=None)
@given(st.lists(blobs(), min_size=1, max_size=3), st.sampled_from([1.0, 2.5, 4.0]))
def test_a_mask_holds_the_pixels_whose_centre_lies_inside(polygons: list[Polygon], downsample: float) -> None:
    shape = (int(150 / downsample), int(120 / downsample))  # smaller than the polygons reach
    mask = rasterise(polygons, shape, downsample)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    x, y = (columns.ravel() + 0.5) * downsample, (rows.ravel() + 0.5) * downsample
    union = shapely.union_all(polygons)
    inside = shapely.contains_xy(union, x, y).reshape(shape)
    # A centre exactly on a border may be in or out.
    rings = shapely.union_all([polygon.boundary for polygon in polygons])
    clear = shapely.distance(rings, shapely.points(x, y)).reshape(shape) > 1e-6
    assert mask.dtype == np.uint8
    assert clear.mean() > 0.99
    assert np.array_equal(mask[clear].astype(bool), inside[clear])


def test_a_hole_stays_empty_and_another_polygon_in_it_is_drawn() -> None:
    ring = Polygon(box(0, 0, 100, 100).exterior, [box(20, 20, 80, 80).exterior])
    mask = rasterise([ring, box(45, 45, 55, 55)], (100, 100), 1)
    assert mask[10, 10] == 1
    assert mask[30, 30] == 0
    assert mask[50, 50] == 1


def test_a_polygon_over_the_whole_slide_fills_the_mask() -> None:
    assert rasterise([box(0, 0, 300, 200)], (20, 30), 10).all()


def test_no_polygon_gives_an_empty_mask() -> None:
    assert not rasterise([], (5, 7), 2).any()


def brute_force(mask: NDArray[np.uint8], corner: NDArray[np.int32], extent: float, downsample: float) -> float:
    """Overlap of a tile with each pixel of the mask, added up one by one."""
    left, top = corner / downsample
    side = extent / downsample
    area = 0.0
    for row, column in np.argwhere(mask):
        width = min(column + 1, left + side) - max(column, left)
        height = min(row + 1, top + side) - max(row, top)
        area += max(width, 0) * max(height, 0)
    return area / side**2


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(3, 40), st.floats(1, 7))
def test_tile_fractions_are_the_overlap_with_the_masks_pixels(seed: int, extent: float, downsample: float) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, 2, (9, 12), dtype=np.uint8)
    coords = rng.integers(0, 60, (4, 2)).astype(np.int32)
    fractions = tile_fractions(mask, coords, extent, downsample)
    expected = [brute_force(mask, corner, extent, downsample) for corner in coords]
    assert fractions.dtype == np.float32
    assert fractions == pytest.approx(expected, abs=1e-5)


@quick
@given(grids)
def test_every_tile_of_a_full_mask_is_full(grid: TileGrid) -> None:
    downsample = grid.extent / 4
    mask = np.ones((int(np.ceil(grid.height / downsample)) + 1, int(np.ceil(grid.width / downsample)) + 1), np.uint8)
    assert tile_fractions(mask, grid.coords(), grid.extent, downsample) == pytest.approx(1, abs=1e-4)
    assert not tile_fractions(np.zeros_like(mask), grid.coords(), grid.extent, downsample).any()


def test_polygons_are_found_at_any_depth_and_empty_ones_dropped() -> None:
    a, b = box(0, 0, 1, 1), box(2, 2, 3, 3)
    nested = GeometryCollection([MultiPolygon([a, b]), Point(5, 5), Polygon()])
    assert polygons_of(nested) == [a, b]
    assert polygons_of(MultiPolygon([a, b])) == [a, b]
    assert polygons_of(Polygon()) == []
