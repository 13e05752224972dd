"""Choosing how a file's pixels are read: chunk by chunk where that gives OpenSlide's pixels, else through OpenSlide."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slidestudy.errors import Reason, SlideError
from slidestudy.slides.levels import PixelSource
from slidestudy.slides.openslide_source import COPY_ANEW, OpenSlideSource, UnknownFormatError
from slidestudy.slides.picture_source import PictureSource
from slidestudy.slides.retrying import Retries
from slidestudy.slides.tiff_pages import ChunkTable, NotReadableError, chunk_table, open_tiff
from slidestudy.slides.tiff_source import TiffSource

TILED_VENDORS = {"aperio", "generic-tiff", "philips"}
"""Formats of plain tiled TIFF. Others lay tiles over each other or hold several scans, which OpenSlide unravels."""
COMPARED = 3
"""Chunks of each level whose pixels are compared with OpenSlide's before they are read directly."""
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PICTURE_MAGIC = (b"\x89PNG", b"\xff\xd8\xff")


def open_source(path: str | os.PathLike[str], slide_id: str, retries: Retries) -> tuple[PixelSource, str]:
    """Opens a slide in the fastest way that gives the right pixels.

    Args:
        path: The file.
        slide_id: The slide's id, for messages.
        retries: How often failed reads are tried again.

    Returns:
        The source, and why its chunks are not decoded directly (empty where they are).

    Raises:
        SlideError: It cannot be opened; or `not_brightfield`.
    """
    try:
        try:
            reference = OpenSlideSource(path, slide_id, retries)
        except UnknownFormatError as error:
            return _without_openslide(path, slide_id, str(error), retries), ""
        try:
            fast = _direct(path, reference, retries)
        except NotReadableError as why:
            return reference, str(why)
        reference.close()
        return fast, ""
    except OSError as error:
        what = f"cannot be opened ({error.strerror or error})"
        raise SlideError(Reason.UNREADABLE, what, slide_id, COPY_ANEW) from None


def _direct(path: str | os.PathLike[str], reference: OpenSlideSource, retries: Retries) -> TiffSource:
    """The same slide chunk by chunk.

    Raises:
        NotReadableError: That is not possible, or would give other pixels than OpenSlide.
    """
    if reference.vendor not in TILED_VENDORS:
        raise NotReadableError(f"format {reference.vendor}")
    with open_tiff(path) as tiff:
        pages = _pages(tiff)
        tables = [_table_of_size(pages, level.width, level.height) for level in reference.levels]
    downsamples = [level.downsample for level in reference.levels]
    source = TiffSource(
        path, reference.vendor, tables, downsamples, reference.properties, reference.icc_profile, retries
    )
    for level in range(len(source.levels)):
        if not _same_pixels(source, reference, level):
            source.close()
            raise NotReadableError(f"the chunks of level {level} differ from OpenSlide's pixels")
    return source


def _pages(tiff: Any) -> list[Any]:
    """All pages of the main chain."""
    try:
        return list(tiff.pages)
    except Exception as error:
        raise NotReadableError(f"its directories are damaged ({error})") from None


def _table_of_size(pages: Sequence[Any], width: int, height: int) -> ChunkTable:
    """The chunk table of the one tiled page of a size."""
    sized = [p for p in pages if (p.imagewidth, p.imagelength) == (width, height) and p.is_tiled]
    if len(sized) != 1:
        raise NotReadableError(f"{len(sized)} tiled pages of {width} x {height} px where one is needed")
    return chunk_table(sized[0])


def _same_pixels(source: TiffSource, reference: OpenSlideSource, number: int) -> bool:
    """Whether the chunks that hold most of a level are what OpenSlide reads; passes where neither decodes."""
    level, table = source.levels[number], source._tables[number]
    for index in np.argsort(-table.counts.sum(axis=0), kind="stable")[:COMPARED].tolist():
        (ours,) = source.chunks(number, [index])
        if ours.pixels is None:
            continue
        left, top = level.origin(index)
        # At lower levels OpenSlide interpolates unless the corner is a whole pixel of level 0 as well.
        if not all(float(edge * level.downsample).is_integer() for edge in (left, top)):
            continue
        width, height = min(level.chunk_width, level.width - left), min(level.chunk_height, level.height - top)
        theirs = reference._region(number, left, top, width, height)
        if theirs is None or theirs.pixels is None:
            continue
        if not np.array_equal(ours.pixels[:height, :width], theirs.pixels):
            return False
    return True


def _without_openslide(
    path: str | os.PathLike[str], slide_id: str, refusal: str, retries: Retries
) -> TiffSource | PictureSource:
    """A TIFF, PNG or JPEG that OpenSlide does not know."""
    with Path(path).open("rb") as stream:
        magic = stream.read(4)
    try:
        if magic in TIFF_MAGIC:
            return _flat_tiff(path, retries)
        if magic.startswith(PICTURE_MAGIC):
            return PictureSource(path)
    except NotReadableError as error:
        remedy = "convert it to a tiled pyramidal TIFF of 8-bit RGB pixels"
        raise SlideError(error.reason, str(error), slide_id, remedy) from None
    raise SlideError(Reason.UNREADABLE, refusal, slide_id, "convert it to a tiled pyramidal TIFF")


def _flat_tiff(path: str | os.PathLike[str], retries: Retries) -> TiffSource:
    """A flat or pyramidal TIFF; of several images the largest, which is never the label."""
    with open_tiff(path) as tiff:
        try:
            series = max(tiff.series, key=lambda s: s.keyframe.imagewidth * s.keyframe.imagelength)
            levels = list(series.levels)
            described = _describe(levels[0].keyframe)
            profile = levels[0].keyframe.iccprofile
            ome = bool(tiff.is_ome)
        except Exception as error:
            raise NotReadableError(f"its directories are damaged ({error})") from None
        tables = [chunk_table(levels[0].keyframe)]
        if len(levels[0].pages) != 1:
            what = f"it holds {len(levels[0].pages)} pictures of the same size, as focal planes or stains do"
            raise NotReadableError(what, Reason.NOT_BRIGHTFIELD)
        for level in levels[1:]:
            try:
                tables.append(chunk_table(level.keyframe))
            except NotReadableError:
                break  # a pyramid may be read down to the level that cannot be
    first = tables[0]
    downsamples = [(first.width / t.width + first.height / t.height) / 2 for t in tables]
    return TiffSource(path, "ome-tiff" if ome else "tiff", tables, downsamples, described, profile, retries)


def _describe(page: Any) -> dict[str, str]:
    """What a page says of itself, under OpenSlide's names."""
    found: dict[str, str] = {}
    for name in ("XResolution", "YResolution"):
        tag = page.tags.get(name)
        if tag is not None and tag.value[1]:
            found[f"tiff.{name}"] = repr(tag.value[0] / tag.value[1])
    unit = page.tags.get("ResolutionUnit")
    # The TIFF standard's default is the inch.
    found["tiff.ResolutionUnit"] = {1: "none", 2: "inch", 3: "centimeter"}.get(int(unit.value) if unit else 2, "none")
    for name in ("Make", "Model", "DateTime"):
        tag = page.tags.get(name)
        if tag is not None:
            found[f"tiff.{name}"] = str(tag.value)
    found["tiff.ImageDescription"] = str(page.description or "")
    return found
