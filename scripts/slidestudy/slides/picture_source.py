"""A flat PNG or JPEG as a slide of one level, held in memory."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from PIL import Image, UnidentifiedImageError

from slidestudy.errors import Reason
from slidestudy.slides.levels import Chunk, Level
from slidestudy.slides.openslide_source import on_white
from slidestudy.slides.tiff_pages import NotReadableError

MAX_PIXELS = 80_000_000
"""Larger pictures would need more memory than a slide may take; as tiled TIFF they need little."""
FORMATS = ("PNG", "JPEG")


class PictureSource:
    """A PNG or JPEG.

    Args:
        path: The file.

    Raises:
        NotReadableError: It is none of these, too large, not RGB, or damaged.
    """

    kind = "picture"
    levels: Sequence[Level]
    reduced: Sequence[Level] = ()
    reductions: Mapping[int, int] = MappingProxyType({})
    icc_profile: bytes | None

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            with Image.open(path, formats=FORMATS) as image:
                self._check(image)
                self.vendor = (image.format or "").lower()
                self.icc_profile = image.info.get("icc_profile")
                rgba = image.mode in ("RGBA", "PA") or "transparency" in image.info
                pixels = np.asarray(image.convert("RGBA" if rgba else "RGB"))
        except UnidentifiedImageError:
            raise NotReadableError("no slide, TIFF, PNG or JPEG") from None
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise NotReadableError(f"the picture cannot be decoded ({error})") from None
        self._chunk = on_white(pixels) if rgba else Chunk(pixels)
        height, width = pixels.shape[:2]
        self.levels = [Level(width, height, 1.0, width, height)]
        self.properties: Mapping[str, str] = {}

    @staticmethod
    def _check(image: Image.Image) -> None:
        width, height = image.size
        if width * height > MAX_PIXELS:
            limit = f"{MAX_PIXELS // 1_000_000} megapixels"
            raise NotReadableError(f"a picture of {width} x {height} px, more than {limit}: convert it to a tiled TIFF")
        if image.mode not in ("RGB", "RGBA", "P", "PA"):
            what = f"a picture of mode {image.mode}; those of bright-field slides are RGB"
            raise NotReadableError(what, Reason.NOT_BRIGHTFIELD)

    def chunks(self, level: int, indices: Sequence[int]) -> list[Chunk]:
        """The whole picture, which is the only chunk."""
        return [self._chunk for _ in indices]

    def beyond_end(self) -> tuple[int, int]:
        """None: a picture is decoded whole when it is opened."""
        return 0, 0

    def close(self) -> None:
        """Nothing is left open."""
