"""A flat PNG or JPEG as a slide of one level, held in memory."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from slidestudy.errors import Reason
from slidestudy.slides.levels import RGB, Chunk, Level
from slidestudy.slides.openslide_source import on_white
from slidestudy.slides.retrying import failed_reading
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
        OSError: The file cannot be read.
    """

    kind = "picture"
    levels: Sequence[Level]
    reduced: Sequence[Level] = ()
    reductions: Mapping[int, int] = MappingProxyType({})
    icc_profile: bytes | None

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            with _open(path) as image:
                self._check(image)
                self.vendor = (image.format or "").lower()
                self.icc_profile = image.info.get("icc_profile")
                self._chunk = _decode(path, image)
        except UnidentifiedImageError:
            raise NotReadableError("no slide, TIFF, PNG or JPEG") from None
        except Image.DecompressionBombError:
            raise NotReadableError(f"a picture of {_too_large()}") from None
        except (OSError, SyntaxError, ValueError) as error:
            if failed_reading(error):
                raise
            raise NotReadableError(f"the picture cannot be decoded ({error})", damaged=True) from None
        assert self._chunk.pixels is not None
        height, width = self._chunk.pixels.shape[:2]
        self.levels = [Level(width, height, 1.0, width, height)]
        self.properties: Mapping[str, str] = {}

    @staticmethod
    def _check(image: Image.Image) -> None:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise NotReadableError(f"a picture of {width} x {height} px, {_too_large()}")
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


def _too_large() -> str:
    return f"more than {MAX_PIXELS // 1_000_000} megapixels: convert it to a tiled TIFF"


def _open(path: str | os.PathLike[str]) -> Image.Image:
    with warnings.catch_warnings():
        # Large pictures are refused here, or wanted.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(path, formats=FORMATS)


def _decode(path: str | os.PathLike[str], image: Image.Image) -> Chunk:
    if image.format == "JPEG":
        # Pillow's decoder fills damaged places with grey in silence.
        pixels: RGB = simplejpeg.decode_jpeg(Path(path).read_bytes(), "RGB", strict=True)
        return Chunk(pixels)
    if image.mode in ("RGBA", "PA") or "transparency" in image.info:
        return on_white(np.asarray(image.convert("RGBA")))
    return Chunk(np.asarray(image.convert("RGB")))
