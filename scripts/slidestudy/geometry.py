"""Where tiles lie on a slide, and the areas of polygons rasterised at a given resolution."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from shapely import contains_xy
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry


@dataclass(frozen=True)
class TileGrid:
    """A regular grid of square tiles without overlap, in level-0 pixels.

    A tile of `size` px at `tile_mpp` covers `size * tile_mpp` micrometres on every slide, whatever the
    slide's own resolution or objective. Tiles that would cross the slide's border are left out.

    Attributes:
        width: Slide width at level 0, px.
        height: Slide height at level 0, px.
        slide_mpp: Slide resolution at level 0, um/px.
        size: Tile side, px at `tile_mpp`.
        tile_mpp: Resolution of the tiles, um/px.
    """

    width: int
    height: int
    slide_mpp: float
    size: int
    tile_mpp: float

    def __post_init__(self) -> None:
        if min(self.width, self.height, self.size) <= 0 or min(self.slide_mpp, self.tile_mpp) <= 0:
            raise ValueError(f"sizes and resolutions must be positive: {self}")

    @property
    def extent(self) -> float:
        """Side of a tile in level-0 pixels, not rounded."""
        return self.size * self.tile_mpp / self.slide_mpp

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        tolerance = 1e-6
        return int(self.height / self.extent + tolerance), int(self.width / self.extent + tolerance)

    def coords(self) -> NDArray[np.int32]:
        """Top-left corners of the tiles, level-0 x and y, row-major, shape (n_tiles, 2)."""
        rows, columns = self.shape
        grid_x, grid_y = np.meshgrid(self._edges(columns), self._edges(rows))
        return np.stack([grid_x.ravel(), grid_y.ravel()], axis=1)

    def _edges(self, count: int) -> NDArray[np.int32]:
        """Left or top edges of tiles beside each other: whole pixels, each rounded on its own so that none drifts."""
        return np.floor(np.arange(count) * self.extent + 0.5).astype(np.int32)

    def index_of(self, points: NDArray[np.number]) -> NDArray[np.int64]:
        """Which tile holds a point.

        Args:
            points: Level-0 x and y, (n, 2).

        Returns:
            Positions in `coords()`, int64 (n,); -1 where no tile of the grid lies.
        """
        rows, columns = self.shape
        # One edge more than there are tiles: where the last one ends.
        column = np.searchsorted(self._edges(columns + 1), points[:, 0], side="right") - 1
        row = np.searchsorted(self._edges(rows + 1), points[:, 1], side="right") - 1
        inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
        return np.where(inside, row * columns + column, -1)

    def to_um(self, coords: NDArray[np.number]) -> NDArray[np.float64]:
        """Level-0 pixels as micrometres from the slide's top-left corner."""
        return np.asarray(coords, np.float64) * self.slide_mpp

    def from_um(self, places: NDArray[np.floating]) -> NDArray[np.int32]:
        """Micrometres from the slide's top-left corner as the nearest level-0 pixel edges."""
        return np.floor(np.asarray(places, np.float64) / self.slide_mpp + 0.5).astype(np.int32)


def polygons_of(geometry: BaseGeometry) -> list[Polygon]:
    """The polygons of a geometry, whatever its type."""
    if isinstance(geometry, Polygon):
        return [] if geometry.is_empty else [geometry]
    parts = getattr(geometry, "geoms", [])
    return [polygon for part in parts for polygon in polygons_of(part)]


def rasterise(geometries: Iterable[BaseGeometry], shape: tuple[int, int], downsample: float) -> NDArray[np.uint8]:
    """Draws polygons with their holes into a mask.

    Args:
        geometries: Polygons in level-0 pixels.
        shape: Height and width of the mask.
        downsample: Level-0 pixels per mask pixel.

    Returns:
        uint8 mask (height, width), 1 where the pixel's centre lies inside.
    """
    mask = np.zeros(shape, np.uint8)
    for geometry in geometries:
        for polygon in polygons_of(geometry):
            # Each polygon is drawn in its own window, so that many small ones cost little on a large mask.
            left, top, right, bottom = np.array(polygon.bounds) / downsample
            x0, y0 = max(0, int(np.floor(left)) - 1), max(0, int(np.floor(top)) - 1)
            x1, y1 = min(shape[1], int(np.ceil(right)) + 1), min(shape[0], int(np.ceil(bottom)) + 1)
            if x1 > x0 and y1 > y0:
                mask[y0:y1, x0:x1] |= _draw(polygon, (x0, y0), (y1 - y0, x1 - x0), downsample)
    return mask


def _draw(polygon: Polygon, origin: tuple[int, int], shape: tuple[int, int], downsample: float) -> NDArray[np.uint8]:
    """Draws one polygon into a window of a mask whose top-left pixel is `origin` (x, y)."""
    shift, margin = 4, 2
    # OpenCV moves lines slightly where it clips them at the picture's edge: that must not be the window's.
    origin = origin[0] - margin, origin[1] - margin
    shape = shape[0] + 2 * margin, shape[1] + 2 * margin
    rings = [polygon.exterior, *polygon.interiors]
    # Pixel (i, j) of the mask has its centre at level-0 ((j + 0.5) * d, (i + 0.5) * d).
    scaled = [(np.asarray(ring.coords)[:, :2] / downsample - 0.5 - origin) * (1 << shift) for ring in rings]
    points = [np.round(ring).astype(np.int32) for ring in scaled]
    layer, edge = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    # One call with all rings fills by the even-odd rule, which leaves the holes empty.
    cv2.fillPoly(layer, points, 1, lineType=cv2.LINE_8, shift=shift)
    # OpenCV also paints the border: there, a pixel counts if its centre lies inside.
    cv2.polylines(edge, points, isClosed=True, color=1, thickness=1, lineType=cv2.LINE_8, shift=shift)
    y, x = np.nonzero(cv2.dilate(edge, np.ones((3, 3), np.uint8)))
    layer[y, x] = contains_xy(polygon, (x + origin[0] + 0.5) * downsample, (y + origin[1] + 0.5) * downsample)
    return layer[margin:-margin, margin:-margin]


def tile_fractions(
    mask: NDArray[np.uint8], coords: NDArray[np.int32], extent: float, downsample: float
) -> NDArray[np.float32]:
    """Fraction of each tile that lies in a mask, exact for the mask's pixels (summed-area table).

    Args:
        mask: uint8 mask (height, width), 1 inside.
        coords: Level-0 corners (n, 2).
        extent: Tile side in level-0 pixels.
        downsample: Level-0 pixels per mask pixel.

    Returns:
        float32 (n,), between 0 and 1.
    """
    table = cv2.integral(mask, sdepth=cv2.CV_64F)

    def corner(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """The summed area at fractional positions, bilinear, which is exact inside a pixel."""
        x, y = np.clip(x, 0, mask.shape[1]), np.clip(y, 0, mask.shape[0])
        x0, y0 = np.minimum(x.astype(int), mask.shape[1] - 1), np.minimum(y.astype(int), mask.shape[0] - 1)
        fx, fy = x - x0, y - y0
        top = table[y0, x0] * (1 - fx) + table[y0, x0 + 1] * fx
        bottom = table[y0 + 1, x0] * (1 - fx) + table[y0 + 1, x0 + 1] * fx
        return top * (1 - fy) + bottom * fy

    x0, y0 = coords[:, 0] / downsample, coords[:, 1] / downsample
    side = extent / downsample
    area = corner(x0 + side, y0 + side) - corner(x0, y0 + side) - corner(x0 + side, y0) + corner(x0, y0)
    return np.clip(area / side**2, 0, 1).astype(np.float32)
