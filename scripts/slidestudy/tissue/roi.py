"""The regions of a slide that its ROI file says are to be analysed, or left out."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from shapely.geometry import Polygon

from slidestudy.errors import StudyError
from slidestudy.geometry import polygons_of, rasterise
from slidestudy.tissue.cleaning import Mask
from slidestudy.tissue.polygons import read_features

ROI_EXCLUDE = ("Exclude*", "Ignore*", "Artefact*", "Artifact*")
"""Classifications that are cut out, where the configuration does not say."""


@dataclass(frozen=True)
class Roi:
    """What of a slide is to be analysed, as polygons in level-0 pixels.

    Attributes:
        include: The regions to analyse; the whole slide where there are none.
        exclude: The regions to leave out, also where they lie in an included one.
    """

    include: list[Polygon]
    exclude: list[Polygon]

    def mask(self, shape: tuple[int, int], downsample: float) -> Mask:
        """What is to be analysed, uint8 (height, width): 1 where a pixel's centre lies inside.

        Args:
            shape: Height and width of the mask.
            downsample: Level-0 pixels per mask pixel.
        """
        inside = rasterise(self.include, shape, downsample) if self.include else np.ones(shape, np.uint8)
        return inside & (1 - rasterise(self.exclude, shape, downsample))


def matches(name: str | None, patterns: Iterable[str]) -> bool:
    """Whether the name of a classification fits a pattern: wildcards as in a shell, capitals do not matter."""
    return name is not None and any(fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns)


def read_roi(path: str | os.PathLike[str], exclude: Iterable[str] = ROI_EXCLUDE) -> Roi:
    """Reads a slide's regions of interest.

    Args:
        path: GeoJSON, as exported by QuPath.
        exclude: Classifications of the regions that are cut out, with wildcards. All other regions are included.

    Raises:
        StudyError: The file is missing or not GeoJSON, or of its regions to analyse none has an area.
    """
    patterns = list(exclude)
    parted: dict[bool, list[Polygon]] = {False: [], True: []}
    wanted = 0
    for name, geometry in read_features(path):
        out = matches(name, patterns)
        wanted += not out
        parted[out] += polygons_of(geometry)
    if wanted and not parted[False]:
        # Else the whole slide would be analysed, against what was drawn.
        what = "its regions are points or lines, which have no area"
        raise StudyError(what, str(path), "draw closed annotations in QuPath and export them anew")
    return Roi(parted[False], parted[True])
