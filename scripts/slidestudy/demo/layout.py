"""Where everything lies in a procedural tissue field, in micrometres, and the exact truth about it.

A layout knows no pixel size: regions are masks on a 1 um grid and cells are coordinates in micrometres, so
that the same tissue can be painted at any mpp and the truth never depends on the scanner.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

LYMPHOCYTE_REACH_UM = 6.0
"""Radius of the territory that one lymphocyte covers: its 3.5 um nucleus, cytoplasm and share of the gap."""

_LYMPHOCYTE_SPACING_UM = 8.8
_TUMOUR_SPACING_UM = 13.5
_SPINDLE_SPACING_UM = 24.0
_FAT_SPACING_UM = 52.0
_SCATTERED_SHARE = 0.025
"""Share of grid sites outside infiltrates that hold a lone lymphocyte, from a request of 10 % upwards."""


@dataclass(frozen=True)
class Truth:
    """What is in a painted field, computed from its masks and cells and never from the request.

    Attributes:
        tils: Stromal TIL percentage, 0-100: of the area of the stroma mask (tissue that is neither tumour,
            fat nor mucin), the share within `LYMPHOCYTE_REACH_UM` of the centre of a painted lymphocyte.
        n_lymphocytes: Number of painted lymphocytes.
        mucin_fraction: Mucin area / tissue area, 0-1.
        tumour_fraction: Tumour nest area / tissue area, 0-1.
    """

    tils: float
    n_lymphocytes: int
    mucin_fraction: float
    tumour_fraction: float


@dataclass(frozen=True)
class Layout:
    """A tissue field before it is painted.

    Attributes:
        tissue: (height, width) on a 1 um grid; the four region masks below are disjoint and make it up.
        tumour: Tumour nests.
        stroma: Everything else in the tissue.
        fat: Adipose lobules.
        mucin: Mucin pools; empty where the case is not mucinous.
        lymphocytes: (n, 2) centres x, y in um, all in the stroma.
        tumour_nuclei: (n, 2) centres in um, all in nests.
        spindle_nuclei: (n, 2) centres in um, all in the stroma.
        vacuoles: (n, 2) centres of fat cells in um.
    """

    tissue: Mask
    tumour: Mask
    stroma: Mask
    fat: Mask
    mucin: Mask
    lymphocytes: Float
    tumour_nuclei: Float
    spindle_nuclei: Float
    vacuoles: Float

    @property
    def size_um(self) -> tuple[int, int]:
        """Width and height of the field in um."""
        height, width = self.tissue.shape
        return width, height

    def truth(self) -> Truth:
        """Measures the field; see `Truth` for the definitions."""
        tissue_area = max(int(self.tissue.sum()), 1)
        covered = self.stroma & (distance_to(self.lymphocytes, self.stroma.shape) <= LYMPHOCYTE_REACH_UM)
        return Truth(
            tils=100.0 * float(covered.sum()) / max(int(self.stroma.sum()), 1),
            n_lymphocytes=len(self.lymphocytes),
            mucin_fraction=float(self.mucin.sum()) / tissue_area,
            tumour_fraction=float(self.tumour.sum()) / tissue_area,
        )


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> Float:
    """Draws isotropic smooth noise of zero mean and unit variance.

    Args:
        rng: Source of randomness.
        shape: Height and width of the result in pixels.
        scale: Distance in pixels over which the noise changes.

    Returns:
        (height, width) float32.
    """
    # Blurred white noise on a grid four times finer than the wanted scale, then enlarged: the cost of a large
    # Gaussian on the full grid is avoided and the lattice does not show.
    step = max(scale / 4.0, 1.0)
    coarse = (int(np.ceil(shape[0] / step)) + 12, int(np.ceil(shape[1] / step)) + 12)
    white = rng.standard_normal(coarse, dtype=np.float32)
    grid = cv2.GaussianBlur(white, (0, 0), 2.0 if step > 1.0 else max(scale / 2.0, 0.3))
    size = (round(coarse[1] * step), round(coarse[0] * step))
    full = cv2.resize(grid, size, interpolation=cv2.INTER_CUBIC)
    top, left = (full.shape[0] - shape[0]) // 2, (full.shape[1] - shape[1]) // 2
    cut = full[top : top + shape[0], left : left + shape[1]]
    return np.asarray((cut - cut.mean()) / max(float(cut.std()), 1e-6), dtype=np.float32)


def distance_to(points: Float, shape: tuple[int, ...]) -> Float:
    """Distance of every grid cell to the nearest point.

    Args:
        points: (n, 2) x, y in um.
        shape: Height and width of the 1 um grid.

    Returns:
        (height, width) float32 in um; infinite where there is no point at all.
    """
    if len(points) == 0:
        return np.full(shape[:2], np.inf, dtype=np.float32)
    marks = np.ones(shape[:2], dtype=np.uint8)
    rows, columns = _cells(points)
    marks[rows, columns] = 0
    return np.asarray(cv2.distanceTransform(marks, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), dtype=np.float32)


def plan_layout(rng: np.random.Generator, size_um: tuple[int, int], til_percent: float, mucinous: bool) -> Layout:
    """Lays out a tissue field.

    With equal `rng` state a higher `til_percent` only adds lymphocytes: the truth rises with the request.

    Args:
        rng: Source of randomness.
        size_um: Width and height of the field in um, glass margin included.
        til_percent: Requested stromal TIL percentage, 0-100; the truth comes close to it.
        mucinous: Whether to lay out mucin pools.

    Returns:
        The layout, on a grid of `size_um`.
    """
    shape = (size_um[1], size_um[0])
    tissue = _outline(rng, shape)
    tumour, fat, mucin = _regions(rng, tissue, mucinous)
    stroma = tissue & ~(tumour | fat | mucin)
    lymphocytes = _lymphocytes(rng, stroma, tumour, til_percent)
    tumour_nuclei = _grid_points(rng, shape, _TUMOUR_SPACING_UM, jitter=0.18)
    spindles = _grid_points(rng, shape, _SPINDLE_SPACING_UM, jitter=0.4)
    vacuoles = _grid_points(rng, shape, _FAT_SPACING_UM, jitter=0.2)
    # Spindle nuclei under a lymphocyte would look like debris, so they keep a cell's width away.
    free_stroma = stroma & (distance_to(lymphocytes, shape) > 7.0)
    return Layout(
        tissue=tissue,
        tumour=tumour,
        stroma=stroma,
        fat=fat,
        mucin=mucin,
        lymphocytes=lymphocytes,
        tumour_nuclei=_inside(tumour_nuclei, _shrunk(tumour, 4.0)),
        spindle_nuclei=_inside(spindles, _shrunk(free_stroma, 2.0)),
        vacuoles=_inside(vacuoles, fat),
    )


def _outline(rng: np.random.Generator, shape: tuple[int, int]) -> Mask:
    """An irregular, slightly rectangular piece of tissue that never touches the field's border."""
    height, width = shape
    half_height, half_width = rng.uniform(0.39, 0.435, 2) * (height, width)
    roundness = rng.uniform(2.0, 3.2)
    y = (np.arange(height, dtype=np.float32)[:, None] + 0.5 - height / 2) / half_height
    x = (np.arange(width, dtype=np.float32)[None, :] + 0.5 - width / 2) / half_width
    radius = (np.abs(x) ** roundness + np.abs(y) ** roundness) ** (1 / roundness)
    waves = np.tanh(0.7 * smooth_noise(rng, shape, 0.3 * min(shape)))
    frays = np.tanh(smooth_noise(rng, shape, 22.0))
    return np.asarray(radius + 0.11 * waves + 0.012 * frays < 0.98)


def _regions(rng: np.random.Generator, tissue: Mask, mucinous: bool) -> tuple[Mask, Mask, Mask]:
    """Divides tissue into tumour, fat and mucin; what is left is stroma. All on the 1 um grid."""
    shape = tissue.shape
    frays = 0.06 * smooth_noise(rng, shape, 9.0)
    rim = np.asarray(cv2.distanceTransform(tissue.astype(np.uint8), cv2.DIST_L2, 5), dtype=np.float32)
    # Adipose lobules lie towards the edge of the piece.
    lobules = smooth_noise(rng, shape, 170.0) - 1.2 * np.minimum(rim / (0.2 * min(shape)), 1.0)
    fat = _without_specks(_top_share(lobules, tissue, rng.uniform(0.03, 0.14)), 4 * _FAT_SPACING_UM**2)
    nests = smooth_noise(rng, shape, 95.0) + 0.45 * smooth_noise(rng, shape, 38.0) + frays
    rest = tissue & ~fat
    tumour = _without_specks(_top_share(nests, rest, rng.uniform(0.36, 0.50)), 600.0)
    pools = smooth_noise(rng, shape, 130.0) + frays
    mucin_share, island_share = rng.uniform(0.14, 0.30), rng.uniform(0.12, 0.2)
    mucin = np.zeros_like(tissue)
    if mucinous:
        pool = _without_specks(_top_share(pools, rest, mucin_share), 3000.0)
        # Only the cores of nests survive inside a pool: the floating clusters of a mucinous carcinoma.
        tumour &= ~pool | _top_share(nests, rest, island_share)
        mucin = _without_specks(pool & ~tumour, 300.0)
    return tumour, fat, mucin


def _lymphocytes(rng: np.random.Generator, stroma: Mask, tumour: Mask, til_percent: float) -> Float:
    """Centres of lymphocytes: packed in infiltrates, a few scattered over the rest of the stroma."""
    shape = stroma.shape
    points = _grid_points(rng, shape, _LYMPHOCYTE_SPACING_UM, jitter=0.2)
    lottery = rng.random(len(points))
    to_tumour = np.asarray(cv2.distanceTransform((~tumour).astype(np.uint8), cv2.DIST_L2, 5))
    # Infiltrates hug the nests, as they do at an invasive margin.
    affinity = smooth_noise(rng, shape, 75.0) + 0.3 * smooth_noise(rng, shape, 20.0) - 0.012 * to_tumour
    share = float(np.clip(til_percent / 100.0, 0.0, 1.0))
    infiltrate = _top_share(np.asarray(affinity, dtype=np.float32), stroma, min(share * 1.02, 1.0))
    allowed = _shrunk(stroma, 2.5)
    rows, columns = _cells(points)
    # Both parts only grow with the request, so a higher request keeps every earlier cell.
    scattered = lottery < _SCATTERED_SHARE * min(10.0 * share, 1.0)
    keep = allowed[rows, columns] & ((infiltrate[rows, columns] & (lottery < 0.95)) | scattered)
    return points[keep]


def _grid_points(rng: np.random.Generator, shape: tuple[int, ...], spacing: float, jitter: float) -> Float:
    """(n, 2) x, y in um of a jittered hexagonal grid over a field of `shape` um; jitter is in spacings."""
    row_step = spacing * np.sqrt(3.0) / 2.0
    rows, columns = int(shape[0] // row_step) + 1, int(shape[1] // spacing) + 1
    y = np.repeat(np.arange(rows) * row_step, columns)
    x = np.tile(np.arange(columns) * spacing, rows) + np.repeat(np.arange(rows) % 2, columns) * spacing / 2
    points = np.stack([x, y], axis=1) + rng.normal(0.0, jitter * spacing, (rows * columns, 2))
    inside = (points >= 0).all(axis=1) & (points[:, 0] < shape[1]) & (points[:, 1] < shape[0])
    return points[inside].astype(np.float32)


def _top_share(values: Float, within: Mask, share: float) -> Mask:
    """The part of `within`, `share` of its area, where `values` are highest."""
    if share <= 0 or not within.any():
        return np.zeros_like(within)
    return within & (values >= np.quantile(values[within], 1.0 - share))


def _without_specks(mask: Mask, smallest_um2: float) -> Mask:
    """The mask without its parts smaller than `smallest_um2`."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    large = stats[:, cv2.CC_STAT_AREA] >= smallest_um2
    large[0] = False
    return np.asarray(large[labels], dtype=np.bool_)


def _shrunk(mask: Mask, margin_um: float) -> Mask:
    """The mask without what lies within `margin_um` of its border."""
    return np.asarray(cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5) > margin_um)


def _inside(points: Float, mask: Mask) -> Float:
    """The points whose grid cell is set in `mask`."""
    rows, columns = _cells(points)
    return points[mask[rows, columns]]


def _cells(points: Float) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Rows and columns of the 1 um grid cells that hold the points."""
    return points[:, 1].astype(np.intp), points[:, 0].astype(np.intp)
