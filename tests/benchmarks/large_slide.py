"""A large slide of JPEG chunks with the texture of tissue."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import openslide
import simplejpeg
import tifffile
from numpy.typing import NDArray

from tests.conftest import SHARED

CHUNK, QUALITY, STEP = 256, 80, 4


def tissue() -> NDArray[np.uint8]:
    """Real tissue where there is some beside the repository, else colours with a grain; the sides are whole chunks."""
    path = SHARED / "slides" / "cmu-1-small-region.svs"
    if path.is_file():
        with openslide.OpenSlide(path) as slide:
            return np.asarray(slide.read_region((0, 0), 0, (2048, 2816)).convert("RGB"))
    rng = np.random.default_rng(0)
    coarse = cv2.resize(rng.integers(60, 240, (88, 64, 3)).astype(np.uint8), (2048, 2816))
    return np.asarray(cv2.add(coarse, rng.integers(0, 24, (2816, 2048, 3)).astype(np.uint8)), np.uint8)


def write_large_slide(path: Path, width: int, height: int) -> Path:
    """Writes a pyramid of downsamples 1 and 4 as a generic TIFF, its chunks encoded as 4:2:0.

    Args:
        path: The file.
        width: Width of level 0, px: a multiple of 1024.
        height: Height of level 0, px: a multiple of 1024.
    """
    image = tissue()
    with tifffile.TiffWriter(path) as file:
        for downsample in (1, STEP):
            # The smaller level repeats at another period: its content is not compared.
            file.write(
                _chunks(image, width // downsample, height // downsample),
                shape=(height // downsample, width // downsample, 3),
                dtype=np.uint8,
                tile=(CHUNK, CHUNK),
                compression="jpeg",
                photometric="ycbcr",
                subsampling=(2, 2),
                subfiletype=1 if downsample > 1 else 0,
                resolution=(20_000 / downsample, 20_000 / downsample),
                resolutionunit="CENTIMETER",
                metadata=None,
            )
            image = np.ascontiguousarray(
                cv2.resize(image, None, fx=1 / STEP, fy=1 / STEP, interpolation=cv2.INTER_AREA)
            )
            image = image[: image.shape[0] // CHUNK * CHUNK, : image.shape[1] // CHUNK * CHUNK]
    return path


def _chunks(image: NDArray[np.uint8], width: int, height: int) -> Iterator[bytes]:
    """The encoded chunks of a field that repeats an image."""
    rows, columns = image.shape[0] // CHUNK, image.shape[1] // CHUNK
    encoded = [
        simplejpeg.encode_jpeg(
            np.ascontiguousarray(image[y * CHUNK : (y + 1) * CHUNK, x * CHUNK : (x + 1) * CHUNK]), QUALITY, "RGB", "420"
        )
        for y in range(rows)
        for x in range(columns)
    ]
    for row in range(height // CHUNK):
        for column in range(width // CHUNK):
            yield encoded[row % rows * columns + column % columns]
