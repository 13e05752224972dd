"""Deciding a slide's resolution in micrometres per pixel, and keeping the reasons of the decision."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from slidestudy.errors import Reason, SlideError

PLAUSIBLE = (0.05, 10.0)
"""Range of resolutions, um/px, outside which a value is taken for a mistake."""
MAX_ANISOTROPY = 0.02
"""Largest relative difference of x and y that is passed over in silence (our choice)."""
ABSURD_ANISOTROPY = 0.2
"""Relative difference of x and y above which one of them must be wrong (our choice)."""
UM_PER_UNIT = {"inch": 25_400.0, "centimeter": 10_000.0}
REMEDY = "write its um/px into the column mpp of slides.tsv"

_OME_UNIT = {"": 1.0, "µm": 1.0, "um": 1.0, "&#181;m": 1.0, "&#xB5;m": 1.0, "nm": 1e-3, "mm": 1e3}
_TEXT_MPP = re.compile(r"\bMPP\s*[=:]\s*([0-9.]+(?:[eE][-+]?[0-9]+)?)")


@dataclass(frozen=True)
class Candidate:
    """A resolution that a source names.

    Attributes:
        source: `table`, `vendor`, `tiff-tags` or `image-description`.
        x: Horizontal resolution, um/px.
        y: Vertical resolution, um/px.
    """

    source: str
    x: float
    y: float

    @property
    def value(self) -> float:
        """The mean of x and y, um/px."""
        return (self.x + self.y) / 2

    @property
    def plausible(self) -> bool:
        """Whether both directions lie in PLAUSIBLE."""
        return all(PLAUSIBLE[0] <= v <= PLAUSIBLE[1] for v in (self.x, self.y))

    @property
    def said(self) -> str:
        """The value for a message."""
        return f"{self.x:.4g}" if self.x == self.y else f"{self.x:.4g} (x), {self.y:.4g} (y)"


@dataclass(frozen=True)
class Mpp:
    """A slide's resolution at level 0.

    Attributes:
        value: The resolution used, um/px (the mean of x and y).
        x: Horizontal resolution, um/px.
        y: Vertical resolution, um/px.
        source: Where it comes from: `table`, `vendor`, `tiff-tags` or `image-description`.
        candidates: What each source says, the first in order of trust first.
        warnings: What a reader of the record should know, `code` and `message` each.
    """

    value: float
    x: float
    y: float
    source: str
    candidates: list[Candidate] = field(default_factory=list)
    warnings: list[dict[str, str]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form that the inspection record keeps."""
        return {key: value for key, value in asdict(self).items() if key != "warnings"}


def _number(text: str | None) -> float | None:
    """A positive finite number, or None."""
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None


def _pair(source: str, x: float | None, y: float | None) -> list[Candidate]:
    if x is None or y is None or not (math.isfinite(x) and math.isfinite(y)):
        return []
    return [Candidate(source, x, y)]


def _from_tags(properties: Mapping[str, str]) -> list[Candidate]:
    """The TIFF's resolution tags, which count pixels per inch or centimetre."""
    unit = UM_PER_UNIT.get(properties.get("tiff.ResolutionUnit", ""))
    x, y = (_number(properties.get(f"tiff.{axis}Resolution")) for axis in "XY")
    if unit is None or x is None or y is None:
        return []
    return _pair("tiff-tags", unit / x, unit / y)


def _from_description(properties: Mapping[str, str]) -> list[Candidate]:
    """OME-XML, ImageJ's note of its unit, or the words `MPP = 0.5` in the image description."""
    text = properties.get("tiff.ImageDescription") or properties.get("openslide.comment") or ""
    sizes = []
    for axis in "XY":
        size = _number(_attribute(text, f"PhysicalSize{axis}"))
        unit = _OME_UNIT.get(_attribute(text, f"PhysicalSize{axis}Unit") or "")
        sizes.append(size * unit if size is not None and unit is not None else None)
    if "<OME" in text and None not in sizes:
        return _pair("image-description", *sizes)
    if text.startswith("ImageJ=") and re.search(r"^unit=(micron|um|µm|\\u00B5m)\s*$", text, re.MULTILINE):
        # ImageJ writes pixels per unit into the tags, and the unit only here.
        x, y = (_number(properties.get(f"tiff.{axis}Resolution")) for axis in "XY")
        return _pair("image-description", 1 / x if x else None, 1 / y if y else None)
    found = _TEXT_MPP.search(text)
    value = _number(found[1]) if found else None
    return _pair("image-description", value, value)


def _attribute(text: str, name: str) -> str | None:
    """The first value of an XML attribute; the description may be cut, so that a parser would refuse it."""
    found = re.search(rf'\b{name}="([^"]*)"', text)
    return found[1] if found else None


def candidates(properties: Mapping[str, str], table_mpp: float | None) -> list[Candidate]:
    """What the sources say of a slide's resolution, in order of trust.

    Args:
        properties: What the file says of itself, under OpenSlide's names.
        table_mpp: The value in slides.tsv, um/px, or None.
    """
    found = [] if table_mpp is None else [Candidate("table", table_mpp, table_mpp)]
    if properties.get("openslide.vendor") != "generic-tiff":
        # Of a generic TIFF, OpenSlide's value is that of the resolution tags.
        found += _pair("vendor", *(_number(properties.get(f"openslide.mpp-{axis}")) for axis in "xy"))
    return found + _from_tags(properties) + _from_description(properties)


def decide_mpp(properties: Mapping[str, str], table_mpp: float | None, slide: str, tolerance: float = 0.05) -> Mpp:
    """Decides a slide's resolution: table, then vendor metadata, TIFF resolution tags, image description.

    Args:
        properties: What the file says of itself, under OpenSlide's names.
        table_mpp: The value in slides.tsv, um/px, or None.
        slide: The slide's id, for messages.
        tolerance: Relative difference between table and file above which a warning is kept.

    Raises:
        SlideError: `mpp_missing`, `mpp_implausible`, or `mpp_conflict` where x and y contradict each other.
    """
    bounds = f"{PLAUSIBLE[0]:g} to {PLAUSIBLE[1]:g} um/px"
    named = candidates(properties, table_mpp)
    if table_mpp is not None and not named[0].plausible:
        what = f"the table's mpp {table_mpp:g} lies outside {bounds}"
        raise SlideError(Reason.MPP_IMPLAUSIBLE, what, slide, "correct the column mpp of slides.tsv")
    if not named:
        raise SlideError(Reason.MPP_MISSING, "neither the file nor the table says the resolution", slide, REMEDY)
    chosen = next((c for c in named if c.plausible), None)
    if chosen is None:
        what = f"the file's mpp {named[0].said} ({named[0].source}) lies outside {bounds}"
        remedy = f"where the file is wrong, {REMEDY}; an overview is of no use"
        raise SlideError(Reason.MPP_IMPLAUSIBLE, what, slide, remedy)
    anisotropy = abs(chosen.x / chosen.y - 1)
    if anisotropy > ABSURD_ANISOTROPY:
        what = f"the file's mpp {chosen.said} ({chosen.source}) contradicts itself"
        raise SlideError(Reason.MPP_CONFLICT, what, slide, REMEDY)
    warnings = _warnings(named, chosen, anisotropy, tolerance)
    return Mpp(chosen.value, chosen.x, chosen.y, chosen.source, named, warnings)


def _warnings(named: list[Candidate], chosen: Candidate, anisotropy: float, tolerance: float) -> list[dict[str, str]]:
    """What a reader of the record should know of the decision."""
    warnings = []
    rest = [c for c in named if c is not chosen]
    for other in rest:
        if not other.plausible and named.index(other) < named.index(chosen):
            message = f"the mpp {other.said} ({other.source}) is implausible; {chosen.said} ({chosen.source}) is used"
            warnings.append({"code": str(Reason.MPP_IMPLAUSIBLE), "message": message})
    file = next((c for c in rest if c.plausible), None)
    if chosen.source == "table" and file is not None and abs(chosen.value / file.value - 1) > tolerance:
        message = f"the table's mpp {chosen.said} is used, though the file says {file.said} ({file.source})"
        warnings.append({"code": str(Reason.MPP_CONFLICT), "message": message})
    if anisotropy > MAX_ANISOTROPY:
        message = f"pixels are not square: mpp {chosen.said}; their mean is used"
        warnings.append({"code": str(Reason.MPP_CONFLICT), "message": message})
    return warnings
