"""Images and drawings as parts of the page: base64 thumbnails, and SVG that cannot clash with its neighbours."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from xml.etree import ElementTree

from markupsafe import Markup
from PIL import Image

from slidestudy.errors import StudyError

JPEG_QUALITY = 82
SVG = "{http://www.w3.org/2000/svg}"
XLINK_HREF = "{http://www.w3.org/1999/xlink}href"
DROPPED = {"script", "style", "foreignObject", "a"}
"""Elements left out: a style would act on the whole page, and the others have no place in a figure."""
_URL = re.compile(r"url\(#([^)]+)\)")


def data_uri(path: Path, side: int) -> str:
    """A picture as a JPEG data URI, made smaller where its longer side exceeds `side` px.

    Raises:
        StudyError: It is no picture.
    """
    try:
        with Image.open(path) as picture:
            small = picture.convert("RGB")
    except (OSError, SyntaxError) as error:
        raise StudyError(
            f"cannot be read as a picture ({error})", str(path), "remove it; it will be made anew"
        ) from None
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def inline_svg(text: str, prefix: str, label: str) -> Markup:
    """An SVG document as an element of the page.

    Ids that something refers to get a prefix, all others go: two figures of one page then share none. Name
    spaces, metadata and style sheets go too; what matplotlib's style sheet says moves to the root.

    Args:
        text: The document.
        prefix: Unique in the page.
        label: What the figure shows, for those who cannot see it.

    Raises:
        StudyError: It is no SVG.
    """
    try:
        source = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise StudyError(f"is no SVG ({error})", prefix, "remove the figure; it will be made anew") from None
    if source.tag != f"{SVG}svg":
        raise StudyError("is no SVG", prefix, "remove the figure; it will be made anew")
    root = _copy(source, prefix, _references(source))
    for name in ("version", "height"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", label)
    root.set("style", "stroke-linejoin:round;stroke-linecap:butt")
    # Only names and values that were escaped by the serialiser get here.
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _references(source: ElementTree.Element) -> set[str]:
    """All ids that something in the drawing refers to."""
    found: set[str] = set()
    for element in source.iter():
        for name, value in element.attrib.items():
            found.update(_URL.findall(value))
            if name in ("href", XLINK_HREF) and value.startswith("#"):
                found.add(value[1:])
    return found


def _copy(source: ElementTree.Element, prefix: str, referenced: set[str]) -> ElementTree.Element:
    """An element without name space, its ids prefixed, and all that it holds."""
    copy = ElementTree.Element(source.tag.removeprefix(SVG))
    copy.text, copy.tail = source.text, source.tail
    for name, value in source.attrib.items():
        if name == "id":
            if value in referenced:
                copy.set("id", f"{prefix}-{value}")
        elif name in ("href", XLINK_HREF):
            if value.startswith("#"):
                copy.set("href", f"#{prefix}-{value[1:]}")
            elif value.startswith("data:image/"):
                copy.set("href", value)
        elif not name.startswith("{") and not name.lower().startswith("on"):
            copy.set(name, _URL.sub(rf"url(#{prefix}-\1)", value))
    for child in source:
        known = isinstance(child.tag, str) and child.tag.startswith(SVG)
        if known and child.tag.removeprefix(SVG) not in {*DROPPED, "metadata"}:
            copy.append(_copy(child, prefix, referenced))
    return copy
