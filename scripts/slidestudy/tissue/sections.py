"""Which pieces of tissue make up a section, and in which order sections are numbered."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from shapely import STRtree
from shapely.geometry import Polygon


def _groups(polygons: Sequence[Polygon], gap: float) -> list[list[int]]:
    """Groups polygons: those of different groups are more than `gap` apart, and groups are as small as that allows."""
    parent = list(range(len(polygons)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    pairs = STRtree(polygons).query(polygons, predicate="dwithin", distance=gap)
    for first, second in pairs.T.tolist():
        parent[root(first)] = root(second)
    groups: dict[int, list[int]] = {}
    for index in range(len(polygons)):
        groups.setdefault(root(index), []).append(index)
    return list(groups.values())


def _reading_order(boxes: NDArray[np.float64]) -> list[int]:
    """Orders boxes (left, top, right, bottom) row by row.

    The box whose centre is highest begins a row. All boxes whose centre is not below its lower edge stand in that row,
    from left to right; the highest of the others begins the next row. So small differences of height change nothing.
    """
    centres = (boxes[:, 1] + boxes[:, 3]) / 2
    left = sorted(range(len(boxes)), key=lambda i: (centres[i], boxes[i, 0], i))
    order: list[int] = []
    while left:
        bottom = boxes[left[0], 3]
        row = [i for i in left if centres[i] <= bottom]
        order += sorted(row, key=lambda i: (boxes[i, 0], boxes[i, 1], i))
        left = [i for i in left if centres[i] > bottom]
    return order


def number_sections(polygons: Sequence[Polygon], gap: float) -> list[int]:
    """Numbers the section of each piece of tissue.

    Pieces whose outlines lie at most `gap` apart belong to one section, and so do those that a chain of such pieces
    joins. Sections are numbered row by row, from left to right within a row: the section whose bounding box has the
    highest centre begins a row, and every section whose centre is not below that box's lower edge stands in it.

    Args:
        polygons: Pieces of tissue, level-0 px.
        gap: The largest distance within a section, level-0 px.

    Returns:
        The section of each piece, from 1.
    """
    if not polygons:
        return []
    groups = _groups(polygons, gap)
    bounds = np.array([p.bounds for p in polygons])
    boxes = np.array([[*bounds[g, :2].min(0), *bounds[g, 2:].max(0)] for g in groups])
    numbers = [0] * len(polygons)
    for section, group in enumerate(_reading_order(boxes), 1):
        for index in groups[group]:
            numbers[index] = section
    return numbers
