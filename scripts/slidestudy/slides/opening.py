"""Choosing how a file's pixels are read: chunk by chunk where that gives OpenSlide's pixels, else through OpenSlide."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum, auto
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slidestudy.errors import Reason, SlideError
from slidestudy.slides.levels import Flaw, PixelSource
from slidestudy.slides.openslide_source import COPY_ANEW, OpenSlideSource, UnknownFormatError, same_shape
from slidestudy.slides.picture_source import PictureSource
from slidestudy.slides.retrying import Retries, failed_reading
from slidestudy.slides.tiff_pages import ChunkTable, NotReadableError, chunk_table, open_tiff
from slidestudy.slides.tiff_source import TiffSource

TILED_VENDORS = {"aperio", "generic-tiff", "philips"}
"""Formats of plain tiled TIFF. Others lay tiles over each other or hold several scans, which OpenSlide unravels."""
COMPARED = 3
"""Chunks of each level whose pixels are compared with OpenSlide's before they are read directly."""
TRIED = 12
"""Chunks that are looked at for these, where some cannot be decoded."""
CONVERT = "convert it to a tiled pyramidal TIFF of 8-bit RGB pixels"
SEVERAL = "it holds {} pictures of the same size, as focal planes or stains do"
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
        return _open(path, slide_id, retries)
    except NotReadableError as error:
        raise SlideError(error.reason, str(error), slide_id, COPY_ANEW if error.damaged else CONVERT) from None
    except OSError as error:
        what = f"cannot be opened ({error.strerror or error})"
        raise SlideError(Reason.UNREADABLE, what, slide_id, COPY_ANEW) from None


def _open(path: str | os.PathLike[str], slide_id: str, retries: Retries) -> tuple[PixelSource, str]:
    try:
        reference = OpenSlideSource(path, slide_id, retries)
    except UnknownFormatError as error:
        return _without_openslide(path, str(error), retries), ""
    try:
        fast = _direct(path, reference, retries)
    except NotReadableError as why:
        if why.damaged or why.reason is Reason.NOT_BRIGHTFIELD:
            reference.close()
            raise
        return reference, str(why)
    except BaseException:
        reference.close()
        raise
    reference.close()
    return fast, ""


def _direct(path: str | os.PathLike[str], reference: OpenSlideSource, retries: Retries) -> TiffSource:
    """The same slide chunk by chunk.

    Raises:
        NotReadableError: That is not possible, or would give other pixels than OpenSlide.
        OSError: The file cannot be read.
    """
    if reference.vendor not in TILED_VENDORS:
        raise NotReadableError(f"format {reference.vendor}")
    tables = retries.call(partial(_tables, path, reference))
    downsamples = [level.downsample for level in reference.levels]
    downsamples += [_downsample(tables[0], table) for table in tables[len(downsamples) :]]
    source = TiffSource(
        path, reference.vendor, tables, downsamples, reference.properties, reference.icc_profile, retries
    )
    try:
        _compare(source, reference)
    except BaseException:
        source.close()
        raise
    return source


def _tables(path: str | os.PathLike[str], reference: OpenSlideSource) -> list[ChunkTable]:
    """The chunk tables of OpenSlide's levels, and of those that it does not know."""
    with open_tiff(path) as tiff:
        pages = _pages(tiff)
        tables = [_table_of_size(pages, level.width, level.height) for level in reference.levels]
        # Aperio's zero-length chunks are drawn from other levels, and what lies over them in the smaller ones is not.
        if reference.vendor == "aperio" and len(tables) > 1 and any((table.counts == 0).any() for table in tables):
            raise NotReadableError("chunks are left out")
        if reference.vendor == "generic-tiff" and len(tables) == 1:
            # Smaller levels that hang below the page, as in OME-TIFF.
            page = next(p for p in pages if (p.imagewidth, p.imagelength) == (tables[0].width, tables[0].height))
            tables += _smaller_levels(tables[0], _pages_below(page))
    return tables


def _pages_below(page: Any) -> Iterator[Any]:
    """The pages that hang below a page."""
    yield from page.pages or ()


def _smaller_levels(full: ChunkTable, pages: Iterable[Any]) -> list[ChunkTable]:
    """The chunk tables of smaller copies of a page, down to the first that cannot be read."""
    tables: list[ChunkTable] = []
    try:
        for page in pages:
            table, last = chunk_table(page), [full, *tables][-1]
            if table.width >= last.width or not same_shape(full, table):
                break
            tables.append(table)
    except NotReadableError:
        pass
    except Exception as error:
        # On damaged directories tifffile fails in many ways.
        if failed_reading(error):
            raise
    return tables


def _downsample(full: ChunkTable, table: ChunkTable) -> float:
    """Pixels of a page per pixel of its smaller copy."""
    return (full.width / table.width + full.height / table.height) / 2


def _pages(tiff: Any) -> list[Any]:
    """All pages of the main chain."""
    try:
        return list(tiff.pages)
    except Exception as error:
        if failed_reading(error):
            raise
        raise NotReadableError(f"its directories are damaged ({error})") from None


def _table_of_size(pages: Sequence[Any], width: int, height: int) -> ChunkTable:
    """The chunk table of the one tiled page of a size."""
    sized = [p for p in pages if (p.imagewidth, p.imagelength) == (width, height) and p.is_tiled]
    if len(sized) > 1:
        raise NotReadableError(SEVERAL.format(len(sized)), Reason.NOT_BRIGHTFIELD)
    if not sized:
        raise NotReadableError(f"no tiled page of {width} x {height} px")
    return chunk_table(sized[0])


def _compare(source: TiffSource, reference: OpenSlideSource) -> None:
    """Compares the chunks that hold most of each level with what OpenSlide reads.

    Raises:
        NotReadableError: They differ, or no chunk can be decoded that OpenSlide decodes. Where only some cannot,
            that is damage, which OpenSlide may fill with grey.
    """
    found: Counter[_Comparison] = Counter()
    for number in range(len(reference.levels)):
        same = 0
        for index in _comparable(source, number)[:TRIED].tolist():
            comparison = _compare_chunk(source, reference, number, index)
            found[comparison] += 1
            if comparison is _Comparison.DIFFERENT:
                raise NotReadableError(f"the chunks of level {number} differ from OpenSlide's pixels")
            same += comparison is _Comparison.SAME
            if same == COMPARED:
                break
    if found[_Comparison.OPENSLIDE_ONLY] and not found[_Comparison.SAME]:
        raise NotReadableError("its chunks can be decoded by OpenSlide only")


class _Comparison(Enum):
    """How a chunk compares with OpenSlide's pixels."""

    SAME = auto()
    DIFFERENT = auto()
    OPENSLIDE_ONLY = auto()
    NEITHER = auto()


def _comparable(source: TiffSource, number: int) -> NDArray[np.intp]:
    """The chunks of a level whose pixels OpenSlide gives without interpolating, those that hold most first."""
    level, table = source.levels[number], source.tables[number]
    rows, columns = np.divmod(np.arange(table.counts.shape[1]), level.columns)
    # At lower levels the corner must be a whole pixel of level 0 as well.
    left, top = columns * level.chunk_width * level.downsample, rows * level.chunk_height * level.downsample
    order = np.argsort(-table.counts.sum(axis=0), kind="stable")
    return order[((left % 1 == 0) & (top % 1 == 0))[order]]


def _compare_chunk(source: TiffSource, reference: OpenSlideSource, number: int, index: int) -> _Comparison:
    level = source.levels[number]
    left, top = level.origin(index)
    width, height = min(level.chunk_width, level.width - left), min(level.chunk_height, level.height - top)
    (ours,), theirs = source.chunks(number, [index]), reference.region(number, left, top, width, height)
    if theirs is None or theirs.pixels is None or ours.flaws is Flaw.ABSENT:
        return _Comparison.NEITHER
    if ours.pixels is None:
        return _Comparison.OPENSLIDE_ONLY
    same = np.array_equal(ours.pixels[:height, :width], theirs.pixels)
    return _Comparison.SAME if same else _Comparison.DIFFERENT


def _without_openslide(path: str | os.PathLike[str], refusal: str, retries: Retries) -> TiffSource | PictureSource:
    """A TIFF, PNG or JPEG that OpenSlide does not know."""
    magic = retries.call(partial(_first_bytes, path))
    if magic in TIFF_MAGIC:
        return _flat_tiff(path, retries)
    if magic.startswith(PICTURE_MAGIC):
        return retries.call(partial(PictureSource, path))
    raise NotReadableError(refusal)


def _first_bytes(path: str | os.PathLike[str]) -> bytes:
    with Path(path).open("rb") as stream:
        return stream.read(4)


def _flat_tiff(path: str | os.PathLike[str], retries: Retries) -> TiffSource:
    """A flat or pyramidal TIFF; of several images the largest, which is never the label."""
    vendor, tables, described, profile = retries.call(partial(_flat_tables, path))
    downsamples = [_downsample(tables[0], table) for table in tables]
    return TiffSource(path, vendor, tables, downsamples, described, profile, retries)


def _flat_tables(path: str | os.PathLike[str]) -> tuple[str, list[ChunkTable], dict[str, str], bytes | None]:
    """Format, chunk tables, description and ICC profile of the largest image of a TIFF."""
    with open_tiff(path) as tiff:
        try:
            series = max(tiff.series, key=lambda s: s.keyframe.imagewidth * s.keyframe.imagelength)
            levels = list(series.levels)
            first = levels[0].keyframe
            described, profile = _describe(first), first.iccprofile
            vendor = "ome-tiff" if tiff.is_ome else "tiff"
            pages = len(levels[0].pages)
        except Exception as error:
            if failed_reading(error):
                raise
            raise NotReadableError(f"its directories are damaged ({error})") from None
        table = chunk_table(first)
        if pages != 1:
            raise NotReadableError(SEVERAL.format(pages), Reason.NOT_BRIGHTFIELD)
        return vendor, [table, *_smaller_levels(table, (level.keyframe for level in levels[1:]))], described, profile


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
