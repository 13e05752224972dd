"""Stain normalisation of tiles: the colours of a template, and a note of what it did to each tile.

Macenko et al. (2009, ISBI: 1107) and Reinhard et al. (2001, IEEE Comput. Graph. Appl. 21:34), both as torchstain has
them. Where a tile holds too little stain either method makes colours up, so such tiles pass through unchanged. Where
the mean colour moves far, the tile is normalised and flagged: such tiles are known to flip a model's score.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from enum import IntEnum
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slidestudy.errors import StudyError

TEMPLATES = Path(__file__).resolve().parents[3] / "config" / "templates"
"""Where the templates that have a name lie."""
BRIGHTEST_STAINED = 205
"""A channel absorbs if it is no brighter: torchstain's least optical density, 0.15 of 240. Macenko's method takes a
pixel for stained if all channels absorb, so that a pale pink one is none; for Reinhard's, one channel suffices here."""
MIN_STAINED = 0.05
"""Least fraction of stained pixels. Below it the 99th percentile of concentration falls to that of the background, and
Macenko's method then moves the tissue by Delta E 15 (at 3.5 % stained) to 50 (below 1 %), against 10 above it;
Reinhard's colours the background instead, by Delta E 40."""
MIN_SPREAD = 1e-4
"""Least variance of the stained pixels' optical density in its second direction: with less there are not two stains,
only the grain of 8-bit pixels. Tiles of real slides had 1.7e-3 at least."""

Tiles = NDArray[np.uint8]


class Outcome(IntEnum):
    """What became of a tile (array `normalisation` of a feature store)."""

    PASSED_THROUGH = 0
    NORMALISED = 1
    FLAGGED = 2


def template_path(template: str) -> Path:
    """The picture behind a template: a name of `config/templates`, or a path.

    Raises:
        StudyError: There is no such picture.
    """
    named = re.fullmatch(r"[A-Za-z0-9_-]+", template) is not None
    path = TEMPLATES / f"{template}.png" if named else Path(template)
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in TEMPLATES.glob("*.png")))
        remedy = f"give the path of a picture, or one of {names}"
        raise StudyError("is no template of stain normalisation", template, remedy)
    return path


def read_template(path: str | os.PathLike[str], method: str) -> Tiles:
    """Reads a template.

    Args:
        path: The picture.
        method: `macenko` or `reinhard`.

    Returns:
        uint8 (height, width, 3).

    Raises:
        StudyError: It is no picture, or holds too little stain to be a template.
    """
    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"), np.uint8)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise StudyError(f"cannot be read as a picture ({error})", str(path), "give a PNG or JPEG of tissue") from None
    if not has_stains(pixels, method):
        what = "holds too little stain, or one stain only, to normalise to"
        raise StudyError(what, str(path), "give a picture that is mostly tissue, with both stains")
    return pixels


def has_stains(tile: Tiles, method: str) -> bool:
    """Whether a tile holds enough stain, and in more than one colour, for a method.

    Args:
        tile: uint8 (height, width, 3).
        method: `macenko` or `reinhard`.
    """
    pixels = tile.reshape(-1, 3)
    red, green, blue = (pixels <= BRIGHTEST_STAINED).T
    stained = pixels[red & green & blue if method == "macenko" else red | green | blue]
    if len(stained) < max(3, MIN_STAINED * len(pixels)):
        return False
    density = -np.log((stained.astype(np.float32) + 1) / 240)
    return bool(np.linalg.eigvalsh(np.cov(density.T))[1] >= MIN_SPREAD)


def mean_colour(tile: Tiles) -> NDArray[np.float64]:
    """A tile's mean colour in CIELAB (D65): L*, a*, b*.

    Args:
        tile: uint8 (height, width, 3), sRGB.
    """
    lab = cv2.cvtColor(tile.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return np.array(cv2.mean(lab)[:3])


class Normaliser:
    """Gives tiles the stain colours of a template.

    Args:
        method: `macenko` or `reinhard`.
        template: uint8 (height, width, 3).
        name: The template's name, for the recipe.
        max_shift: Change of a tile's mean colour above which it is flagged, Delta E (CIE 1976).
    """

    def __init__(self, method: str, template: Tiles, name: str, max_shift: float) -> None:
        self.max_shift = max_shift
        self._method = method
        self._normalise = _fitted(method, template)
        sha = hashlib.sha256(f"{template.shape}".encode() + template.tobytes())
        self.recipe: dict[str, Any] = {
            "method": method,
            "template": name,
            "template_digest": sha.hexdigest()[:16],
            "min_stained": MIN_STAINED,
            "min_spread": MIN_SPREAD,
            "torchstain": version("torchstain"),
        }
        """All that decides the colours. Not the bound of the flags, which changes no pixel."""

    def apply(self, tiles: Tiles) -> tuple[Tiles, NDArray[np.uint8]]:
        """Normalises tiles one by one; each by itself, so that a tile's result hangs on no other.

        Args:
            tiles: uint8 (n, size, size, 3); left as they are.

        Returns:
            The tiles, uint8 (n, size, size, 3), and what became of each, uint8 (n,), values of `Outcome`.
        """
        normalised = tiles.copy()
        outcome = np.full(len(tiles), Outcome.PASSED_THROUGH, np.uint8)
        for i, tile in enumerate(tiles):
            changed = self._normalised(tile)
            if changed is not None:
                shift = float(np.linalg.norm(mean_colour(changed) - mean_colour(tile)))
                normalised[i] = changed
                outcome[i] = Outcome.FLAGGED if shift > self.max_shift else Outcome.NORMALISED
        return normalised, outcome

    def _normalised(self, tile: Tiles) -> Tiles | None:
        """The tile in the template's colours; None where its stains cannot be told apart."""
        if not has_stains(tile, self._method):
            return None
        try:
            # A division by nothing would end as arbitrary bytes; it is an error here.
            with np.errstate(divide="raise", invalid="raise", over="raise"):
                return self._normalise(tile)
        except (FloatingPointError, np.linalg.LinAlgError):
            return None


def _fitted(method: str, template: Tiles) -> Callable[[Tiles], Tiles]:
    """Torchstain's normaliser of one tile, fitted to a template."""
    from torchstain.numpy.normalizers import NumpyMacenkoNormalizer, NumpyReinhardNormalizer

    if method == "macenko":
        macenko = NumpyMacenkoNormalizer()
        macenko.fit(template)
        return lambda tile: np.asarray(macenko.normalize(tile, stains=False)[0], np.uint8)
    reinhard = NumpyReinhardNormalizer()
    reinhard.fit(template)
    return lambda tile: np.asarray(reinhard.normalize(tile), np.uint8)


def build_normaliser(spec: Mapping[str, Any]) -> Normaliser | None:
    """Makes the normaliser of an encoder's entry.

    Args:
        spec: The entry's `normaliser`: `method` none, macenko or reinhard; `template` a name or an absolute path;
            `max_shift`, Delta E.

    Returns:
        The normaliser, fitted to its template; None for method none.

    Raises:
        StudyError: The template cannot be used.
    """
    if spec["method"] == "none":
        return None
    path = template_path(spec["template"])
    return Normaliser(
        spec["method"], read_template(path, spec["method"]), path.name.removesuffix(".png"), spec["max_shift"]
    )
