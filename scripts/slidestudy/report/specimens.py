"""What the report says of slides, tissue masks and features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from slidestudy.report.collect import Record, Results, SlideKey
from slidestudy.report.inline import data_uri
from slidestudy.report.layout import Cell, Picture, Table, Value, count, make_table, number, plural, spread_evenly

THUMBNAIL_SIDE = 220
"""Longer side of an overlay's thumbnail, px."""
THUMBNAILS = 12
"""Thumbnails per cohort; more only where more slides have pen marks or warnings."""
MOST_FLAGGED = 24
"""Thumbnails of slides with pen marks or warnings per cohort, at most."""
UNTRAINED = "UNTRAINED"
"""The word in an encoder's weights text that must be seen wherever the encoder is named."""


def _distinct(values: Iterable[str]) -> list[str]:
    """Values once each, sorted."""
    return sorted(set(values))


def _tally(values: Iterable[str]) -> list[tuple[str, int]]:
    """Distinct values, sorted, with how often each stands."""
    return sorted(Counter(values).items())


def _of_cohort(records: dict[SlideKey, Record], cohort: str) -> dict[str, Record]:
    """Slide id -> record, of one cohort."""
    return {slide: record for (c, slide), record in records.items() if c == cohort}


def slide_table(results: Results) -> Table:
    """Formats, resolutions, tissue and pen, per cohort."""
    rows: list[Sequence[Value]] = []
    for cohort in results.settings["cohorts"]:
        inspected, tissues = _of_cohort(results.inspections, cohort), _of_cohort(results.tissues, cohort)
        mpps = [r["mpp"] for r in inspected.values() if r.get("mpp")]
        areas = [float(r["tissue_mm2"]) for r in tissues.values() if r.get("status") == "admitted"]
        pens = [r for r in tissues.values() if float(r.get("pen_mm2") or 0) > 0]
        warned = results.warnings.loc[results.warnings["cohort"] == cohort, "slide_id"].nunique()
        sources = [f"{plural(number_of, 'slide')} by {name}" for name, number_of in _tally(m["source"] for m in mpps)]
        rows.append([
            cohort,
            ", ".join(_distinct(str(r["vendor"]) for r in inspected.values() if r.get("vendor"))),
            Cell(_span([float(m["value"]) for m in mpps], 3), ", ".join(sources)) if mpps else None,
            Cell(number(median(areas), 2), f"{_span(areas, 2)}") if areas else None,
            len(pens),
            int(warned),
        ])  # fmt: skip
    columns = ["Cohort", "Vendors", "#Resolution, µm/px", "#Tissue, mm²", "#Slides with pen", "#Slides with warnings"]
    caption = (
        "Slides. Resolution at level 0, range and where it comes from; tissue area per slide with tissue, median and "
        "range."
    )
    return make_table(caption, columns, rows)


def _span(values: list[float], decimals: int) -> str:
    """The range of some values, or the one value that they share."""
    low, high = number(min(values), decimals), number(max(values), decimals)
    # A dash between a minus and a minus would be read as one of them.
    between = " to " if min(values) < 0 else "–"
    return low if low == high else f"{low}{between}{high}"


def warning_table(results: Results) -> Table:
    """Everything about slides that someone should look at."""
    keys = ("cohort", "slide_id", "stage", "code", "message")
    rows = [[str(row[key]) for key in keys] for row in results.warnings.to_dict("records")]
    caption = "Warnings of inspection and tissue masks; these slides stay in the study."
    return make_table(caption, ["Cohort", "Slide", "Stage", "Code", "Warning"], rows)


def quality_table(results: Results) -> Table:
    """Median and range of the quality scores, per cohort."""
    measures = (
        ("brightness", "#Brightness", 0, 1), ("stain_density", "#Stain density", 2, 1),
        ("haematoxylin", "#Haematoxylin", 2, 1), ("eosin", "#Eosin", 2, 1), ("pen_fraction", "#Pen, %", 1, 100),
        ("focus", "#Focus", 2, 1), ("blurred_fraction", "#Blurred windows, %", 0, 100),
    )  # fmt: skip
    rows: list[Sequence[Value]] = []
    for cohort in results.settings["cohorts"]:
        table = results.quality[results.quality["cohort"] == cohort]
        row: list[Value] = [cohort, len(table)]
        for name, _, decimals, factor in measures:
            values = (table[name].dropna().astype(float) * factor).tolist()
            row.append(Cell(number(median(values), decimals), _span(values, decimals)) if values else None)
        rows.append(row)
    caption = (
        "Quality of the tissue, median and range over slides. Brightness 0 to 255; stain density is the mean optical "
        "density, haematoxylin and eosin their parts by colour deconvolution; focus is the logarithm of the sharpness "
        "of windows of tissue, higher is sharper. All slides one by one: slides/quality.tsv."
    )
    return make_table(caption, ["Cohort", "#Slides", *[title for _, title, _, _ in measures]], rows)


def overlays(results: Results, cohort: str) -> tuple[list[Picture], str]:
    """Thumbnails of a cohort's masks, spread evenly, with every slide that has pen marks or warnings.

    Returns:
        The pictures, and how they were chosen.
    """
    folder = results.folder / "tissue" / cohort
    tissues = _of_cohort(results.tissues, cohort)
    slides = [slide for slide in tissues if (folder / f"{slide}.jpg").is_file()]
    of_cohort = results.warnings[results.warnings["cohort"] == cohort]
    codes = {str(slide): sorted(set(rows["code"])) for slide, rows in of_cohort.groupby("slide_id")}
    flags = {slide: _flag(tissues[slide], codes.get(slide, [])) for slide in slides}
    flagged = [slide for slide in slides if flags[slide]]
    others = [slide for slide in slides if not flags[slide]]
    shown = {flagged[i] for i in spread_evenly(len(flagged), MOST_FLAGGED)}
    shown |= {others[i] for i in spread_evenly(len(others), max(0, THUMBNAILS - len(shown)))}
    pictures = [
        Picture(
            data_uri(folder / f"{slide}.jpg", THUMBNAIL_SIDE),
            f"Overview of slide {slide} with the outlines of tissue and pen marks",
            slide,
            _overlay_lines(tissues[slide]),
            flags[slide],
        )
        for slide in slides
        if slide in shown
    ]
    note = f"{len(pictures)} of {plural(len(slides), 'slide')} with a mask"
    if not flagged:
        return pictures, note
    most = len(flagged) > MOST_FLAGGED
    which = f"{MOST_FLAGGED} of the {count(len(flagged))} slides" if most else f"every slide ({len(flagged)})"
    return pictures, f"{note}, among them {which} excluded or with pen marks or warnings"


def _flag(tissue: Record, warnings: Sequence[str]) -> str:
    """What must be seen of a slide."""
    flags = ["excluded"] if tissue.get("status") == "excluded" else []
    flags += ["pen"] if float(tissue.get("pen_mm2") or 0) > 0 else []
    flags += [code.replace("_", " ") for code in warnings if code != "pen"]
    return ", ".join(flags)


def _overlay_lines(tissue: Record) -> tuple[str, ...]:
    """The caption below a slide's thumbnail."""
    lines = [f"tissue {number(float(tissue['tissue_mm2']), 2)} mm²"]
    if tissue.get("sections") is not None:
        lines.append(plural(int(tissue["sections"]), "section"))
    if float(tissue.get("pen_mm2") or 0) > 0:
        lines.append(f"pen {number(float(tissue['pen_mm2']), 2)} mm²")
    return tuple(lines)


def is_untrained(results: Results, encoder: str) -> bool:
    """Whether an encoder has random weights, by its stores or, before there are any, by the settings."""
    stores = results.stores.get(encoder, {}).values()
    said = any(UNTRAINED in str(s["encoder"].get("weights")) for s in stores)
    spec = results.settings["encoders"].get(encoder, {})
    return said or (spec.get("backend") == "timm" and spec.get("weights") == "none")


def encoder_cell(results: Results, encoder: str, note: str = "") -> Cell:
    """An encoder's name, flagged where its weights are untrained."""
    return Cell(encoder, note, UNTRAINED if is_untrained(results, encoder) else "")


def identity_values(results: Results, encoder: str, key: str) -> list[str]:
    """What the stores say of an encoder under a key; more than one value where they differ."""
    stores = results.stores.get(encoder, {}).values()
    return _distinct(str(s["encoder"][key]) for s in stores if s["encoder"].get(key) not in (None, ""))


def recipes(results: Results, encoder: str) -> list[str]:
    """The recipes of an encoder's stores; one, unless something is wrong."""
    return _distinct(str(s["recipe"]) for s in results.stores.get(encoder, {}).values())


def encoder_table(results: Results) -> Table:
    """What the encoders are."""
    rows: list[Sequence[Value]] = []
    for encoder in results.settings["encoders"]:
        rows.append([
            encoder_cell(results, encoder),
            ", ".join(identity_values(results, encoder, "backend")),
            ", ".join(identity_values(results, encoder, "architecture")),
            ", ".join(identity_values(results, encoder, "weights")),
            ", ".join(identity_values(results, encoder, "dim")),
            _one(recipes(results, encoder), "recipes differ"),
        ])  # fmt: skip
    columns = ["Encoder", "Backend", "Architecture", "Weights", "#Dimension", "Recipe"]
    caption = (
        "Encoders, as the feature stores describe them. The recipe is a digest of encoder, weights, tiles and "
        "normaliser: features of equal recipes can be compared."
    )
    return make_table(caption, columns, rows)


def _one(values: list[str], otherwise: str) -> Cell | None:
    """The one value, or all of them with a warning."""
    if not values:
        return None
    return Cell(", ".join(values), flag=otherwise if len(values) > 1 else "")


def _total(stores: list[dict[str, Any]], key: str) -> int | None:
    """The sum of a count over stores; None where none has it."""
    counts = [int(store[key]) for store in stores if key in store]
    return sum(counts) if counts else None


def _per_slide(tiles: list[int]) -> Cell | None:
    """Median and range of the tiles of a slide."""
    if not tiles:
        return None
    middle = float(median(tiles))
    return Cell(number(middle, 0 if middle.is_integer() else 1), _span([float(n) for n in tiles], 0))


def tile_table(results: Results) -> Table:
    """Tiles per encoder and cohort."""
    rows: list[Sequence[Value]] = []
    normalised = any("n_flagged" in store for stores in results.stores.values() for store in stores.values())
    cohorts = [name for name, spec in results.settings["cohorts"].items() if spec["role"] != "pretraining"]
    for encoder, stores in results.stores.items():
        for cohort in cohorts:
            all_stores = list(_of_cohort(stores, cohort).values())
            used: list[dict[str, Any]] = [s for s in all_stores if s["status"] == "admitted"]
            tiles = [int(s["n_tiles"]) for s in used]
            unreadable = [int(s["n_unreadable"]) for s in all_stores if s.get("n_unreadable") is not None]
            rows.append([
                encoder_cell(results, encoder),
                cohort,
                len(used),
                sum(tiles),
                _per_slide(tiles),
                sum(unreadable) if unreadable else None,
                *([_total(used, "n_unnormalised"), _total(used, "n_flagged")] if normalised else []),
            ])  # fmt: skip
    columns = ["Encoder", "Cohort", "#Slides", "#Tiles", "#Tiles per slide", "#Unreadable tiles"]
    columns += ["#Not normalised", "#Colours moved far"] if normalised else []
    tiles = results.settings["tiles"]
    side = float(tiles["size"]) * float(tiles["mpp"])
    caption = (
        f"Tiles of {tiles['size']} px at {tiles['mpp']:g} µm/px ({side:g} µm); per slide, median and range. Unreadable "
        "tiles could not be decoded: they have no features and are not used."
    )
    if normalised:
        caption += (
            " Blank and degenerate tiles are not normalised; colours moved far where the normalisation changed the "
            "mean colour by more than the bound."
        )
    return make_table(caption, columns, rows)
