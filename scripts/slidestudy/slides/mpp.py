"""Deciding a slide's resolution in micrometres per pixel, and keeping the reasons of the decision."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from slidestudy.errors import Reason, SlideError

PLAUSIBLE = (0.05, 10.0)
"""Range of resolutions, um/px, outside which a value is taken for a mistake."""
MAX_ANISOTROPY = 0.02
"""Largest relative difference of x and y that is passed over in silence (our choice)."""


@dataclass(frozen=True)
class Mpp:
    """A slide's resolution at level 0.

    Attributes:
        value: The resolution used, um/px (the mean of x and y).
        x: Horizontal resolution, um/px.
        y: Vertical resolution, um/px.
        source: Where it comes from: `table` or `file`.
        warnings: What a reader of the record should know.
    """

    value: float
    x: float
    y: float
    source: str
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form that the inspection record keeps."""
        return asdict(self)


def _number(text: str | None) -> float | None:
    """A positive finite number, or None."""
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None


def _plausible(value: float) -> bool:
    return PLAUSIBLE[0] <= value <= PLAUSIBLE[1]


def decide_mpp(properties: Mapping[str, str], table_mpp: float | None, slide: str, tolerance: float = 0.05) -> Mpp:
    """Decides a slide's resolution: the table's value first, then the file's.

    Args:
        properties: OpenSlide's properties.
        table_mpp: The value in slides.tsv, um/px, or None.
        slide: The slide's id, for messages.
        tolerance: Relative difference between table and file above which a warning is kept.

    Raises:
        SlideError: `mpp_missing` or `mpp_implausible`.
    """
    x, y = _number(properties.get("openslide.mpp-x")), _number(properties.get("openslide.mpp-y"))
    remedy = "write its um/px into the column mpp of slides.tsv"
    if table_mpp is not None:
        if not _plausible(table_mpp):
            what = f"the table's mpp {table_mpp:g} lies outside {PLAUSIBLE[0]:g} to {PLAUSIBLE[1]:g} um/px"
            raise SlideError(Reason.MPP_IMPLAUSIBLE, what, slide, "correct the column mpp of slides.tsv")
        warnings = []
        if x is not None and y is not None and abs(table_mpp / ((x + y) / 2) - 1) > tolerance:
            warnings.append(f"the table's mpp {table_mpp:g} is used, though the file says {(x + y) / 2:.4g}")
        return Mpp(table_mpp, table_mpp, table_mpp, "table", warnings)
    if x is None or y is None:
        raise SlideError(Reason.MPP_MISSING, "neither the file nor the table says the resolution", slide, remedy)
    value = (x + y) / 2
    if not (_plausible(x) and _plausible(y)):
        said = f"{x:g}" if x == y else f"{x:g} (x), {y:g} (y)"
        what = f"the file's mpp {said} lies outside {PLAUSIBLE[0]:g} to {PLAUSIBLE[1]:g} um/px"
        raise SlideError(
            Reason.MPP_IMPLAUSIBLE, what, slide, f"where the file is wrong, {remedy}; an overview is of no use"
        )
    warnings = []
    if abs(x / y - 1) > MAX_ANISOTROPY:
        warnings.append(f"pixels are not square: mpp x {x:.4g}, y {y:.4g}; their mean is used")
    return Mpp(value, x, y, "file", warnings)
