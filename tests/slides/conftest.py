"""Small slides that the tests of this folder read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from slidestudy.demo.layout import plan_layout
from slidestudy.demo.scanner import SCANNER_A, Format, scan, write_slide
from slidestudy.demo.tissue import paint_tissue
from slidestudy.slides.reader import Slide
from tests import damage
from tests.slides.builders import RGB, TILED, openslides_level, write_abbreviated

FIELD_UM = (512, 384)


@pytest.fixture(scope="session")
def same_tissue(tmp_path_factory: pytest.TempPathFactory) -> dict[float, Path]:
    """One piece of tissue, scanned by the same optics at 0.5 and at 0.4 um/px: resolution -> slide."""
    folder = tmp_path_factory.mktemp("tissue")
    slides = {}
    for mpp, kind in ((0.5, Format.SVS), (0.4, Format.TIFF)):
        rng = np.random.default_rng(3)
        scanner = replace(SCANNER_A, mpp=mpp, format=kind, noise=0.0, jpeg_quality=95)
        maps = paint_tissue(rng, plan_layout(rng, FIELD_UM, 40.0, mucinous=False), mpp)
        slides[mpp] = folder / f"tissue{kind.value}"
        write_slide(slides[mpp], scan(rng, maps, scanner, (1.0, 1.0)), scanner)
    return slides


@pytest.fixture(scope="session")
def picture() -> npt.NDArray[np.uint8]:
    """Smooth colours, uint8 (700, 900, 3): no tile looks like another."""
    coarse = np.random.default_rng(0).integers(60, 256, (14, 18, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (900, 700), interpolation=cv2.INTER_CUBIC), np.uint8)


@pytest.fixture(scope="session")
def write_tiff() -> Callable[..., Path]:
    """Writes a picture as a tiled TIFF, lossless unless told otherwise."""

    def write(path: Path, image: npt.NDArray[np.uint8], mpp: float | None = 0.5, **options: object) -> Path:
        resolution = {} if mpp is None else {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
        settings = {"tile": (256, 256), "compression": "zlib", "photometric": "rgb", **resolution, **options}
        tifffile.imwrite(path, image, **{"metadata": None, "software": False, **settings})
        return path

    return write


@pytest.fixture(scope="session")
def textured(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The same with a grain, which shows every difference between decoders."""
    grain = np.random.default_rng(1).integers(0, 40, picture.shape, dtype=np.uint8)
    return np.asarray(cv2.subtract(picture, grain), np.uint8)


@pytest.fixture(scope="session")
def tiled(
    tmp_path_factory: pytest.TempPathFactory, textured: npt.NDArray[np.uint8], write_tiff: Callable[..., Path]
) -> dict[str, Path]:
    """The textured picture as tiled TIFF in every way that OpenSlide opens: name -> file."""
    folder = tmp_path_factory.mktemp("tiled")
    planes = np.ascontiguousarray(np.moveaxis(textured, 2, 0))
    made = {}
    for name, options in TILED.items():
        image = planes if options.get("planarconfig") == "separate" else textured
        made[name] = write_tiff(folder / f"{name}.tif", image, **options)
    for transform in (True, False):
        name = f"jpeg-shared-tables-{'ycbcr' if transform else 'rgb'}"
        made[name] = write_abbreviated(folder / f"{name}.tif", textured[:640, :896], 128, transform)
    return made


@pytest.fixture(scope="session")
def spoil_tile() -> Callable[[Path, int], Path]:
    """Overwrites one compressed tile of a TIFF's first page; the file keeps its length."""
    return damage.spoil_tile


@pytest.fixture(scope="module")
def svs(same_tissue: dict[float, Path]) -> Iterator[Slide]:
    with Slide(same_tissue[0.5], "s1") as slide:
        yield slide


@pytest.fixture(scope="module")
def plain(same_tissue: dict[float, Path]) -> RGB:
    """Level 0 of the same slide, read by OpenSlide at once."""
    return openslides_level(same_tissue[0.5])


@pytest.fixture(scope="module")
def opened(tiled: dict[str, Path]) -> Iterator[dict[str, tuple[Slide, RGB]]]:
    """Every kind of tiled file, open, with level 0 as OpenSlide reads it."""
    slides = {name: (Slide(path), openslides_level(path)) for name, path in tiled.items()}
    yield slides
    for slide, _ in slides.values():
        slide.close()
